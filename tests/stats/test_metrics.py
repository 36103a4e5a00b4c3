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
from ecg_mlflow.stats.ranks import ranks, sums_by


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


def of_one_class(is_positive, called, scores) -> dict[str, float]:
    return {
        "f1": sk.f1_score(is_positive, called),
        "sensitivity": sk.recall_score(is_positive, called),
        "specificity": sk.recall_score(~is_positive, ~called),
        "precision": sk.precision_score(is_positive, called),
        "roc_auc": sk.roc_auc_score(is_positive, scores),
        "average_precision": sk.average_precision_score(is_positive, scores),
        "brier": sk.brier_score_loss(is_positive, scores),
    }


@pytest.mark.parametrize("classes", [["A", "NO"], ["NO", "A"], ["N", "A", "O"]])
def test_metrics_are_those_of_scikit_learn(classes):
    one = random_records(200, classes)
    a, predicted = classes.index("A"), one.probabilities.argmax(axis=1)
    each = sk.f1_score(one.targets, predicted, average=None)
    assert one.metrics == pytest.approx(
        {
            **of_one_class(one.targets == a, predicted == a, one.probabilities[:, a]),
            "accuracy": sk.accuracy_score(one.targets, predicted),
            "f1_macro": sk.f1_score(one.targets, predicted, average="macro"),
            "log_loss": sk.log_loss(one.targets, one.probabilities),
            **{f"f1_{name}": each[i] for i, name in enumerate(classes)},
        }
    )
    assert all(type(value) is float for value in one.metrics.values())


def test_metrics_of_several_classes_a_record_are_those_of_scikit_learn():
    one = several_classes(500)
    targets, scores, predicted = one.targets, one.probabilities, one.probabilities >= 0.5
    each = sk.f1_score(targets, predicted, average=None)
    losses = [sk.log_loss(targets[:, i], scores[:, i]) for i in range(3)]
    assert one.metrics == pytest.approx(
        {
            **of_one_class(targets[:, 1], predicted[:, 1], scores[:, 1]),
            "accuracy": sk.accuracy_score(targets, predicted),
            "f1_macro": sk.f1_score(targets, predicted, average="macro"),
            "f1_micro": sk.f1_score(targets, predicted, average="micro"),
            "roc_auc_macro": sk.roc_auc_score(targets, scores, average="macro"),
            "average_precision_macro": sk.average_precision_score(targets, scores),
            "log_loss": np.mean(losses),
            **{f"f1_{name}": each[i] for i, name in enumerate(one.classes)},
        }
    )


def test_several_classes_by_hand():
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]], bool)
    scores = np.array([[0.9, 0.4, 0.1], [0.6, 0.7, 0.1], [0.2, 0.1, 0.3], [0.1, 0.8, 0.9]])
    one = predictions_of(targets, scores, ("AF", "RBBB", "PVC"), "AF")
    found = one.metrics
    # AF: both found. RBBB: one found, one missed, one false alarm. PVC: found.
    assert (found["f1_AF"], found["f1_RBBB"], found["f1_PVC"]) == (1, 0.5, 1)
    assert found["f1_macro"] == pytest.approx(2.5 / 3)
    assert found["f1_micro"] == pytest.approx(2 * 4 / (2 * 4 + 2))
    assert found["accuracy"] == 0.5  # the third is of no class, and predicted to be of none
    assert one.is_correct.tolist() == [False, False, True, True]
    nowhere = predictions_of(
        targets[:, [0, 2]] & [True, False], scores[:, [0, 2]], ("AF", "PVC"), "AF"
    )
    assert "roc_auc" in nowhere.metrics
    assert not {"f1_micro", "roc_auc_macro", "average_precision_macro"} <= set(nowhere.metrics)


def test_a_class_that_occurs_nowhere_has_no_metric():
    targets = np.array([[1, 0], [0, 0]], bool)
    found = predictions_of(targets, np.array([[0.9, 0.1], [0.2, 0.3]]), ("AF", "PVC"), "AF").metrics
    assert found["f1_AF"] == 1
    assert not {"f1_PVC", "f1_macro", "roc_auc_macro"} & set(found)


def test_the_confusion_matrix_has_true_classes_in_its_rows():
    one = random_records(100, "ABCD")
    predicted = one.probabilities.argmax(axis=1)
    np.testing.assert_array_equal(one.confusion, sk.confusion_matrix(one.targets, predicted))
    assert predictions_of([0, 0], np.eye(3)[[2, 2]], "ABC").confusion[0, 2] == 2


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


def test_the_score_of_the_challenge_is_given_for_its_classes_only():
    found = random_records(100, "NAO~").metrics
    assert found["cinc2017"] == pytest.approx((found["f1_N"] + found["f1_A"] + found["f1_O"]) / 3)
    assert "f1_noisy" in found
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


def test_models_without_positive_records_have_no_ranked_metric():
    one = predictions_of([0], [[0.9, 0.1]], ("NO", "A"))
    found = weighted_metrics(one, columns_of([1]), ["roc_auc", "average_precision", "no_metric"])
    assert set(found) == {"roc_auc", "average_precision"}
    assert np.isnan(found["roc_auc"]).all()


def test_sums_are_by_number_and_empty_ones_are_zero():
    found = sums_by(np.array([3, 0, 3]), 4, columns_of([1, 2, 3], [10, 20, 30]))
    np.testing.assert_array_equal(found, [[2, 20], [0, 0], [0, 0], [4, 40]])


def test_ranks_count_what_stands_at_and_above_each_score():
    is_positive = np.array([True, False, False, True, False])
    scores = np.array([0.9, 0.9, 0.7, 0.5, 0.1])
    found = ranks(is_positive, scores, columns_of([1, 1, 1, 1, 1], [2, 0, 3, 1, 5]))
    np.testing.assert_array_equal(found.here, [[1, 2], [1, 1]])
    np.testing.assert_array_equal(found.positive, [[1, 2], [2, 3]])
    np.testing.assert_array_equal(found.negative, [[1, 0], [2, 3]])
    np.testing.assert_array_equal(found.above, [[0, 0], [2, 3]])
    np.testing.assert_array_equal(found.n_negative, [3, 8])
