"""Labelled records with the probabilities that a model gives them: classes, and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, pairwise
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


@dataclass(frozen=True, eq=False)
class Ranks:
    """Weighted counts of records above and at each score that a positive record has.

    Attributes
    ----------
    here
        ``(n_scores, n_weightings)``, highest score first: positive records with that score.
    positive, negative
        ``(n_scores, n_weightings)``: positive and negative records with at least that score.
    above
        ``(n_scores, n_weightings)``: negative records that score more.
    n_positive, n_negative
        ``(n_weightings,)``: all of them.
    """

    here: Floats
    positive: Floats
    negative: Floats
    above: Floats
    n_positive: Floats
    n_negative: Floats


def ranks(
    is_positive: npt.NDArray[np.bool_], scores: Floats, columns: npt.NDArray[np.float32]
) -> Ranks:
    """Rank records by their scores.

    Parameters
    ----------
    is_positive
        ``(n_records,)``, at least one of them True.
    scores
        ``(n_records,)``.
    columns
        ``(n_records, n_weightings)`` how often each record counts.
    """
    # Negated, so that sums from the first row on are of "at least that score".
    negated, rank = np.unique(-scores[is_positive], return_inverse=True)
    m, others = len(negated), -scores[~is_positive]
    # Between two scores of positive records the order of the negative ones is of no matter: even
    # rows are these gaps, odd rows are negative records that tie with a positive one.
    gap = np.searchsorted(negated, others, "left") + np.searchsorted(negated, others, "right")
    numbers = np.empty(len(scores), np.int64)
    numbers[is_positive], numbers[~is_positive] = rank, m + gap
    sums = sums_by(numbers, 3 * m + 1, columns).astype(np.float64)
    here, positive, negative = sums[:m], _running(sums[:m].copy()), _running(sums[m:])
    return Ranks(here, positive, negative[1::2], negative[:-1:2], positive[-1], negative[-1])


def sums_by(
    numbers: npt.NDArray[np.integer[Any]], n_rows: int, columns: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Add up the rows of `columns` that have the same number.

    Parameters
    ----------
    numbers
        ``(n_records,)`` from 0 to ``n_rows - 1``.
    n_rows
        How many sums there are.
    columns
        ``(n_records, n_weightings)``.

    Returns
    -------
    ndarray
        ``(n_rows, n_weightings)``.
    """
    from scipy.sparse import csr_array

    n = len(numbers)
    begins = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=n_rows))])
    ones, order = np.ones(n, np.float32), np.argsort(numbers, kind="stable")
    sums: npt.NDArray[np.float32] = csr_array((ones, order, begins), shape=(n_rows, n)) @ columns
    return sums


def _running(rows: Floats) -> Floats:
    """Add to each row those before it, in place: NumPy's own cumsum is slow along this axis."""
    for before, row in pairwise(rows):
        row += before
    return rows
