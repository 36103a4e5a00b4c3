"""One model's predictions of labelled records: the one form in which all comparisons take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.records.label_sets import split_label
from ecg_mlflow.stats.metrics import metrics_of
from ecg_mlflow.stats.scores import ScoredRecords, Targets

#: Column of a table of predictions that holds a class's probability.
PROBABILITY = "p_{}"


@dataclass(frozen=True, eq=False)
class Predictions(ScoredRecords):
    """Record-level predictions of one model.

    Attributes
    ----------
    records
        Names of the records.
    targets, probabilities, classes, positive, threshold
        See `ScoredRecords`.
    groups
        ``(n_records,)`` int64: records of one group, such as a patient's, are not independent and
        are drawn together; None where each record stands for itself.

    Raises
    ------
    PredictionsError
        If the shapes don't agree, `positive` is no class, or a probability is NaN or infinite.
    """

    records: tuple[str, ...]
    targets: Targets
    probabilities: npt.NDArray[np.float64]
    classes: tuple[str, ...]
    positive: str
    threshold: float | None = None
    groups: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n, k = len(self.records), len(self.classes)
        wanted = (n, k) if self.is_multilabel else (n,)
        if self.targets.shape != wanted or self.probabilities.shape != (n, k) or n == 0:
            raise PredictionsError(
                f"{n} records and {k} classes need targets {wanted} and probabilities {(n, k)}, at "
                f"least one record; given are {self.targets.shape} and {self.probabilities.shape}"
            )
        if self.positive not in self.classes:
            raise PredictionsError(f"{self.positive!r} is none of the classes {self.classes}")
        if not np.isfinite(self.probabilities).all():
            bad = self.records[int(np.argmin(np.isfinite(self.probabilities).all(axis=1)))]
            raise PredictionsError(f"record {bad} has a probability that is NaN or infinite")

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Sequence[Any]],
        positive: str,
        classes: Sequence[str] | None = None,
        threshold: float | None = None,
        *,
        multilabel: bool = False,
    ) -> Predictions:
        """Read a table with the columns ``record``, ``label``, ``p_<class>``, maybe ``patient``.

        Parameters
        ----------
        columns
            A dict of equally long columns, or a DataFrame.
        positive
            The class that F1 is of.
        classes
            Their order; by default that of the columns.
        threshold
            See `Predictions`.
        multilabel
            Whether a record may be of several classes, ``AF,RBBB``, or of none.

        Raises
        ------
        PredictionsError
            If a column is missing, or a label is none of the classes.
        """
        head = PROBABILITY.format("")
        there = (name.removeprefix(head) for name in columns if str(name).startswith(head))
        order = tuple(there if classes is None else classes)
        wanted = ["record", "label", *(PROBABILITY.format(name) for name in order or ["<class>"])]
        if missing := [name for name in wanted if name not in columns]:
            raise PredictionsError(
                f"a table of predictions has the columns record, label and p_<class>; there is no "
                f"{', '.join(missing)} among {list(columns)}"
            )
        # pandas reads the empty cell of a record of no class as NaN.
        labels = ["" if label != label else str(label) for label in columns["label"]]
        found = [[one for one in split_label(label) if one] for label in labels]
        if not multilabel:
            found = [[label] for label in labels]
        if unknown := sorted({one for each in found for one in each} - set(order)):
            raise PredictionsError(f"labels {unknown} are none of the classes {list(order)}")
        targets = np.array([[name in each for name in order] for each in found], np.bool_)
        groups = None
        if "patient" in columns:
            # A record without a patient is a group of its own.
            names = [str(one) for one in columns["patient"]]
            keys = [n if n not in ("", "nan") else f"\0{row}" for row, n in enumerate(names)]
            numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
            groups = np.array([numbers[key] for key in keys], np.int64)
        return cls(
            tuple(str(one) for one in columns["record"]),
            targets if multilabel else targets.argmax(axis=1),
            np.stack([np.asarray(columns[one], np.float64) for one in wanted[2:]], axis=1),
            order,
            positive,
            threshold,
            groups,
        )

    def __len__(self) -> int:
        return len(self.records)

    @property
    def activation(self) -> str:
        """What makes such probabilities of a network's outputs."""
        return "sigmoid" if self.is_multilabel else "softmax"

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All metrics, by name."""
        return metrics_of(self)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Predictions:
        """Return the predictions of some records, in that order."""
        return replace(
            self,
            records=tuple(self.records[row] for row in rows),
            targets=self.targets[rows],
            probabilities=self.probabilities[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    def sorted(self) -> Predictions:
        """Return them in the order of the records' names."""
        return self.take(np.argsort(np.array(self.records), kind="stable"))


def prediction_columns(
    records: Sequence[str],
    scored: ScoredRecords,
    *,
    patients: Sequence[str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Lay predictions out as the columns that `Predictions.from_columns` reads.

    Parameters
    ----------
    records
        Their names.
    scored
        Their labels and probabilities.
    patients
        Whose the records are, where that is known.
    more
        Further columns, before the probabilities.
    """
    return {
        "record": records,
        **({} if patients is None else {"patient": patients}),
        "label": scored.labels,
        "prediction": scored.predicted_labels,
        **(more or {}),
        **columns_by_class(scored.probabilities, scored.classes),
    }


def columns_by_class(
    probabilities: npt.NDArray[np.floating[Any]], classes: Sequence[str], name: str = PROBABILITY
) -> dict[str, npt.NDArray[np.floating[Any]]]:
    """Name the columns of ``(n_records, n_classes)`` after the classes."""
    return {name.format(one): probabilities[:, place] for place, one in enumerate(classes)}


def shared_groups(predictions: Sequence[Predictions]) -> npt.NDArray[np.int64] | None:
    """Return the groups of records that are drawn together: those of the first model with any."""
    return next((one.groups for one in predictions if one.groups is not None), None)


def degrees_of_freedom(predictions: Sequence[Predictions]) -> int:
    """Return from how many records (or groups) standard errors are estimated, less one.

    Those of the rarer of positive and other records: they limit how well the metrics are known.
    """
    first, groups = predictions[0], shared_groups(predictions)
    unit = np.arange(len(first)) if groups is None else groups
    sides = (unit[first.is_positive], unit[~first.is_positive])
    return max(min(len(np.unique(side)) for side in sides) - 1, 1)
