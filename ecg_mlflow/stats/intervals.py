"""Intervals of values that were resampled or repeated, and of a proportion."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from ecg_mlflow.stats.bootstrap import resample_weights, resampled_metrics
from ecg_mlflow.stats.metrics import class_suffix
from ecg_mlflow.stats.predictions import Predictions, degrees_of_freedom

#: Metrics that don't end at 1.
UNBOUNDED = frozenset({"log_loss", "brier"})
#: Resampled values that differ by less are the same.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`; NaN where nothing is known."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def is_known(self) -> bool:
        """Whether both ends are numbers."""
        return not (math.isnan(self.low) or math.isnan(self.high))


UNKNOWN = Interval(math.nan, math.nan)


def t_interval(values: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Return Student's interval of the mean of independent repetitions.

    Fewer than two have no interval, NaN to NaN.
    """
    from scipy.special import stdtrit

    given = np.asarray(values, dtype=np.float64)
    n = len(given)
    if n < 2:
        return UNKNOWN
    half = float(stdtrit(n - 1, (1 + level) / 2) * given.std(ddof=1) / np.sqrt(n))
    mean = float(given.mean())
    return Interval(mean - half, mean + half)


def wilson_interval(part: float, whole: float, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion; NaN to NaN of nothing.

    Source: Wilson, JASA 22 (1927) 209-212, doi:10.1080/01621459.1927.10502953.
    """
    if not whole:
        return UNKNOWN
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, spread = part / whole, z * z / whole
    middle = share + spread / 2
    half = z * float(np.sqrt(share * (1 - share) / whole + spread / whole / 4))
    return Interval(
        max((middle - half) / (1 + spread), 0.0), min((middle + half) / (1 + spread), 1.0)
    )


def records_interval(
    repetitions: Sequence[Predictions],
    name: str,
    value: float,
    resampled: npt.NDArray[np.float64],
    level: float = 0.95,
) -> Interval:
    """Return the interval over records of a metric, or of its mean over repetitions.

    - Losses: the percentile interval of the resampled values.
    - Metrics between 0 and 1: Student's interval on the scale of ``log(m / (1 - m))`` with the
      standard error of the resampled values. Percentiles are too high for metrics near 1: with 100
      positive records and a ROC AUC of 0.99 they hold the truth in 88 % of test sets, these in 92 %
      (and in 93 to 98 % elsewhere; ``tests/stats/test_intervals.py``).
    - Where all resampled values are the same they say nothing: records without an error have no
      resample with one. It is Wilson's interval then, of the share that the metric is or grows
      with.

    Parameters
    ----------
    repetitions
        Predictions of the same records.
    name
        The metric.
    value
        The metric of the records as they are, mean over repetitions; NaN to NaN if it is NaN.
    resampled
        ``(n_resamples,)``: the same of each resample of the records.
    level
        Confidence.

    Notes
    -----
    Source of the scale: Pepe, *The Statistical Evaluation of Medical Tests* (2003), section 5.2.5.
    """
    from scipy.special import expit, logit, stdtrit

    known = resampled[~np.isnan(resampled)]
    if np.isnan(value) or len(known) < 2:
        return UNKNOWN
    if name in UNBOUNDED:
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high))
    if np.ptp(known) < _ROUNDING:
        return _interval_of_share(repetitions[0], name, value, level)
    error = known.std(ddof=1) / (value * (1 - value))
    half = stdtrit(degrees_of_freedom(repetitions), (1 + level) / 2) * error
    return Interval(float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def metric_intervals(
    predictions: Predictions,
    names: Iterable[str],
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the bootstrap intervals over records of one model's metrics, by name.

    Raises
    ------
    PredictionsError
        If there is no such metric.
    """
    weights = resample_weights(len(predictions), n_resamples, seed, predictions.groups)
    resampled = resampled_metrics(predictions, weights, list(names))
    return {
        name: records_interval(
            [predictions], name, predictions.metrics.get(name, math.nan), values, level
        )
        for name, values in resampled.items()
    }


def _interval_of_share(predictions: Predictions, name: str, value: float, level: float) -> Interval:
    """Return Wilson's interval of the share that a metric is, or grows with; else the value."""
    labels = {f"f1_{class_suffix(one)}": i for i, one in enumerate(predictions.classes)}
    place = labels.get(name, predictions.place)
    truth = predictions.truth_by_class[:, place]
    predicted = predictions.predicted_by_class[:, place]
    masks = {
        "accuracy": (predictions.is_correct, np.ones_like(truth)),
        "sensitivity": (truth & predicted, truth),
        "specificity": (~truth & ~predicted, ~truth),
        "precision": (truth & predicted, predicted),
        # 1 is that each positive record stands above all others.
        "roc_auc": (value * truth, truth),
        "average_precision": (value * truth, truth),
        **dict.fromkeys(("f1", *labels), (truth & predicted, truth | predicted)),
    }
    if name not in masks:
        return Interval(value, value)
    part, whole = (float(mask.sum()) for mask in masks[name])
    if predictions.groups is not None:  # records of one patient tell less than as many patients
        fewer = len(np.unique(predictions.groups)) / len(predictions)
        part, whole = part * fewer, whole * fewer
    found = wilson_interval(part, whole, level)
    if name.startswith("f1"):
        return Interval(2 * found.low / (1 + found.low), 2 * found.high / (1 + found.high))
    return found


def as_normal(ratio: npt.ArrayLike, freedom: int) -> npt.NDArray[np.float64]:
    """Return the normal value with the tail of a ratio to an *estimated* standard error.

    The bootstrap's own deviations are measured by the standard error that they have; the observed
    gain's is only an estimate of it, which Student's distribution allows for.
    """
    from scipy.special import ndtri, stdtr

    return np.asarray(-ndtri(stdtr(freedom, -np.asarray(ratio))))


def as_student(normal: npt.ArrayLike, freedom: int) -> npt.NDArray[np.float64]:
    """Undo `as_normal`."""
    from scipy.special import ndtr, stdtrit

    return np.asarray(-stdtrit(freedom, ndtr(-np.asarray(normal))))
