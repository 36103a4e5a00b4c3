"""What ``evaluator_config`` may say to the ecg evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from ecg_mlflow.errors import PredictionsError


@dataclass(frozen=True)
class TableSettings:
    """How a table is to be read and resampled.

    Attributes
    ----------
    positive
        The class that F1, sensitivity and the curves are of; needed unless labels are 0 and 1.
    probabilities
        Columns of the classes' probabilities by class, or the one of the positive class; by default
        all columns ``p_<class>``.
    classes
        Classes in the order of the columns, where a model answers with an array.
    record, patient
        Columns that name the record, and whose it is; by default ``record`` and ``patient`` where
        there are such.
    threshold
        A record counts as positive from this probability on; by default what the labels in the
        column of predictions tell of, else the most probable class counts.
    resamples, level, seed
        Of the bootstrap's intervals.
    metric_prefix
        Beginning of the names of metrics and artifacts.
    """

    positive: Any = None
    probabilities: Mapping[Any, str] | str | None = None
    classes: Sequence[Any] | None = None
    record: str | None = None
    patient: str | None = None
    threshold: float | None = None
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0
    metric_prefix: str = ""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read a configuration.

        Raises
        ------
        PredictionsError
            If it says something else, or what can't be.
        """
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in config if name not in known]:
            raise PredictionsError(
                f"evaluator_config has {', '.join(map(repr, unknown))}; the ecg evaluator knows "
                f"{', '.join(known)}"
            )
        found = cls(**config)
        if found.threshold is not None and not 0 <= found.threshold <= 1:
            raise PredictionsError(f"threshold={found.threshold} is no probability")
        if not 0 < found.level < 1 or found.resamples < 1:
            raise PredictionsError(
                f"level={found.level}, resamples={found.resamples}: a confidence lies between 0 "
                "and 1, and there is at least one resample"
            )
        return found
