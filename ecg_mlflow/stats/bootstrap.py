"""Resampling of records, or of patients, and the intervals that come of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.intervals import (
    Interval,
    percentile_interval,
    records_interval,
    t_interval,
    wilson_interval,
)
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.stats.weighted import weighted_metrics

__all__ = [
    "Interval",
    "blocks",
    "defined_mean",
    "percentile_interval",
    "records_interval",
    "resample_weights",
    "resampled_means",
    "resampled_metrics",
    "t_interval",
    "wilson_interval",
    "with_original",
]

Floats = npt.NDArray[np.float64]

#: Numbers of a block of weights that is worked on at once; float32 and a few float64 of them.
_BLOCK = 4_000_000


def resample_weights(
    n: int,
    n_resamples: int = 2000,
    seed: int = 0,
    groups: npt.NDArray[np.integer[Any]] | None = None,
    strata: npt.NDArray[np.integer[Any]] | None = None,
) -> npt.NDArray[np.int32]:
    """Draw how often each record is in each bootstrap resample.

    Parameters
    ----------
    n
        Number of records.
    n_resamples
        How many.
    seed
        The same seed gives the same resamples, whatever is compared on them.
    groups
        ``(n,)``: records with the same number, such as a patient's, are drawn together.
    strata
        ``(n,)``: as many records (or groups) of each stratum are drawn as it has.

    Returns
    -------
    ndarray
        ``(n_resamples, n)`` counts, in Fortran's order: the resamples of a record lie side by side.

    Raises
    ------
    PredictionsError
        If there is nothing to draw, lengths differ, or a group is in two strata.
    """
    for name, given in (("groups", groups), ("strata", strata)):
        if given is not None and len(given) != n:
            raise PredictionsError(f"{n} records need as many {name}; given are {len(given)}")
    if n < 1 or n_resamples < 1:
        raise PredictionsError(
            f"{n_resamples} resamples of {n} records: both numbers have to be at least 1"
        )
    unit = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    _, first = np.unique(unit, return_index=True)
    layer = np.zeros(n, np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    if (layer[first][unit] != layer).any():
        raise PredictionsError("a group is in two strata; groups are drawn whole, so put it in one")
    rng = np.random.default_rng(seed)
    drawn = np.empty((n_resamples, len(first)), np.int32, order="F")
    for number in range(layer.max() + 1):
        members = np.flatnonzero(layer[first] == number)
        drawn[:, members] = _draw(len(members), n_resamples, rng)
    return drawn if groups is None else np.asfortranarray(drawn[:, unit])


def resampled_metrics(
    predictions: Predictions, weights: npt.NDArray[Any], names: Sequence[str]
) -> dict[str, Floats]:
    """Compute metrics of one model for each resample.

    They equal ``Predictions.metrics`` of a table in which each record stands as often as it was
    drawn.

    Parameters
    ----------
    predictions
        The model's.
    weights
        ``(n_resamples, n_records)`` from `resample_weights`. Who has many models saves time with
        ``np.asfortranarray(weights, np.float32)``.
    names
        Which metrics.

    Returns
    -------
    dict
        ``(n_resamples,)`` by name; NaN where a resample doesn't define the metric.

    Raises
    ------
    PredictionsError
        If there is no such metric, or the weights are of other records.
    """
    n_resamples, n = weights.shape
    if n != len(predictions):
        raise PredictionsError(f"weights of {n} records don't fit {len(predictions)} predictions")
    found = {name: np.empty(n_resamples) for name in names}
    for block, columns in blocks(weights):
        part = weighted_metrics(predictions, columns, names)
        if missing := [name for name in names if name not in part]:
            known = sorted({*predictions.metrics, "precision", "roc_auc", "average_precision"})
            raise PredictionsError(
                f"{', '.join(missing)}: no metric of these predictions; they have "
                f"{', '.join(known)}"
            )
        for name in names:
            found[name][block] = part[name]
    return found


def blocks(
    weights: npt.NDArray[Any], rows: int = 1
) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """Cut weights into blocks of resamples, so that what is computed of them fits into memory.

    Parameters
    ----------
    weights
        ``(n_resamples, n_records)``.
    rows
        How many numbers there are for each resample beside its records' weights.

    Yields
    ------
    tuple
        Which resamples, and their weights as ``(n_records, n_resamples of the block)``.
    """
    n_resamples, n = weights.shape
    columns = np.ascontiguousarray(weights.T, dtype=np.float32)
    size = max(_BLOCK // max(n, rows), 1)
    for begin in range(0, n_resamples, size):
        block = slice(begin, begin + size)
        yield block, np.ascontiguousarray(columns[:, block])


def resampled_means(
    repetitions: Sequence[Predictions], weights: npt.NDArray[Any], names: Sequence[str]
) -> dict[str, Floats]:
    """Compute, for each resample, the mean of a metric over the repetitions of a configuration.

    All repetitions get the same resamples, so that what comes out is the resampled value of the
    mean that the leaderboard shows. A repetition that doesn't define a metric is left out of it.

    Parameters
    ----------
    repetitions
        Predictions of the same records.
    weights, names
        See `resampled_metrics`.

    Returns
    -------
    dict
        ``(n_resamples,)`` by name.
    """
    each = [resampled_metrics(one, weights, names) for one in repetitions]
    return {name: defined_mean(np.stack([one[name] for one in each])) for name in names}


def with_original(weights: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Put the records as they are, each once, before their resamples.

    Returns
    -------
    ndarray
        ``(1 + n_resamples, n_records)``, in the form that `resampled_metrics` is fastest with.
    """
    both = np.ones((len(weights) + 1, weights.shape[1]), np.float32, order="F")
    both[1:] = weights
    return both


def defined_mean(values: Floats) -> Floats:
    """Return the mean along the first axis of what is not NaN; NaN where nothing is."""
    is_defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean = np.where(is_defined, values, 0).sum(axis=0) / is_defined.sum(axis=0)
    return np.asarray(mean)


def _draw(n: int, n_resamples: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Draw n of n things with replacement, so many times; return how often each was drawn."""
    counts = np.empty((n_resamples, n), np.int32)
    size = max(_BLOCK // (4 * n), 1)
    for begin in range(0, n_resamples, size):
        rows = min(size, n_resamples - begin)
        cells = rng.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
        counts[begin : begin + rows] = np.bincount(cells.ravel(), minlength=rows * n).reshape(
            rows, n
        )
    return counts
