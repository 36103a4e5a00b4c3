"""Evaluation: every record is scored exactly once, from the mean over its windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import DivergedError
from ecg_mlflow.pipeline import Batch
from ecg_mlflow.pipeline.batches import Floats, predict_chunks, record_means
from ecg_mlflow.stats.metrics import metrics_of
from ecg_mlflow.stats.scores import ScoredRecords, Targets, objective_of
from ecg_mlflow.training.loop import DIVERGED_ADVICE


@dataclass(frozen=True)
class Evaluation(ScoredRecords):
    """Record-level predictions of one evaluation, and what follows from them.

    Attributes
    ----------
    rows
        ``(n_records,)`` positions in the corpus.
    targets, classes, positive
        See `ScoredRecords`.
    probabilities
        ``(n_records, n_classes)``: mean over the record's windows.
    counts
        ``(n_records,)`` number of windows.
    """

    rows: npt.NDArray[np.int64]
    targets: Targets
    probabilities: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    positive: str

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All metrics, by name."""
        return metrics_of(self)

    @property
    def objective(self) -> float:
        """The metric that decides which model is best, see `objective_of`; 0 if it is undefined."""
        return self.metrics.get(objective_of(self.is_multilabel), 0.0)


def evaluate(
    predict: Callable[[Floats], Floats],
    batches: Iterable[Batch],
    classes: tuple[str, ...],
    positive: str,
    on_progress: Callable[[], None] = lambda: None,
    *,
    multilabel: bool = False,
) -> Evaluation:
    """Score every record of `batches` once.

    Parameters
    ----------
    predict
        Windows ``(n, length, n_leads)`` to class probabilities ``(n, n_classes)``.
    batches
        One epoch of the records to score.
    classes, positive
        Names of the classes, and the one that F1 is of.
    on_progress
        Called after each batch; what it raises ends the evaluation.
    multilabel
        Whether a record may be of several classes.

    Raises
    ------
    DivergedError
        If the model returns NaN: the update after the last finite loss may have broken it.
    """
    seen: list[Batch] = []  # without their windows

    def windows() -> Iterator[Floats]:
        for batch in batches:
            seen.append(replace(batch, windows=batch.windows[:0]))
            yield batch.windows
            on_progress()

    probabilities = np.concatenate([*predict_chunks(predict, windows())])
    counts = np.concatenate([batch.counts for batch in seen])
    if not np.isfinite(probabilities).all():
        n_bad = int((~np.isfinite(probabilities).all(axis=1)).sum())
        raise DivergedError(
            f"the model returned NaN for {n_bad} of {len(probabilities)} windows of the "
            f"evaluation: its weights have diverged; {DIVERGED_ADVICE}"
        )
    first = np.cumsum(counts) - counts
    targets = np.concatenate([batch.targets for batch in seen])[first]
    return Evaluation(
        np.concatenate([batch.rows for batch in seen]),
        targets > 0 if multilabel else targets.argmax(axis=1),
        record_means(probabilities, counts),
        counts,
        classes,
        positive,
    )
