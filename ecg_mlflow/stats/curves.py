"""ROC and precision-recall curves with bootstrap bands over records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.bootstrap import blocks, defined_mean, with_original
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.stats.scores import Floats, Ranks, ranks

#: Where curves are computed: in hundredths.
GRID: Floats = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve, the mean over repetitions, with its pointwise band.

    Attributes
    ----------
    x
        ``(n_points,)``: false positive rate, or recall.
    y
        ``(n_points,)``: sensitivity, or precision.
    low, high
        ``(n_points,)`` percentiles of `y` over resamples of the records.
    """

    x: Floats
    y: Floats
    low: Floats
    high: Floats


def ranking_curves(
    repetitions: Sequence[Predictions], weights: npt.NDArray[Any], level: float = 0.95
) -> tuple[Curve, Curve]:
    """Return the ROC curve and the precision-recall curve at each point of `GRID`.

    The first is sensitivity by false positive rate. Straight lines join the points of neighbouring
    thresholds, as the area under the curve has it; where the curve rises at one false positive
    rate, its upper end counts.

    The second is precision by recall: that of the highest threshold which reaches the recall; 0
    stands for the first positive record found. The area under these steps is the average precision.
    Nothing is drawn between thresholds, where a straight line would promise what no threshold gives
    (Davis and Goadrich, ICML 2006, doi:10.1145/1143844.1143874).

    Parameters
    ----------
    repetitions
        Of one configuration; the curves are the means of theirs.
    weights
        ``(n_resamples, n_records)`` from `ecg_mlflow.stats.bootstrap.resample_weights`.
    level
        Of the bands, at each point alone.

    Raises
    ------
    PredictionsError
        If all records are positive, or none is.
    """
    for one in repetitions:
        if not 0 < one.is_positive.sum() < len(one):
            raise PredictionsError(
                f"a curve needs records of both kinds; {int(one.is_positive.sum())} of {len(one)} "
                f"are {one.positive}"
            )
    both = with_original(weights)
    roc, precision_recall = np.empty((2, len(both), len(GRID)))
    for block, columns in blocks(both, rows=len(GRID)):
        ranked = [ranks(one.is_positive, one.scores, columns) for one in repetitions]
        roc[block] = defined_mean(np.stack([_sensitivities(one) for one in ranked])).T
        precision_recall[block] = defined_mean(np.stack([_precisions(one) for one in ranked])).T
    return _with_band(roc, level), _with_band(precision_recall, level)


def _with_band(values: Floats, level: float) -> Curve:
    """Return the curve of ``(1 + n_resamples, n_points)`` values, the records' own first."""
    # A resample of one class alone has no curve.
    resampled = values[1:][~np.isnan(values[1:, 0])]
    if not len(resampled):
        resampled = np.full((1, len(GRID)), np.nan)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Curve(GRID, values[0], low, high)


def _sensitivities(found: Ranks) -> Floats:
    """Return ``(n_points, n_weightings)``."""
    ties = found.negative - found.above
    curve = np.empty((len(GRID), len(found.n_negative)))
    with np.errstate(invalid="ignore", divide="ignore"):
        for row, rate in enumerate(GRID):
            # Positive records come when so many negative ones are passed; those that tie with
            # negative ones come along with these, little by little. Rates times counts that are
            # whole numbers may be rounded down.
            beyond = rate * found.n_negative * (1 + 1e-12) - found.above
            share = np.where(ties > 0, np.clip(beyond / ties, 0, 1), beyond >= 0)
            curve[row] = np.einsum("ib,ib->b", found.here, share) / found.n_positive
        curve[:, found.n_negative == 0] = np.nan
    return curve


def _precisions(found: Ranks) -> Floats:
    """Return ``(n_points, n_weightings)``."""
    precision = found.positive / np.maximum(found.positive + found.negative, 1)
    curve = np.empty((len(GRID), len(found.n_positive)))
    for row, recall in enumerate(GRID):
        needed = np.maximum(recall * found.n_positive * (1 - 1e-12), 1e-9)
        place = np.minimum((found.positive < needed).sum(axis=0), len(precision) - 1)
        curve[row] = precision[place, np.arange(len(place))]
    curve[:, (found.n_positive == 0) | (found.n_negative == 0)] = np.nan
    return curve
