"""Predictions made up by models whose truth is known."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from ecg_mlflow.stats.predictions import Predictions


def difficulties(rng: np.random.Generator, n: int, share: float = 0.1):
    """Return which records are positive, and how much each looks so to every model."""
    return rng.random(n) < share, rng.normal(size=n)


def answers(rng, records, *, shift=3.2, bias=-2.1, own=1.0, threshold=None) -> Predictions:
    """One model's predictions: its own noise on top of what the records look like to all."""
    positive, looks = records
    odds = bias + shift * positive + looks + own * rng.normal(size=len(looks))
    p = 1 / (1 + np.exp(-odds))
    return Predictions(
        tuple(f"A{i:05d}" for i in range(len(p))),
        positive.astype(np.int64),
        np.stack([1 - p, p], axis=1),
        ("NO", "A"),
        "A",
        threshold,
    )


def equal_models(rng, n_models: int, n: int = 1000, share: float = 0.1, **options):
    """Models that are equal in truth, on the same records."""
    records = difficulties(rng, n, share)
    return [answers(rng, records, **options) for _ in range(n_models)]


def better(extra: float) -> dict[str, float]:
    """How a model answers that finds more and has fewer false alarms; 0 is equal to the others."""
    return {"shift": 3.2 + extra, "bias": -2.1 - extra / 2}


def truth(shift: float = 3.2, bias: float = -2.1, own: float = 1.0, share: float = 0.1):
    """The metrics of such a model on infinitely many records, at the threshold 1/2."""
    phi = NormalDist().cdf
    spread = (1 + own**2) ** 0.5
    sensitivity, false_alarms = phi((bias + shift) / spread), phi(bias / spread)
    hits, alarms = share * sensitivity, (1 - share) * false_alarms
    return {
        "f1": 2 * hits / (share + hits + alarms),
        "sensitivity": sensitivity,
        "specificity": 1 - false_alarms,
        "accuracy": hits + (1 - share) - alarms,
        "precision": hits / (hits + alarms),
        "roc_auc": phi(shift / spread / 2**0.5),
    }


def predictions_of(targets, probabilities, classes="AN", positive="A", **options) -> Predictions:
    """Predictions of records that are called r000, r001, ..."""
    names = tuple(f"r{i:03d}" for i in range(len(targets)))
    given = np.asarray(targets), np.asarray(probabilities, np.float64)
    return Predictions(names, *given, tuple(classes), positive, **options)


def table(wrong=(), n: int = 400, sure: float = 0.9) -> Predictions:
    """Classify A and N in turn, err in these records, and be so sure of every answer."""
    targets = np.arange(n) % 2
    predicted = np.where(np.isin(np.arange(n), list(wrong)), 1 - targets, targets)
    p = np.where(predicted == 0, sure, 1 - sure)
    return predictions_of(targets, np.stack([p, 1 - p], axis=1))


def four_classes(rng, n: int = 300, groups=None) -> Predictions:
    """One model of the Challenge's classes, with equal scores among its answers."""
    targets = rng.integers(0, 4, n)
    odds = rng.normal(size=(n, 4))
    odds[np.arange(n), targets] += 1
    powers = np.exp(odds.round(1))
    return Predictions(
        tuple(f"A{i:05d}" for i in range(n)),
        targets,
        powers / powers.sum(axis=1, keepdims=True),
        ("N", "A", "O", "~"),
        "A",
        groups=groups,
    )
