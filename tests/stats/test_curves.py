"""Curves against scikit-learn's, and bands against resampled tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated import equal_models
from sklearn import metrics as sk

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.bootstrap import resample_weights
from ecg_mlflow.stats.curves import precision_recall_curve, roc_curve
from ecg_mlflow.stats.predictions import Predictions

GRID = np.linspace(0, 1, 201)


@pytest.fixture(scope="module")
def model():
    (found,) = equal_models(np.random.default_rng(1), 1, n=300, share=0.3)
    # Rounded, so that scores tie.
    return replace(found, probabilities=np.round(found.probabilities, 2))


def weights_of(model, n: int = 100):
    return resample_weights(len(model), n, seed=2)


def test_the_roc_curve_is_scikit_learns(model):
    rates, sensitivity, _ = sk.roc_curve(model.is_positive, model.scores, drop_intermediate=False)
    # Between thresholds straight lines, at a rise its top.
    tops = {rate: sensitivity[rates == rate].max() for rate in np.unique(rates)}
    expected = np.interp(GRID, list(tops), list(tops.values()))
    found = roc_curve([model], weights_of(model), GRID)
    inside = ~np.isin(np.round(GRID, 12), np.round(list(tops), 12))
    np.testing.assert_allclose(found.y[inside], expected[inside], atol=0.02)
    assert np.trapezoid(found.y, GRID) == pytest.approx(
        sk.roc_auc_score(model.is_positive, model.scores), abs=0.01
    )


def test_the_area_of_the_precision_recall_steps_is_average_precision(model):
    fine = np.linspace(0, 1, 2001)
    found = precision_recall_curve([model], weights_of(model, 2), fine)
    expected = sk.average_precision_score(model.is_positive, model.scores)
    assert found.y[1:].mean() == pytest.approx(expected, abs=0.002)


def test_curves_worked_by_hand():
    # From the highest score: A, NO, (A, NO), NO.
    scores = np.array([0.9, 0.7, 0.5, 0.5, 0.1])
    one = Predictions(
        tuple("abcde"),
        np.array([1, 0, 1, 0, 0]),
        np.stack([1 - scores, scores], 1),
        ("NO", "A"),
        "A",
    )
    weights = np.array([[1, 1, 1, 1, 1], [1, 0, 2, 1, 1], [0, 1, 0, 2, 2]])
    roc = roc_curve([one], weights, np.array([0, 1 / 3, 1 / 2, 2 / 3, 1]), level=0.999)
    np.testing.assert_allclose(roc.y, [1 / 2, 1 / 2, 3 / 4, 1, 1])
    # The second resample ends its tie at one half; the third, without A, has no curve.
    np.testing.assert_allclose(roc.high, [1 / 2, 7 / 9, 1, 1, 1], atol=1e-3)
    recall = precision_recall_curve([one], weights, np.array([0, 1 / 2, 0.51, 1]))
    np.testing.assert_allclose(recall.y, [1, 1, 1 / 2, 1 / 2])


def test_bands_hold_the_curve_and_narrow_with_more_records(model):
    (many,) = equal_models(np.random.default_rng(1), 1, n=3000, share=0.3)
    for curve_of in (roc_curve, precision_recall_curve):
        few, lots = (curve_of([one], weights_of(one), GRID) for one in (model, many))
        middle = slice(40, 160)
        assert (few.low <= few.y + 1e-9)[middle].all()
        assert (few.y <= few.high + 1e-9)[middle].all()
        widths = [(one.high - one.low)[middle].mean() for one in (few, lots)]
        assert widths[1] < 0.6 * widths[0]


def test_the_curve_of_repetitions_is_the_mean_of_theirs(model):
    (other,) = equal_models(np.random.default_rng(4), 1, n=300, share=0.3)
    other = replace(other, targets=model.targets)
    each = [roc_curve([one], weights_of(model), GRID).y for one in (model, other)]
    both = roc_curve([model, other], weights_of(model), GRID).y
    np.testing.assert_allclose(both, np.mean(each, axis=0))


def test_one_kind_of_records_has_no_curve(model):
    alone = replace(model, targets=np.zeros_like(model.targets))
    with pytest.raises(PredictionsError, match="a curve needs records of both kinds"):
        roc_curve([alone], weights_of(model), GRID)
