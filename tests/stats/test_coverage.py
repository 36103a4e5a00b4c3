"""Intervals hold the truth as often as they say: simulations."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import equal_models, truth

from ecg_mlflow.stats.bootstrap import resample_weights, resampled_metrics
from ecg_mlflow.stats.intervals import records_interval, t_interval

METRICS = ("f1", "sensitivity", "specificity", "accuracy", "precision", "roc_auc")


@pytest.mark.parametrize(
    ("n_sets", "least", "most"),
    [(60, 0.85, 1), pytest.param(400, 0.92, 0.98, marks=pytest.mark.nightly)],
)
def test_intervals_over_records_hold_the_truth_in_95_of_100_test_sets(n_sets, least, most):
    true, hits = truth(), dict.fromkeys(METRICS, 0)
    for seed in range(n_sets):
        (model,) = equal_models(np.random.default_rng([seed, 3]), 1)
        weights = resample_weights(len(model), 1000, seed)
        resampled = resampled_metrics(model, weights, METRICS)
        for name in METRICS:
            value = model.metrics[name]
            found = records_interval([model], name, value, resampled[name])
            hits[name] += true[name] in found
    print({name: count / n_sets for name, count in hits.items()})
    for name, count in hits.items():
        assert least <= count / n_sets <= most, name


@pytest.mark.parametrize("n", [2, 3, 10])
def test_intervals_over_repetitions_hold_the_truth(n):
    rng = np.random.default_rng(n)
    hits = sum(0.8 in t_interval(rng.normal(0.8, 0.03, n).tolist()) for _ in range(2000))
    assert 0.94 <= hits / 2000 <= 0.96
