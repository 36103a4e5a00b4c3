"""Calibration and thresholds against what they must be by hand, by SciPy and by brute force."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.special import expit, softmax
from simulated import predictions_of
from sklearn.metrics import f1_score

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.calibration import calibrated, choose_threshold, fit_temperature, reliability
from ecg_mlflow.stats.predictions import Predictions


def predictions(scores, positive) -> Predictions:
    p = np.asarray(scores, np.float64)
    return predictions_of(1 - np.asarray(positive, int), np.stack([p, 1 - p], 1))


def drawn(n: int, n_classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Draw logits, and classes with just these probabilities."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (n, n_classes))
    places = rng.random((n, 1))
    targets = (softmax(logits, axis=1).cumsum(axis=1) < places).sum(axis=1)
    return logits, np.minimum(targets, n_classes - 1)


@pytest.mark.parametrize("kind", ["of two", "of four", "several"])
@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_a_network_that_is_too_sure_or_not_sure_enough_is_mended(temperature, kind):
    logits, targets = drawn(20_000, n_classes=2 if kind == "of two" else 4)
    activation, of_logits = "softmax", partial(softmax, axis=1)
    if kind == "several":  # each class by itself
        activation, of_logits = "sigmoid", expit
        targets = np.random.default_rng(0).random(logits.shape) < expit(logits)
    given, truth = of_logits(logits / temperature), of_logits(logits)
    found = fit_temperature(predictions_of(targets, given, "ANO~"[: given.shape[1]]))
    assert found == pytest.approx(1 / temperature, rel=0.05)
    np.testing.assert_allclose(calibrated(given, 1 / temperature, activation), truth, atol=1e-9)
    edges = calibrated(np.array([[0.0, 1.0], [0.5, 0.5]]), 5.0, activation)
    assert np.isfinite(edges).all()
    assert edges[1].tolist() == [0.5, 0.5]


def test_a_temperature_of_one_changes_nothing_and_no_temperature_changes_the_order():
    given = np.array([[0.2, 0.8], [0.0, 1.0], [1.0, 0.0]])
    assert calibrated(given, 1.0).tolist() == given.tolist()
    assert np.argsort(calibrated(given, 5.0)[:, 0]).tolist() == [1, 0, 2]
    # Nor do certain and right records break the fit.
    assert np.isfinite(fit_temperature(predictions([1, 0, 1, 0], [1, 0, 1, 0])))


@pytest.mark.parametrize("rule", ["f1", "youden", "sensitivity=0.9", "specificity=0.95"])
def test_no_threshold_is_better(rule):
    rng = np.random.default_rng(0)
    positive = rng.random(80) < 0.3
    # Rounded, so that scores tie.
    scores = np.round(np.clip(rng.normal(0.3 + 0.3 * positive, 0.2), 0.01, 0.99), 2)
    chosen = choose_threshold(predictions(scores, positive), rule)

    def merit(threshold: float) -> float:
        called = scores >= threshold
        sensitivity, specificity = called[positive].mean(), (~called[~positive]).mean()
        if rule == "f1":
            return f1_score(positive, called, zero_division=0.0)
        if rule == "youden":
            return sensitivity + specificity
        if rule == "sensitivity=0.9":
            return specificity if sensitivity >= 0.9 else -1
        return sensitivity if specificity >= 0.95 else -1

    everything = np.arange(-0.005, 1.01, 0.01)
    assert merit(chosen) == pytest.approx(max(map(merit, everything)))
    assert chosen not in scores, "between two scores, not on one"


@pytest.mark.parametrize(
    ("labels", "rule", "expected"),
    [
        # Of the records at 0.1, 0.2, ...; behind each case the thresholds that are equally good.
        ("NNAA", "f1", 0.25),
        ("NNAA", "specificity=1.0", 0.25),
        ("ANNANNAA", "f1", 0.35),  # 0.05, 0.35, 0.65: F1 = 2/3
        ("NANANA", "youden", 0.35),  # 0.15, 0.35, 0.55: sensitivity + specificity = 4/3
        ("NANANANA", "youden", 0.35),  # 0.15, 0.35, 0.55, 0.75: of an even number the lower
        ("NAAAA", "sensitivity=0.5", 0.25),  # 0.15, 0.25, 0.35: no false alarm
        ("ANN", "sensitivity=1.0", 0.05),  # all are positive
        ("ANN", "specificity=1.0", 0.65),  # none is
    ],
)
def test_of_equally_good_thresholds_it_is_the_middle_one(labels, rule, expected):
    scores = np.arange(1, len(labels) + 1) / 10
    given = predictions(scores, [one == "A" for one in labels])
    assert choose_threshold(given, rule) == pytest.approx(expected)


def test_rules_that_are_none_and_records_of_one_class():
    for rule in ("f2", "sensitivity", "sensitivity=2", "specificity=", "=0.5"):
        with pytest.raises(PredictionsError, match=r"is no rule; there are f1, youden"):
            choose_threshold(predictions([0.1, 0.9], [0, 1]), rule)
    with pytest.raises(PredictionsError, match="0 of 2 validation records are A"):
        choose_threshold(predictions([0.1, 0.9], [0, 0]))


def test_bins_hold_equally_many_records():
    logits, targets = drawn(1000)
    given = predictions(softmax(logits, axis=1)[:, 0], targets == 0)
    table, order = reliability(given), np.argsort(given.scores)
    assert table.counts.tolist() == [100] * 10
    np.testing.assert_allclose(table.probability[3], given.scores[order][300:400].mean())
    np.testing.assert_allclose(table.observed[3], given.is_positive[order][300:400].mean())
    assert ((table.low <= table.observed) & (table.observed <= table.high)).all()
    np.testing.assert_array_equal(table.scores, given.scores[order])


def test_equal_probabilities_are_one_bin_which_counts_in_the_error_by_its_records():
    # Of 60 records at 0.1 a fifth are positive, of 20 at 0.7 all: gaps of 0.1 and of 0.3.
    table = reliability(predictions([0.1] * 60 + [0.7] * 20, [1] * 12 + [0] * 48 + [1] * 20))
    assert table.counts.tolist() == [60, 20]
    np.testing.assert_allclose([table.probability, table.observed], [[0.1, 0.7], [0.2, 1.0]])
    assert table.error == pytest.approx((60 * 0.1 + 20 * 0.3) / 80)
