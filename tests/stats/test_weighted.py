"""Weighted metrics against scikit-learn on tables that are written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated import four_classes
from sklearn import metrics as sk

from ecg_mlflow.stats.metrics import cinc2017_score
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.stats.weighted import ranks, sums_by, weighted_counts, weighted_metrics


def columns_of(*weights) -> np.ndarray:
    return np.array(weights, np.float32).T


@pytest.fixture
def drawn():
    rng = np.random.default_rng(1)
    one = four_classes(rng, 60)
    return one, rng.multinomial(60, np.full(60, 1 / 60), size=40)


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_weighted_metrics_are_those_of_the_table_written_out(drawn, threshold):
    one, weights = drawn
    one = replace(one, threshold=threshold)
    names = list(one.metrics)
    assert {"f1", "f1_noisy", "cinc2017", "roc_auc", "brier"} <= set(names)
    found = weighted_metrics(one, columns_of(*weights), names)
    for row, counts in enumerate(weights):
        written_out = one.take(np.repeat(np.arange(60), counts)).metrics
        given = {name: found[name][row] for name in names if np.isfinite(found[name][row])}
        assert given == pytest.approx(written_out, abs=1e-12)


def test_ranked_metrics_are_those_of_scikit_learn_with_ties(drawn):
    one, weights = drawn
    coarse = replace(one, probabilities=one.probabilities.round(1))
    assert len(np.unique(coarse.scores)) < 12
    found = weighted_metrics(coarse, columns_of(*weights), ["roc_auc", "average_precision"])
    for row, counts in enumerate(weights):
        truth = np.repeat(coarse.is_positive, counts)
        score = np.repeat(coarse.scores, counts)
        assert found["roc_auc"][row] == pytest.approx(sk.roc_auc_score(truth, score))
        expected = sk.average_precision_score(truth, score)
        assert found["average_precision"][row] == pytest.approx(expected)


def test_the_score_of_the_challenge_worked_by_hand_stays_so_when_weighted():
    # The matrix of test_metrics.py, one record for each cell that is not empty.
    matrix = np.array([[40, 2, 6, 2], [1, 10, 2, 1], [8, 3, 12, 1], [1, 1, 0, 5]])
    truth, said = np.nonzero(matrix)
    one = Predictions(
        tuple(map(str, range(len(truth)))), truth, np.eye(4)[said], ("N", "A", "O", "~"), "A"
    )
    columns = columns_of(matrix[truth, said], 3 * matrix[truth, said])
    np.testing.assert_array_equal(weighted_counts(one, columns)[..., 0], matrix)
    found = weighted_metrics(one, columns, ["cinc2017"])["cinc2017"]
    expected = (80 / 100 + 20 / 30 + 24 / 44) / 3
    assert found == pytest.approx([expected, expected])
    assert cinc2017_score(matrix, one.classes) == pytest.approx(expected)


def test_what_a_weighting_does_not_define_is_nan():
    one = Predictions(
        ("a", "b", "c"),
        np.array([1, 0, 0]),
        np.array([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]]),
        ("NO", "A"),
        "A",
    )
    columns = columns_of([0, 1, 2], [3, 0, 0], [0, 0, 3], [1, 1, 1])
    found = weighted_metrics(one, columns, ["f1", "sensitivity", "specificity", "roc_auc"])
    nan = np.nan
    np.testing.assert_array_equal(found["f1"], [0, 1, nan, 2 / 3])
    np.testing.assert_array_equal(found["sensitivity"], [nan, 1, nan, 1])
    np.testing.assert_array_equal(found["specificity"], [2 / 3, nan, 1, 1 / 2])
    np.testing.assert_array_equal(found["roc_auc"], [nan, nan, nan, 1])


def test_models_without_positive_records_have_no_ranked_metric():
    one = Predictions(("a",), np.array([0]), np.array([[0.9, 0.1]]), ("NO", "A"), "A")
    found = weighted_metrics(one, columns_of([1]), ["roc_auc", "average_precision", "no_metric"])
    assert set(found) == {"roc_auc", "average_precision"}
    assert np.isnan(found["roc_auc"]).all()


def test_sums_are_by_number_and_empty_ones_are_zero():
    found = sums_by(np.array([3, 0, 3]), 4, columns_of([1, 2, 3], [10, 20, 30]))
    np.testing.assert_array_equal(found, [[2, 20], [0, 0], [0, 0], [4, 40]])


def test_ranks_count_what_stands_at_and_above_each_score():
    # Scores: A 0.9; NO 0.9; NO 0.7; A 0.5; NO 0.1.
    one = Predictions(
        tuple("abcde"),
        np.array([1, 0, 0, 1, 0]),
        np.array([[0.1, 0.9], [0.1, 0.9], [0.3, 0.7], [0.5, 0.5], [0.9, 0.1]]),
        ("NO", "A"),
        "A",
    )
    found = ranks(one, columns_of([1, 1, 1, 1, 1], [2, 0, 3, 1, 5]))
    np.testing.assert_array_equal(found.here, [[1, 2], [1, 1]])
    np.testing.assert_array_equal(found.positive, [[1, 2], [2, 3]])
    np.testing.assert_array_equal(found.negative, [[1, 0], [2, 3]])
    np.testing.assert_array_equal(found.above, [[0, 0], [2, 3]])
    np.testing.assert_array_equal(found.n_negative, [3, 8])
