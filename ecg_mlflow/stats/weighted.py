"""Metrics of records that count several times, for many such weightings at once.

A resample with replacement is a weighting by whole numbers. Metrics of counts are then sums over
records, and those of ranked scores are sums over the positive records of how many others score
higher; sparse products give both for all resamples without drawing a table.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.stats.metrics import brier_terms, count_metrics, log_loss_terms
from ecg_mlflow.stats.multilabel import binary_loss_terms, multilabel_count_metrics
from ecg_mlflow.stats.predictions import Predictions

Floats = npt.NDArray[np.float64]

_RANKED = frozenset({"roc_auc", "average_precision"})
_MEANS = frozenset({"log_loss", "brier"})


def weighted_metrics(
    predictions: Predictions, columns: npt.NDArray[np.float32], names: Collection[str]
) -> dict[str, Floats]:
    """Compute metrics of one model for many weightings of its records.

    Parameters
    ----------
    predictions
        The model's.
    columns
        ``(n_records, n_weightings)`` whole numbers. Their sums have to stay below 2**24, so that
        float32 holds them exactly.
    names
        Which metrics.

    Returns
    -------
    dict
        ``(n_weightings,)`` by name, NaN where a weighting doesn't define the metric; no entry for
        a name that is unknown.
    """
    found: dict[str, Floats] = {}
    wanted = set(names)
    if wanted & _MEANS:
        found |= _means(predictions, columns)
    if wanted & _RANKED:
        found |= _ranked(predictions, columns)
    if not wanted - _MEANS - _RANKED:
        pass
    elif predictions.is_multilabel:
        found |= _multilabel_counts(predictions, columns)
    else:
        matrix = weighted_counts(predictions, columns)
        found |= count_metrics(matrix, predictions.classes, predictions.positive)
    return {name: found[name] for name in names if name in found}


def weighted_counts(
    predictions: Predictions, columns: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return ``(n_classes, n_classes, n_weightings)`` counts by true and by predicted class."""
    k = len(predictions.classes)
    cells = predictions.targets * k + predictions.predicted
    return sums_by(cells, k * k, columns).reshape(k, k, -1)


def _multilabel_counts(
    predictions: Predictions, columns: npt.NDArray[np.float32]
) -> dict[str, Floats]:
    cells = 2 * predictions.targets.astype(np.int64) + predictions.predicted
    counts = np.stack([sums_by(cell, 4, columns).reshape(2, 2, -1) for cell in cells.T])
    right = predictions.is_right.astype(np.float32) @ columns
    return multilabel_count_metrics(counts, right, predictions.classes, predictions.positive)


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


def ranks(predictions: Predictions, columns: npt.NDArray[np.float32]) -> Ranks:
    """Rank records by the probability of the positive class; there is a positive one."""
    is_positive = predictions.is_positive
    # Negated, so that sums from the first row on are of "at least that score".
    negated, rank = np.unique(-predictions.scores[is_positive], return_inverse=True)
    m, others = len(negated), -predictions.scores[~is_positive]
    # Between two scores of positive records the order of the negative ones is of no matter: even
    # rows are these gaps, odd rows are negative records that tie with a positive one.
    gap = np.searchsorted(negated, others, "left") + np.searchsorted(negated, others, "right")
    numbers = np.empty(len(predictions), np.int64)
    numbers[is_positive], numbers[~is_positive] = rank, m + gap
    sums = sums_by(numbers, 3 * m + 1, columns).astype(np.float64)
    here, positive, negative = sums[:m], _running(sums[:m].copy()), _running(sums[m:])
    return Ranks(here, positive, negative[1::2], negative[:-1:2], positive[-1], negative[-1])


def _ranked(predictions: Predictions, columns: npt.NDArray[np.float32]) -> dict[str, Floats]:
    if not predictions.is_positive.any():
        nowhere = np.full(columns.shape[1], np.nan)
        return {"roc_auc": nowhere, "average_precision": nowhere}
    found = ranks(predictions, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Mann and Whitney: pairs of a positive and a negative record in the wrong order, ties half.
        wrong = np.einsum("ib,ib->b", found.here, (found.above + found.negative) / 2)
        auc = 1 - wrong / (found.n_positive * found.n_negative)
        precision = found.positive / np.maximum(found.positive + found.negative, 1)
        average = np.einsum("ib,ib->b", found.here, precision) / found.n_positive
    is_defined = (found.n_positive > 0) & (found.n_negative > 0)
    return {
        "roc_auc": np.where(is_defined, auc, np.nan),
        "average_precision": np.where(is_defined, average, np.nan),
    }


def loss_terms(predictions: Predictions) -> Floats:
    """Return each record's share in the log loss, ``(n_records,)`` nats."""
    compute: Any = binary_loss_terms if predictions.is_multilabel else log_loss_terms
    found: Floats = compute(predictions.targets, predictions.probabilities)
    return found


def _means(predictions: Predictions, columns: npt.NDArray[np.float32]) -> dict[str, Floats]:
    terms = np.stack(
        [
            loss_terms(predictions),
            brier_terms(predictions.is_positive, predictions.scores),
            np.ones(len(predictions)),
        ]
    )
    sums = terms @ columns.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return {"log_loss": sums[0] / sums[2], "brier": sums[1] / sums[2]}


def _running(rows: Floats) -> Floats:
    """Add to each row those before it, in place: NumPy's own cumsum is slow along this axis."""
    for before, row in pairwise(rows):
        row += before
    return rows
