"""Intervals against SciPy, values worked by hand, and simulations of how often they hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from simulated import equal_models, truth

from ecg_mlflow.stats.bootstrap import resample_weights, resampled_metrics
from ecg_mlflow.stats.intervals import (
    Interval,
    as_normal,
    as_student,
    metric_intervals,
    records_interval,
    t_interval,
    wilson_interval,
)


def bounds(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def test_students_interval_is_that_of_scipy():
    values = [0.71, 0.75, 0.78]
    expected = stats.t.interval(0.9, 2, np.mean(values), stats.sem(values))
    assert bounds(t_interval(values, 0.9)) == pytest.approx(expected)
    assert not t_interval([0.7]).is_known


@pytest.mark.parametrize(("part", "whole"), [(0, 20), (3, 20), (20, 20), (190, 200)])
def test_wilsons_interval_is_that_of_scipy(part, whole):
    expected = stats.binomtest(part, whole).proportion_ci(0.9, "wilson")
    assert bounds(wilson_interval(part, whole, 0.9)) == pytest.approx(
        [expected.low, expected.high], abs=1e-12
    )
    assert np.isnan(bounds(wilson_interval(0, 0))).all()


def test_intervals_over_records_have_the_width_that_theory_gives():
    # Sensitivity is a binomial share: its log-odds have the variance 1 / (n p (1 - p)).
    (one,) = equal_models(np.random.default_rng(0), 1, 2000)
    resampled = resampled_metrics(one, resample_weights(2000, 4000), ["sensitivity"])
    value, n = one.metrics["sensitivity"], int(one.is_positive.sum())
    found = records_interval([one], "sensitivity", value, resampled["sensitivity"])
    odds = np.log(value / (1 - value))
    half = stats.t.ppf(0.975, n - 1) / np.sqrt(n * value * (1 - value))
    expected = 1 / (1 + np.exp(-np.array([odds - half, odds + half])))
    assert bounds(found) == pytest.approx(expected, abs=0.003)


def test_losses_have_percentiles_and_what_is_not_defined_has_no_interval():
    (one,) = equal_models(np.random.default_rng(0), 1, 200)
    resampled = np.array([np.nan, *range(101), np.nan])
    assert bounds(records_interval([one], "brier", 1.0, resampled, 0.9)) == pytest.approx([5, 95])
    for value, values in ((np.nan, np.ones(9)), (0.5, np.full(9, np.nan))):
        assert not records_interval([one], "f1", value, values).is_known


@pytest.mark.parametrize(
    "name", ["sensitivity", "specificity", "accuracy", "precision", "roc_auc", "average_precision"]
)
def test_records_without_an_error_don_t_make_sure_that_there_is_none_elsewhere(name):
    (one,) = equal_models(np.random.default_rng(0), 1, 60)
    one = replace(one, probabilities=np.eye(2)[one.targets])
    resampled = resampled_metrics(one, resample_weights(60, 200), [name])[name]
    whole = {"specificity": (~one.is_positive).sum(), "accuracy": 60}
    n = int(whole.get(name, one.is_positive.sum()))
    assert records_interval([one], name, 1.0, resampled) == wilson_interval(n, n)
    of_patients = replace(one, groups=np.arange(60) // 2)
    wider = records_interval([of_patients], name, 1.0, resampled)
    assert wider == wilson_interval(n / 2, n / 2)


def test_f1_without_an_error_has_the_interval_of_its_share_of_counts():
    (one,) = equal_models(np.random.default_rng(0), 1, 60)
    one = replace(one, probabilities=np.eye(2)[one.targets])
    share = wilson_interval(one.is_positive.sum(), one.is_positive.sum()).low
    found = records_interval([one], "f1", 1.0, np.ones(100))
    assert bounds(found) == pytest.approx([2 * share / (1 + share), 1])
    assert records_interval([one], "f1_macro", 1.0, np.ones(100)) == Interval(1, 1)
    none_found = records_interval([one], "roc_auc", 0.0, np.zeros(100))
    assert none_found.low == 0 < none_found.high < 1


def test_students_values_and_normal_ones_have_the_same_tails():
    found = as_normal([-1.0, 0.0, 2.0], 5)
    assert stats.norm.sf(found) == pytest.approx(stats.t.sf([-1.0, 0.0, 2.0], 5))
    assert as_student(found, 5) == pytest.approx([-1.0, 0.0, 2.0], abs=1e-9)


@pytest.mark.parametrize(
    ("n_sets", "least", "most"),
    [(60, 0.85, 1), pytest.param(400, 0.92, 0.98, marks=pytest.mark.nightly)],
)
def test_intervals_over_records_hold_the_truth_in_95_of_100_test_sets(n_sets, least, most):
    names = ("f1", "sensitivity", "specificity", "accuracy", "precision", "roc_auc")
    true, hits = truth(), dict.fromkeys(names, 0)
    for seed in range(n_sets):
        (model,) = equal_models(np.random.default_rng([seed, 3]), 1)
        found = metric_intervals(model, names, n_resamples=1000, seed=seed)
        for name, interval in found.items():
            hits[name] += true[name] in interval
    for name, count in hits.items():
        assert least <= count / n_sets <= most, name


@pytest.mark.parametrize("n", [2, 3, 10])
def test_intervals_over_repetitions_hold_the_truth(n):
    rng = np.random.default_rng(n)
    hits = sum(0.8 in t_interval(rng.normal(0.8, 0.03, n).tolist()) for _ in range(2000))
    assert 0.94 <= hits / 2000 <= 0.96
