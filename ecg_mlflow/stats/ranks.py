"""Weighted counts of records by the rank of their scores: what ROC curves and areas are made of."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


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
