"""Metrics against scikit-learn and against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from ecg_mlflow.stats.metrics import (
    cinc2017_score,
    class_f1,
    class_suffix,
    classification_metrics,
    confusion_matrix,
    log_loss,
)


def random_predictions(n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, n_classes, n), rng.dirichlet(np.ones(n_classes), n)


@pytest.mark.parametrize("classes", [["A", "NO"], ["NO", "A"], ["N", "A", "O"]])
def test_metrics_equal_those_of_scikit_learn(classes):
    targets, probabilities = random_predictions(200, len(classes))
    found = classification_metrics(targets, probabilities, classes, "A")
    a, predicted = classes.index("A"), probabilities.argmax(axis=1)
    is_a, said_a = targets == a, predicted == a
    each = sk.f1_score(targets, predicted, average=None)
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(targets, predicted),
            "f1": sk.f1_score(is_a, said_a),
            "f1_macro": sk.f1_score(targets, predicted, average="macro"),
            "sensitivity": sk.recall_score(is_a, said_a),
            "specificity": sk.recall_score(~is_a, ~said_a),
            "precision": sk.precision_score(is_a, said_a),
            "log_loss": sk.log_loss(targets, probabilities),
            "roc_auc": sk.roc_auc_score(is_a, probabilities[:, a]),
            "average_precision": sk.average_precision_score(is_a, probabilities[:, a]),
            "brier": sk.brier_score_loss(is_a, probabilities[:, a]),
            **{f"f1_{name}": each[i] for i, name in enumerate(classes)},
        }
    )
    assert all(type(value) is float for value in found.values())


def test_the_confusion_matrix_has_true_classes_in_its_rows():
    targets, probabilities = random_predictions(100, 4)
    predicted = probabilities.argmax(axis=1)
    found = confusion_matrix(targets, predicted, 4)
    np.testing.assert_array_equal(found, sk.confusion_matrix(targets, predicted))
    assert confusion_matrix(np.array([0, 0]), np.array([2, 2]), 3)[0, 2] == 2


def test_the_score_of_the_challenge_worked_by_hand():
    # Rows: truth N, A, O, ~; columns: predictions. From the Challenge's rule,
    # F1n = 2 * 40 / (50 + 50), F1a = 2 * 10 / (14 + 16), F1o = 2 * 12 / (24 + 20);
    # the noisy class is in the sums and not in the mean.
    matrix = np.array([[40, 2, 6, 2], [1, 10, 2, 1], [8, 3, 12, 1], [1, 1, 0, 5]])
    expected = (80 / 100 + 20 / 30 + 24 / 44) / 3
    assert cinc2017_score(matrix, ["N", "A", "O", "~"]) == pytest.approx(expected)
    order = [3, 1, 0, 2]
    shuffled = matrix[np.ix_(order, order)]
    assert cinc2017_score(shuffled, ["~", "A", "N", "O"]) == pytest.approx(expected)


def test_the_score_of_the_challenge_is_given_for_its_classes_only():
    targets, probabilities = random_predictions(100, 4)
    four = classification_metrics(targets, probabilities, ["N", "A", "O", "~"], "A")
    assert four["cinc2017"] == pytest.approx((four["f1_N"] + four["f1_A"] + four["f1_O"]) / 3)
    assert "f1_noisy" in four
    others = classification_metrics(targets, probabilities, ["N", "A", "O", "X"], "A")
    assert "cinc2017" not in others


def test_metrics_that_the_records_do_not_define_are_left_out():
    # Nobody has A, and nobody is said to have it.
    targets, probabilities = np.array([0, 0]), np.array([[0.9, 0.1], [0.8, 0.2]])
    found = classification_metrics(targets, probabilities, ["NO", "A"], "A")
    assert set(found) == {"accuracy", "specificity", "log_loss", "brier", "f1_NO"}
    assert found["accuracy"] == found["specificity"] == found["f1_NO"] == 1


def test_a_class_that_is_never_predicted_has_f1_zero():
    targets, probabilities = np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]])
    found = classification_metrics(targets, probabilities, ["NO", "A"], "A")
    assert found["f1"] == found["sensitivity"] == 0
    assert "precision" not in found
    assert np.isnan(class_f1(np.zeros((2, 2), np.int64))).all()


def test_a_class_without_a_chance_costs_much_but_not_infinitely():
    assert log_loss(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(708.4, abs=0.1)


@pytest.mark.parametrize(
    ("name", "expected"), [("A", "A"), ("~", "noisy"), ("AF/AFL", "AF_AFL"), ("1 AVB", "1 AVB")]
)
def test_class_names_are_spelled_as_mlflow_allows(name, expected):
    assert class_suffix(name) == expected
