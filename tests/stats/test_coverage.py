"""Intervals hold the truth as often as they say: simulations."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import equal_models, truth

from ecg_mlflow.stats.bootstrap import resample_weights, resampled_metrics
from ecg_mlflow.stats.intervals import records_interval, t_interval

METRICS = ("f1", "sensitivity", "specificity", "accuracy", "precision", "roc_auc")
SETS = 400


@pytest.mark.slow
def test_intervals_over_records_hold_the_truth_in_95_of_100_test_sets():
    true, hits = truth(), dict.fromkeys(METRICS, 0)
    for seed in range(SETS):
        (model,) = equal_models(np.random.default_rng([seed, 3]), 1)
        weights = resample_weights(len(model), 1000, seed)
        resampled = resampled_metrics(model, weights, METRICS)
        for name in METRICS:
            value = model.metrics[name]
            found = records_interval([model], name, value, resampled[name])
            hits[name] += true[name] in found
    print({name: count / SETS for name, count in hits.items()})
    for name, count in hits.items():
        assert 0.92 <= count / SETS <= 0.98, name


@pytest.mark.parametrize("n", [2, 3, 10])
def test_intervals_over_repetitions_hold_the_truth(n):
    rng = np.random.default_rng(n)
    hits = sum(0.8 in t_interval(rng.normal(0.8, 0.03, n).tolist()) for _ in range(2000))
    assert 0.94 <= hits / 2000 <= 0.96
