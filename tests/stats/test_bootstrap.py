"""Resamples of records and patients, and metrics of them."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import four_classes

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats import bootstrap
from ecg_mlflow.stats.bootstrap import blocks, resample_weights, resampled_metrics, with_original


def test_each_resample_draws_as_many_records_as_there_are():
    weights = resample_weights(50, 3000, seed=1)
    assert weights.shape == (3000, 50)
    assert (weights.sum(axis=1) == 50).all()
    # Multinomial: mean 1, variance 1 - 1/n of each, covariance -1/n of two.
    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.1)
    covariance = np.cov(weights, rowvar=False)
    assert np.diag(covariance).mean() == pytest.approx(1 - 1 / 50, abs=0.02)
    assert covariance[~np.eye(50, dtype=bool)].mean() == pytest.approx(-1 / 50, abs=0.001)
    np.testing.assert_array_equal(resample_weights(50, 3000, 1), weights)
    assert (resample_weights(50, 3000, 2) != weights).any()


def test_records_of_a_patient_are_drawn_together():
    weights = resample_weights(5, 500, groups=np.array([7, 3, 7, 7, 9]))
    assert (weights[:, [0]] == weights[:, [2, 3]]).all()
    # Three patients are drawn, however many records they have.
    assert (weights[:, [0, 1, 4]].sum(axis=1) == 3).all()
    assert len(np.unique(weights.sum(axis=1))) > 1


def test_what_can_not_be_drawn_is_an_error():
    for n, n_resamples in ((0, 1), (3, 0)):
        with pytest.raises(PredictionsError, match="at least 1"):
            resample_weights(n, n_resamples)
    with pytest.raises(PredictionsError, match="3 records need as many groups"):
        resample_weights(3, groups=np.zeros(2, int))


def test_blocks_and_the_original_before_them_change_nothing(monkeypatch):
    one = four_classes(np.random.default_rng(0), 80, groups=np.arange(80) // 3)
    weights, names = resample_weights(80, 25, seed=5, groups=one.groups), list(one.metrics)
    found = resampled_metrics(one, with_original(weights), names)
    assert {name: values[0] for name, values in found.items()} == pytest.approx(one.metrics)
    monkeypatch.setattr(bootstrap, "_BLOCK", 80 * 7)
    assert [columns.shape[1] for _, columns in blocks(weights)] == [7, 7, 7, 4]
    for name, values in resampled_metrics(one, weights, names).items():
        np.testing.assert_allclose(values, found[name][1:], rtol=1e-13)


def test_unknown_metrics_and_other_records_are_errors():
    one = four_classes(np.random.default_rng(0), 20)
    with pytest.raises(PredictionsError, match="f2: no metric of these predictions; they have"):
        resampled_metrics(one, resample_weights(20, 3), ["f1", "f2"])
    with pytest.raises(PredictionsError, match="weights of 19 records don't fit 20"):
        resampled_metrics(one, resample_weights(19, 3), ["f1"])
