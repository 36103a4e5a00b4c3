"""Labelled records with the probabilities that a model gives them, and the classes it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.records.label_sets import join_labels

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
#: ``(n_records,)`` indices of classes, or ``(n_records, n_classes)`` bool where a record may be of
#: several.
Targets = npt.NDArray[np.int64] | Bools

#: A record that may be of several classes is of a class from this probability on.
THRESHOLD = 0.5


class ScoredRecords:
    """What follows from the probabilities of labelled records.

    A record is predicted as `positive` where that class's probability is at least `threshold`, else
    as the most probable of the other classes; without a threshold as the most probable class of
    all. Where a record may be of several classes, it is predicted as each of those with at least
    0.5, which `threshold` replaces for `positive`.

    Attributes
    ----------
    targets
        ``(n_records,)`` int64 index of the true class; ``(n_records, n_classes)`` bool where a
        record may be of several.
    probabilities
        ``(n_records, n_classes)`` float64.
    classes, positive
        Names of the classes, and the one that F1, sensitivity and the curves are of.
    threshold
        Of the positive class; None without one.
    """

    targets: Targets
    probabilities: Floats
    classes: tuple[str, ...]
    positive: str
    threshold: float | None = None

    @property
    def is_multilabel(self) -> bool:
        """Whether a record may be of several classes, or of none."""
        return self.targets.ndim == 2

    @property
    def place(self) -> int:
        """Index of the positive class."""
        return self.classes.index(self.positive)

    @property
    def scores(self) -> Floats:
        """``(n_records,)``: probability of the positive class."""
        scores: Floats = self.probabilities[:, self.place]
        return scores

    @cached_property
    def predicted(self) -> Targets:
        """The predicted classes, in the form of `targets`."""
        return predict_classes(
            self.probabilities, self.place, self.threshold, multilabel=self.is_multilabel
        )

    @cached_property
    def truth_by_class(self) -> Bools:
        """``(n_records, n_classes)``: whether the record is of the class."""
        return self._by_class(self.targets)

    @cached_property
    def predicted_by_class(self) -> Bools:
        """``(n_records, n_classes)``: whether the record is predicted to be of the class."""
        return self._by_class(self.predicted)

    @property
    def is_positive(self) -> Bools:
        """``(n_records,)``: whether the record is of the positive class."""
        return np.asarray(self.truth_by_class[:, self.place])

    @property
    def predicted_positive(self) -> Bools:
        """``(n_records,)``: whether the record is predicted to be of the positive class."""
        return np.asarray(self.predicted_by_class[:, self.place])

    @property
    def is_correct(self) -> Bools:
        """``(n_records,)``: whether the predicted classes are the true ones, all of them."""
        return np.asarray((self.truth_by_class == self.predicted_by_class).all(axis=1))

    @property
    def labels(self) -> list[str]:
        """The true labels in words."""
        return label_texts(self.targets, self.classes)

    @property
    def predicted_labels(self) -> list[str]:
        """The predicted labels in words."""
        return label_texts(self.predicted, self.classes)

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """``(n_classes, n_classes)`` records by true class (row) and predicted class (column).

        A record that may be of several classes counts in each pair of a true and a predicted one.
        """
        return self.truth_by_class.T.astype(np.int64) @ self.predicted_by_class

    def _by_class(self, classes: Targets) -> Bools:
        if self.is_multilabel:
            return np.asarray(classes, np.bool_)
        return np.asarray(classes[:, None] == np.arange(len(self.classes)))


def objective_of(multilabel: bool) -> str:
    """Name the metric that "best" means: F1 of the positive class, or the mean over all classes."""
    return "f1_macro" if multilabel else "f1"


def predict_classes(
    probabilities: npt.NDArray[np.floating[Any]],
    place: int,
    threshold: float | None = None,
    *,
    multilabel: bool = False,
) -> Targets:
    """Return the predicted classes of records, in the form of `Targets`; see `ScoredRecords`.

    Parameters
    ----------
    probabilities
        ``(n_records, n_classes)``.
    place
        Index of the positive class.
    threshold
        Of the positive class.
    multilabel
        Whether a record may be of several classes.
    """
    if multilabel:
        thresholds = np.full(probabilities.shape[1], THRESHOLD)
        thresholds[place] = THRESHOLD if threshold is None else threshold
        return np.asarray(probabilities >= thresholds)
    if threshold is None:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    others = probabilities.copy()
    others[:, place] = -np.inf
    found = np.where(probabilities[:, place] >= threshold, place, others.argmax(axis=1))
    return np.asarray(found, dtype=np.int64)


def label_texts(targets: Targets, classes: Sequence[str]) -> list[str]:
    """Spell targets out: names of classes, ``AF,RBBB`` for several, the empty text for none."""
    if targets.ndim == 1:
        return [classes[i] for i in targets]
    return [join_labels(compress(classes, row)) for row in targets]
