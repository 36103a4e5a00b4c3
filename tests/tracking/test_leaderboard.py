from __future__ import annotations

import math

import pytest

from ecg_mlflow.tracking.leaderboard import RunResult, as_columns, leaderboard_rows

RESULTS = [
    RunResult({"model": "VGG"}, {"f1": 0.5, "params": 10}),
    RunResult({"model": "ResNet"}, {"f1": 0.7, "params": 20}),
    RunResult({"model": "VGG"}, {"f1": 0.7, "params": 10}),
    RunResult({"model": "ResNet"}, {"f1": 0.9, "params": 20}),
    RunResult({"model": "broken"}, {}),
]


def test_mean_and_standard_deviation_over_repetitions_best_first():
    rows = leaderboard_rows(RESULTS, "f1")
    assert [(row["rank"], row["model"], row["runs"]) for row in rows] == [
        (1, "ResNet", 2),
        (2, "VGG", 2),
        (3, "broken", 1),
    ]
    assert rows[0]["f1"] == pytest.approx(0.8)
    assert rows[0]["f1_std"] == pytest.approx(math.sqrt(0.02))  # sample, not population
    assert rows[0]["params"] == 20
    assert math.isnan(rows[2]["f1"])
    assert list(rows[0]) == ["rank", "model", "runs", "f1", "f1_std", "params", "params_std"]


def test_lower_is_better():
    rows = leaderboard_rows(RESULTS, "f1", higher_is_better=False)
    assert [row["model"] for row in rows] == ["VGG", "ResNet", "broken"]


def test_a_repetition_that_diverged_leaves_the_others_their_mean():
    results = [RunResult({"m": "a"}, {"f1": 0.5}), RunResult({"m": "a"}, {"f1": math.nan})]
    (row,) = leaderboard_rows(results, "f1")
    assert (row["f1"], row["runs"]) == (0.5, 2)
    assert math.isnan(row["f1_std"]), "of one repetition"


def test_no_results():
    assert leaderboard_rows([], "f1") == []
    assert as_columns([]) == {}


def test_columns_in_order_of_appearance_with_gaps():
    assert as_columns([{"a": 1}, {"b": 2, "a": 3}]) == {"a": [1, 3], "b": [None, 2]}


def test_who_has_fewer_repetitions_comes_behind():
    results = [
        RunResult({"layout": "lucky"}, {"f1": 0.9}),
        RunResult({"layout": "steady"}, {"f1": 0.6}),
        RunResult({"layout": "steady"}, {"f1": 0.4}),
        RunResult({"layout": "bad"}, {"f1": 0.1}),
    ]
    rows = leaderboard_rows(results, "f1", n_repetitions=2)
    assert [row["layout"] for row in rows] == ["steady", "lucky", "bad"]
    assert leaderboard_rows(results, "f1")[0]["layout"] == "lucky"
