"""Metrics of records that may be of several classes, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from ecg_mlflow.stats.bootstrap import resample_weights
from ecg_mlflow.stats.multilabel import multilabel_metrics, predicted_labels
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.stats.weighted import weighted_metrics

CLASSES = ("AF", "RBBB", "PVC")


def drawn(n, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.random((n, 3)) < [0.3, 0.2, 0.4]
    scores = 1 / (1 + np.exp(-(2.5 * targets - 1 + rng.normal(size=(n, 3)))))
    return targets, scores


@pytest.fixture
def predictions():
    targets, scores = drawn(300)
    return Predictions(tuple(f"R{i:03}" for i in range(300)), targets, scores, CLASSES, "RBBB")


def test_metrics_are_those_of_scikit_learn():
    targets, scores = drawn(500)
    found = multilabel_metrics(targets, scores, CLASSES, "RBBB")
    said = scores >= 0.5
    expected = {
        "f1_macro": reference.f1_score(targets, said, average="macro"),
        "f1_micro": reference.f1_score(targets, said, average="micro"),
        "accuracy": reference.accuracy_score(targets, said),
        "f1": reference.f1_score(targets[:, 1], said[:, 1]),
        "f1_AF": reference.f1_score(targets[:, 0], said[:, 0]),
        "f1_RBBB": reference.f1_score(targets[:, 1], said[:, 1]),
        "f1_PVC": reference.f1_score(targets[:, 2], said[:, 2]),
        "sensitivity": reference.recall_score(targets[:, 1], said[:, 1]),
        "specificity": reference.recall_score(~targets[:, 1], ~said[:, 1]),
        "precision": reference.precision_score(targets[:, 1], said[:, 1]),
        "roc_auc": reference.roc_auc_score(targets[:, 1], scores[:, 1]),
        "roc_auc_macro": reference.roc_auc_score(targets, scores, average="macro"),
        "average_precision": reference.average_precision_score(targets[:, 1], scores[:, 1]),
        "average_precision_macro": reference.average_precision_score(targets, scores),
        "brier": reference.brier_score_loss(targets[:, 1], scores[:, 1]),
        "log_loss": np.mean(
            [reference.log_loss(targets[:, i], scores[:, i]) for i in range(len(CLASSES))]
        ),
    }
    assert found == pytest.approx(expected)


def test_by_hand():
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]], bool)
    scores = np.array([[0.9, 0.4, 0.1], [0.6, 0.7, 0.1], [0.2, 0.1, 0.3], [0.1, 0.8, 0.9]])
    found = multilabel_metrics(targets, scores, CLASSES, "AF")
    # AF: both found. RBBB: one found, one missed, one invented. PVC: found.
    assert (found["f1_AF"], found["f1_RBBB"], found["f1_PVC"]) == (1, 0.5, 1)
    assert found["f1_macro"] == pytest.approx(2.5 / 3)
    assert found["f1_micro"] == pytest.approx(2 * 4 / (2 * 4 + 2))
    assert found["accuracy"] == 0.5  # the third has nothing, and nothing is said of it


def test_a_class_that_is_nowhere_has_no_score():
    targets = np.array([[1, 0], [0, 0]], bool)
    found = multilabel_metrics(targets, np.array([[0.9, 0.1], [0.2, 0.3]]), ("AF", "PVC"), "AF")
    assert found["f1_AF"] == 1
    assert not {"f1_PVC", "f1_macro", "roc_auc_macro"} & set(found)


def test_a_threshold_is_of_the_positive_class_alone():
    scores = np.array([[0.4, 0.4], [0.3, 0.6]])
    assert predicted_labels(scores, 0, 0.35).tolist() == [[True, False], [False, True]]


def test_weighting_is_repeating(predictions):
    weights = resample_weights(300, 20, seed=1).T.astype(np.float32)
    names = ("f1_macro", "f1_micro", "f1", "f1_PVC", "accuracy", "sensitivity", "roc_auc")
    names += ("average_precision", "log_loss", "brier")
    found = weighted_metrics(predictions, weights, names)
    for column in range(20):
        rows = np.repeat(np.arange(300), weights[:, column].astype(int))
        expected = predictions.take(rows).metrics
        for name in names:
            assert found[name][column] == pytest.approx(expected[name], rel=1e-5), name


def test_predictions_are_read_from_a_table(predictions):
    table = {
        "record": predictions.records,
        "label": predictions.labels,
        **{f"p_{name}": predictions.probabilities[:, i] for i, name in enumerate(CLASSES)},
    }
    assert {"", "AF,RBBB"} <= set(predictions.labels)
    found = Predictions.from_columns(table, "RBBB", multilabel=True)
    np.testing.assert_array_equal(found.targets, predictions.targets)
    assert found.metrics == predictions.metrics
    right = np.mean([a == b for a, b in zip(found.labels, found.predicted_labels, strict=True)])
    assert found.is_right.mean() == right == found.metrics["accuracy"]
    np.testing.assert_array_equal(found.is_positive, predictions.targets[:, 1])
