"""Metrics against scikit-learn and values worked by hand; weightings against written-out tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated import four_classes, predictions_of
from sklearn import metrics as sk

from ecg_mlflow.stats.bootstrap import resample_weights
from ecg_mlflow.stats.metrics import class_suffix, weighted_metrics
from ecg_mlflow.stats.predictions import Predictions


def random_records(n: int, classes) -> Predictions:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, len(classes), n)
    return predictions_of(targets, rng.dirichlet(np.ones(len(classes)), n), classes)


def several_classes(n: int) -> Predictions:
    rng = np.random.default_rng(0)
    targets = rng.random((n, 3)) < [0.3, 0.2, 0.4]
    scores = 1 / (1 + np.exp(-(2.5 * targets - 1 + rng.normal(size=(n, 3)))))
    return predictions_of(targets, scores, ("AF", "RBBB", "PVC"), "RBBB")


def columns_of(*weights) -> np.ndarray:
    return np.array(weights, np.float32).T


@pytest.mark.parametrize("classes", [["A", "NO"], ["NO", "A"], ["N", "A", "O"], "several"])
def test_metrics_are_those_of_scikit_learn(classes):
    one = several_classes(500) if classes == "several" else random_records(200, classes)
    targets, scores, place = one.targets, one.probabilities, one.place
    truth, called = one.truth_by_class[:, place], one.predicted_by_class[:, place]
    predicted = scores >= 0.5 if one.is_multilabel else scores.argmax(axis=1)
    np.testing.assert_array_equal(one.predicted, predicted)
    expected = {
        "f1": sk.f1_score(truth, called),
        "sensitivity": sk.recall_score(truth, called),
        "specificity": sk.recall_score(~truth, ~called),
        "precision": sk.precision_score(truth, called),
        "roc_auc": sk.roc_auc_score(truth, scores[:, place]),
        "average_precision": sk.average_precision_score(truth, scores[:, place]),
        "brier": sk.brier_score_loss(truth, scores[:, place]),
        "accuracy": sk.accuracy_score(targets, predicted),
        "f1_macro": sk.f1_score(targets, predicted, average="macro"),
    }
    each = sk.f1_score(targets, predicted, average=None)
    expected |= {f"f1_{name}": value for name, value in zip(one.classes, each, strict=True)}
    if one.is_multilabel:
        expected |= {
            "f1_micro": sk.f1_score(targets, predicted, average="micro"),
            "roc_auc_macro": sk.roc_auc_score(targets, scores, average="macro"),
            "average_precision_macro": sk.average_precision_score(targets, scores),
            "log_loss": np.mean([sk.log_loss(targets[:, i], scores[:, i]) for i in range(3)]),
        }
    else:
        expected["log_loss"] = sk.log_loss(targets, scores)
        matrix = sk.confusion_matrix(targets, predicted)  # true classes in its rows
        np.testing.assert_array_equal(one.confusion, matrix)
    assert one.metrics == pytest.approx(expected)
    assert all(type(value) is float for value in one.metrics.values())


def test_the_score_of_the_challenge_worked_by_hand():
    # Rows: truth N, A, O, ~; columns: predictions. From the Challenge's rule,
    # F1n = 2 * 40 / (50 + 50), F1a = 2 * 10 / (14 + 16), F1o = 2 * 12 / (24 + 20);
    # the noisy class is in the sums and not in the mean.
    matrix = np.array([[40, 2, 6, 2], [1, 10, 2, 1], [8, 3, 12, 1], [1, 1, 0, 5]])
    expected = (80 / 100 + 20 / 30 + 24 / 44) / 3
    truth, predicted = np.nonzero(matrix)
    counts = matrix[truth, predicted]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        classes = np.array(list("NAO~"))[order]
        place = np.argsort(order)
        one = predictions_of(place[truth], np.eye(4)[place[predicted]], classes)
        assert one.take(np.repeat(np.arange(len(truth)), counts)).metrics["cinc2017"] == (
            pytest.approx(expected)
        )
        found = weighted_metrics(one, columns_of(counts, 3 * counts), ["cinc2017"])["cinc2017"]
        assert found == pytest.approx([expected, expected])
    assert "cinc2017" not in random_records(100, "NAOX").metrics


def test_metrics_that_the_records_do_not_define_are_left_out():
    # No record is of A, and none is predicted as A.
    found = predictions_of([0, 0], [[0.9, 0.1], [0.8, 0.2]], ("NO", "A")).metrics
    assert set(found) == {"accuracy", "specificity", "log_loss", "brier", "f1_NO"}
    assert found["accuracy"] == found["specificity"] == found["f1_NO"] == 1
    # A class that is never predicted has F1 zero.
    found = predictions_of([0, 1], [[0.9, 0.1], [0.8, 0.2]], ("NO", "A")).metrics
    assert found["f1"] == found["sensitivity"] == 0
    assert "precision" not in found
    # One without a chance costs much but not infinitely.
    found = predictions_of([1], [[1.0, 0.0]], ("NO", "A")).metrics
    assert found["log_loss"] == pytest.approx(708.4, abs=0.1)
    # A class that occurs nowhere has no metric, nor is there a mean with it.
    targets, scores = np.array([[1, 0], [0, 0]], bool), [[0.9, 0.1], [0.2, 0.3]]
    found = predictions_of(targets, scores, ("A", "PVC")).metrics
    assert found["f1_A"] == 1
    assert not {"f1_PVC", "f1_macro", "roc_auc_macro"} & set(found)


def test_class_names_are_spelled_as_mlflow_allows():
    names = {"A": "A", "~": "noisy", "AF/AFL": "AF_AFL", "1 AVB": "1 AVB"}
    assert {name: class_suffix(name) for name in names} == names


@pytest.mark.parametrize("kind", ["threshold", "no threshold", "ties", "several classes"])
def test_weighted_metrics_are_those_of_the_table_written_out(kind):
    one = four_classes(np.random.default_rng(1), 60)
    if kind == "threshold":
        one = replace(one, threshold=0.3)
    if kind == "ties":
        one = replace(one, probabilities=one.probabilities.round(1))
        assert len(np.unique(one.scores)) < 12
    if kind == "several classes":
        one = several_classes(60)
    weights, names = resample_weights(60, 40, seed=1), list(one.metrics)
    assert {"f1", "f1_macro", "roc_auc", "average_precision", "brier"} <= set(names)
    found = weighted_metrics(one, columns_of(*weights), names)
    for row, counts in enumerate(weights):
        written_out = one.take(np.repeat(np.arange(60), counts)).metrics
        given = {name: found[name][row] for name in names if np.isfinite(found[name][row])}
        assert given == pytest.approx(written_out, abs=1e-12)


def test_what_a_weighting_does_not_define_is_nan():
    one = predictions_of([1, 0, 0], [[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]], ("NO", "A"))
    columns = columns_of([0, 1, 2], [3, 0, 0], [0, 0, 3], [1, 1, 1])
    found = weighted_metrics(one, columns, ["f1", "sensitivity", "specificity", "roc_auc"])
    nan = np.nan
    np.testing.assert_array_equal(found["f1"], [0, 1, nan, 2 / 3])
    np.testing.assert_array_equal(found["sensitivity"], [nan, 1, nan, 1])
    np.testing.assert_array_equal(found["specificity"], [2 / 3, nan, 1, 1 / 2])
    np.testing.assert_array_equal(found["roc_auc"], [nan, nan, nan, 1])
    none = weighted_metrics(predictions_of([1], [[0.9, 0.1]]), columns_of([1]), ["roc_auc", "x"])
    assert np.isnan(none.pop("roc_auc")).all()
    assert not none
