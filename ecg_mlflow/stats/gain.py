"""Whether a model is better than another one, or only luckier on these records.

A paired bootstrap over records, with the correction that a model needs that was picked as the best
of many on the very records that now judge it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.bootstrap import paired_weights, resampled_metrics
from ecg_mlflow.stats.intervals import Interval, as_normal, as_student
from ecg_mlflow.stats.metrics import higher_is_better
from ecg_mlflow.stats.predictions import Predictions, degrees_of_freedom
from ecg_mlflow.stats.scores import Floats

#: Gains that differ by less are the same count of records, told apart by rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class GainTest:
    """How much better a challenger is than a champion, and how surely.

    Attributes
    ----------
    gain
        The challenger's metric less the champion's; turned round for metrics of which less is
        better, so that a positive gain is always for the challenger.
    interval
        Of the gain at the level asked for, two-sided, corrected in the same way as the p-value.
    p_value
        Of a gain this large, measured by its standard error, of any candidate where in truth none
        is better than the champion. The least possible is 1 / (resamples + 1).
    """

    gain: float
    interval: Interval
    p_value: float


def gain_test(
    challenger: Predictions,
    champion: Predictions,
    metric: str = "f1",
    *,
    candidates: Sequence[Predictions] = (),
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> GainTest:
    """Test whether a challenger is better than the champion.

    1. Resample the records, or groups of them, the same for all models.
    2. A model's gain is its metric less the champion's. How far resampled gains are from the gain
       itself, in standard errors, is what chance does to a model that is no better.
    3. The p-value is the share of resamples where chance does for at least one candidate what the
       challenger shows: the maximum over candidates of ``(gain* - gain) / se`` is at least
       ``gain / se`` of the challenger.

    Resampled gains are centred, never compared with 0: with few records on which the two models
    differ, the share of resampled gains below 0 promotes luck. That five records speak for the
    challenger and none for the champion has p = 1/32 by the sign test, 0.032 here, and would have
    0.007 so.

    Parameters
    ----------
    challenger, champion
        Predictions of the same records.
    metric
        By which better is meant.
    candidates
        All models that the challenger was picked from by its metric on these same records, the
        challenger among them or not. Empty where it was chosen without a look at these records.
    level
        Of the interval.
    n_resamples, seed
        Of the bootstrap.

    Raises
    ------
    PredictionsError
        If the predictions are of other records, or don't define the metric.

    Notes
    -----
    Sources: White, Econometrica 68 (2000) 1097-1126, for the maximum over candidates; Hansen, JBES
    23 (2005) 365-380, and Romano and Wolf, Econometrica 73 (2005) 1237-1282, for measuring it in
    standard errors. The one added to both counts keeps the level exact with few resamples (Davison
    and Hinkley, 1997, section 4.2.3).
    """
    rivals = [challenger, *(one for one in candidates if not _same(one, challenger))]
    gains, resampled = _gains(champion, rivals, metric, n_resamples, seed)
    gain, deviations = float(gains[0]), resampled - gains[:, None]
    errors = np.ma.masked_invalid(deviations).std(axis=1, ddof=1).filled(0.0)
    if errors[0] <= _ROUNDING:
        # Without variation there is no test.
        return GainTest(gain, Interval(gain, gain), 1.0)
    moving = errors > _ROUNDING
    scaled = deviations[moving] / errors[moving, None]
    scaled = scaled[:, ~np.isnan(scaled).any(axis=0)]
    highest, lowest = scaled.max(axis=0), scaled.min(axis=0)
    freedom = degrees_of_freedom(rivals)
    by_chance = np.count_nonzero(highest >= as_normal((gain - _ROUNDING) / errors[0], freedom))
    p_value = (by_chance + 1) / (len(highest) + 1)
    tails = [np.quantile(highest, (1 + level) / 2), np.quantile(lowest, (1 - level) / 2)]
    above, below = as_student(tails, freedom).tolist()
    interval = Interval(gain - above * float(errors[0]), gain - below * float(errors[0]))
    return GainTest(gain, interval, float(p_value))


def _gains(
    champion: Predictions, rivals: Sequence[Predictions], metric: str, n_resamples: int, seed: int
) -> tuple[Floats, Floats]:
    """Return the gains over the champion, ``(n_rivals,)``, and ``(n_rivals, n_resamples)``."""
    models = [champion, *rivals]
    weights = paired_weights(models, n_resamples, seed)
    found = np.stack([resampled_metrics(one, weights, [metric])[metric] for one in models])
    values, resampled = found[:, 0], found[:, 1:]
    if np.isnan(values[:2]).any():
        raise PredictionsError(
            f"{metric} is not defined for these records and models; they have "
            f"{', '.join(sorted(set(champion.metrics) & set(rivals[0].metrics)))}"
        )
    # A candidate for which the metric is not defined was not picked by it.
    known = ~np.isnan(values)
    values, resampled = values[known], resampled[known]
    sign = 1 if higher_is_better(metric) else -1
    return sign * (values[1:] - values[0]), sign * (resampled[1:] - resampled[0])


def _same(one: Predictions, other: Predictions) -> bool:
    return one is other or (
        one.threshold == other.threshold and np.array_equal(one.probabilities, other.probabilities)
    )
