"""Curves against scikit-learn's, and bands against resampled tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated import equal_models, predictions_of
from sklearn import metrics as sk

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.bootstrap import resample_weights
from ecg_mlflow.stats.curves import GRID, ranking_curves


@pytest.fixture(scope="module")
def model():
    (found,) = equal_models(np.random.default_rng(1), 1, n=300, share=0.3)
    # Rounded, so that scores tie.
    return replace(found, probabilities=np.round(found.probabilities, 2))


def curves_of(*repetitions):
    return ranking_curves(repetitions, resample_weights(len(repetitions[0]), 100, seed=2))


def test_the_roc_curve_is_scikit_learns(model):
    rates, sensitivity, _ = sk.roc_curve(model.is_positive, model.scores, drop_intermediate=False)
    # Between thresholds straight lines, at a rise its top.
    tops = {rate: sensitivity[rates == rate].max() for rate in np.unique(rates)}
    found, _ = curves_of(model)
    np.testing.assert_allclose(found.y, np.interp(GRID, list(tops), list(tops.values())), atol=0.02)
    area = sk.roc_auc_score(model.is_positive, model.scores)
    assert np.trapezoid(found.y, GRID) == pytest.approx(area, abs=0.01)


def test_the_area_of_the_precision_recall_steps_is_average_precision(model):
    # Of 50 positive records each step is two points wide.
    positive, others = np.flatnonzero(model.is_positive), np.flatnonzero(~model.is_positive)
    one = model.take(np.concatenate([positive[:50], others]))
    _, found = curves_of(one)
    expected = sk.average_precision_score(one.is_positive, one.scores)
    assert found.y[1:].mean() == pytest.approx(expected)


def test_curves_worked_by_hand():
    # From the highest score: A, NO, (A, NO), NO, NO.
    scores = np.array([0.9, 0.7, 0.5, 0.5, 0.3, 0.1])
    one = predictions_of([0, 1, 0, 1, 1, 1], np.stack([scores, 1 - scores], 1), ("A", "NO"))
    # The first resample has three positive records and two others, the second has no curve.
    weights = np.array([[1, 0, 2, 1, 1, 0], [0, 1, 0, 2, 2, 1]])
    roc, recall = ranking_curves([one], weights)
    np.testing.assert_allclose(roc.y[[0, 25, 37, 50, 100]], [0.5, 0.5, 0.74, 1, 1])
    np.testing.assert_allclose(roc.high[[0, 25, 50, 100]], [1 / 3, 2 / 3, 1, 1])
    np.testing.assert_allclose(recall.y[[0, 50, 51, 100]], [1, 1, 1 / 2, 1 / 2])
    np.testing.assert_allclose(recall.low[[0, 33, 34, 100]], [1, 1, 3 / 4, 3 / 4])


def test_bands_hold_the_curve_and_narrow_with_more_records(model):
    (many,) = equal_models(np.random.default_rng(1), 1, n=3000, share=0.3)
    middle = slice(20, 80)
    for few, lots in zip(curves_of(model), curves_of(many), strict=True):
        assert (few.low <= few.y + 1e-9)[middle].all()
        assert (few.y <= few.high + 1e-9)[middle].all()
        widths = [(one.high - one.low)[middle].mean() for one in (few, lots)]
        assert widths[1] < 0.6 * widths[0]


def test_the_curve_of_repetitions_is_the_mean_of_theirs(model):
    (other,) = equal_models(np.random.default_rng(4), 1, n=300, share=0.3)
    other = replace(other, targets=model.targets)
    every = (curves_of(*models) for models in ([model, other], [model], [other]))
    for both, *each in zip(*every, strict=True):
        np.testing.assert_allclose(both.y, np.mean([one.y for one in each], axis=0))


def test_one_kind_of_records_has_no_curve(model):
    with pytest.raises(PredictionsError, match="a curve needs records of both kinds"):
        curves_of(replace(model, targets=np.zeros_like(model.targets)))
