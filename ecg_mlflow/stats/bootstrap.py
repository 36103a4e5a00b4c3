"""Resampling of records, or of patients, and metrics of the resamples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.metrics import weighted_metrics
from ecg_mlflow.stats.predictions import Predictions, shared_groups
from ecg_mlflow.stats.scores import Floats

#: Numbers of a block of weights that is worked on at once; float32 and a few float64 of them.
_BLOCK = 4_000_000


def resample_weights(
    n: int,
    n_resamples: int = 2000,
    seed: int = 0,
    groups: npt.NDArray[np.integer[Any]] | None = None,
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

    Returns
    -------
    ndarray
        ``(n_resamples, n)`` counts, in Fortran's order: the resamples of a record lie side by side.

    Raises
    ------
    PredictionsError
        If there is nothing to draw, or there are not as many groups as records.
    """
    if groups is not None and len(groups) != n:
        raise PredictionsError(f"{n} records need as many groups; given are {len(groups)}")
    if n < 1 or n_resamples < 1:
        raise PredictionsError(
            f"{n_resamples} resamples of {n} records: both numbers have to be at least 1"
        )
    rng = np.random.default_rng(seed)
    if groups is None:
        return _draw(n, n_resamples, rng)
    names, unit = np.unique(groups, return_inverse=True)
    return np.asfortranarray(_draw(len(names), n_resamples, rng)[:, unit])


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
            raise PredictionsError(
                f"{', '.join(missing)}: no metric of these predictions; they have "
                f"{', '.join(sorted(predictions.metrics))}"
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


def paired_weights(
    predictions: Sequence[Predictions], n_resamples: int, seed: int
) -> npt.NDArray[np.float32]:
    """Draw resamples for several models, the records as they are before them; see `with_original`.

    Raises
    ------
    PredictionsError
        If the models' records, labels or classes differ.
    """
    first = predictions[0]
    wanted = first.records, first.classes, first.positive
    for one in predictions[1:]:
        is_other = (one.records, one.classes, one.positive) != wanted
        if is_other or not np.array_equal(one.targets, first.targets):
            raise PredictionsError(
                "predictions can be compared only where they are of the same records with the "
                "same labels, in the same order"
            )
    groups = shared_groups(predictions)
    return with_original(resample_weights(len(first), n_resamples, seed, groups))


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
    return np.ma.filled(np.ma.masked_invalid(values).mean(axis=0), np.nan)


def _draw(n: int, n_resamples: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Draw n of n things with replacement, so many times; return how often each was drawn."""
    counts = np.empty((n_resamples, n), np.int32, order="F")
    size = max(_BLOCK // (4 * n), 1)
    for begin in range(0, n_resamples, size):
        rows = min(size, n_resamples - begin)
        cells = rng.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
        counts[begin : begin + rows] = np.bincount(cells.ravel(), minlength=rows * n).reshape(
            rows, n
        )
    return counts
