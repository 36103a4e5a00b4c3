"""Calibration of a network's probabilities, and thresholds.

Both are chosen on validation records; test records only show how good they are.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.intervals import wilson_interval
from ecg_mlflow.stats.metrics import loss_terms
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.stats.scores import Floats

#: Temperatures that are tried: beyond them all probabilities are equal, or 0 and 1.
_TEMPERATURES = (0.05, 20.0)
#: Below, a probability is taken for this: 0 has no logarithm.
_LEAST = 1e-30
#: By which thresholds and shares may be off through rounding.
_ROUNDING = 1e-12
RULES = ("f1", "youden", "sensitivity=<share>", "specificity=<share>")


def fit_temperature(predictions: Predictions) -> float:
    """Return the temperature that maximises the likelihood of the true classes.

    One number can't change the order of the records, and few records suffice to fit it; it corrects
    networks that are too sure, or not sure enough, of everything.

    Parameters
    ----------
    predictions
        Of validation records.

    Notes
    -----
    Source: Guo et al., ICML 2017, arXiv 1706.04599.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        calibrated = with_temperature(predictions, float(np.exp(log_temperature)))
        return float(loss_terms(calibrated).mean())

    bounds = tuple(np.log(_TEMPERATURES))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def with_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """Return predictions with calibrated probabilities."""
    probabilities = calibrated(predictions.probabilities, temperature, predictions.activation)
    return replace(predictions, probabilities=probabilities)


def calibrated(
    probabilities: npt.NDArray[Any], temperature: float, activation: str = "softmax"
) -> Floats:
    """Divide the logits behind some probabilities by a temperature; 1 changes nothing.

    Parameters
    ----------
    probabilities
        ``(n_records, n_classes)``.
    temperature
        Above 1 it moves them towards the middle, below towards 0 and 1.
    activation
        What has made them: ``sigmoid`` of each class by itself, or ``softmax``.
    """
    from scipy.special import expit, softmax

    given = np.asarray(probabilities, dtype=np.float64)
    if temperature == 1:
        return given.copy()
    logits = np.log(np.maximum(given, _LEAST))
    if activation == "sigmoid":
        logits -= np.log(np.maximum(1 - given, _LEAST))
        return np.asarray(expit(logits / temperature))
    return np.asarray(softmax(logits / temperature, axis=1))


def choose_threshold(predictions: Predictions, rule: str = "f1") -> float:
    """Choose the probability from which on a record counts as positive.

    It lies in the middle between two neighbouring scores; of several that are equally good, the
    middle one is taken.

    Parameters
    ----------
    predictions
        Of validation records.
    rule
        ``f1`` or ``youden`` (sensitivity + specificity) make that the greatest;
        ``sensitivity=0.95`` makes specificity the greatest among those that are as sensitive, and
        ``specificity=0.95`` the other way round.

    Raises
    ------
    PredictionsError
        If the rule is none of these, or only one class occurs.
    """
    positive, scores = predictions.is_positive, predictions.scores
    if not 0 < positive.sum() < len(positive):
        raise PredictionsError(
            f"a threshold needs records of both kinds; {int(positive.sum())} of {len(positive)} "
            f"validation records are {predictions.positive}"
        )
    values, rank = np.unique(scores, return_inverse=True)
    hits, alarms = (
        np.append(np.bincount(rank[side], minlength=len(values))[::-1].cumsum()[::-1], 0)
        for side in (positive, ~positive)
    )
    merit, thresholds = _merit(rule, hits, alarms), _between(values)
    best = np.flatnonzero(merit >= merit.max() - _ROUNDING)
    return float(thresholds[best[(len(best) - 1) // 2]])


def _between(values: Floats) -> Floats:
    """Return thresholds below, between and above ascending values."""
    inner = (values[1:] + values[:-1]) / 2
    # Two neighbours among floating-point numbers have no middle: the upper one parts them.
    inner = np.where(inner > values[:-1], inner, values[1:])
    return np.concatenate([[values[0] / 2], inner, [(1 + values[-1]) / 2 + _ROUNDING]])


def _merit(rule: str, hits: npt.NDArray[Any], alarms: npt.NDArray[Any]) -> Floats:
    """Return what a rule maximises, for each threshold; at the first all records are positive."""
    sensitivity, specificity = hits / hits[0], 1 - alarms / alarms[0]
    plain = {"f1": 2 * hits / (hits[0] + hits + alarms), "youden": sensitivity + specificity}
    if rule in plain:
        return np.asarray(plain[rule])
    name, _, share = rule.partition("=")
    aims = {"sensitivity": (sensitivity, specificity), "specificity": (specificity, sensitivity)}
    with suppress(KeyError, ValueError):
        aimed, other = aims[name]
        if 0 < float(share) <= 1:
            return np.where(aimed >= float(share) - _ROUNDING, other, -np.inf)
    raise PredictionsError(f"threshold={rule!r} is no rule; there are {', '.join(RULES)}, or none")


@dataclass(frozen=True, eq=False)
class Reliability:
    """Shares of positive records among those of about equal probability.

    Attributes
    ----------
    probability, observed
        ``(n_bins,)`` mean probability and share of positive records.
    low, high
        ``(n_bins,)`` Wilson bounds of that share.
    counts
        ``(n_bins,)`` records.
    scores
        ``(n_records,)`` all probabilities, ascending.
    """

    probability: Floats
    observed: Floats
    low: Floats
    high: Floats
    counts: npt.NDArray[np.int64]
    scores: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap of probability and share over the records."""
        return float(np.average(np.abs(self.probability - self.observed), weights=self.counts))


def reliability(predictions: Predictions, n_bins: int = 10, level: float = 0.95) -> Reliability:
    """Compare the positive class's probability with the share of positive records.

    The bins hold equally many records, as nearly as equal probabilities allow: of rare classes,
    bins of equal width would leave all but the first nearly empty.
    """
    order = np.argsort(predictions.scores, kind="stable")
    scores, positive = predictions.scores[order], predictions.is_positive[order]
    places = np.linspace(0, len(scores), min(n_bins, len(scores)) + 1).round().astype(int)
    # Equal probabilities stay together.
    starts = np.unique(np.searchsorted(scores, scores[places[:-1]], side="left"))
    counts = np.diff(starts, append=len(scores))
    observed = np.add.reduceat(positive.astype(np.int64), starts)
    bounds = [wilson_interval(k, n, level) for k, n in zip(observed, counts, strict=True)]
    return Reliability(
        np.add.reduceat(scores, starts) / counts,
        observed / counts,
        np.array([one.low for one in bounds]),
        np.array([one.high for one in bounds]),
        counts,
        scores,
    )
