from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import AutologError, ScheduleError
from ecg_mlflow.integrations.autolog.scorer import Scorer

WINDOWS = np.zeros((4, 8, 1), np.float32)
LABELS = [0, 1, 0, 1]


def settings(test_every="epoch", test=(WINDOWS, LABELS, None), classes=("A", "N"), **more):
    told = {"positive": None, "activation": None} | more
    return Scorer(test, classes, test_every=test_every, **told)


@pytest.mark.parametrize(
    ("rules", "epochs", "iterations"),
    [
        ("epoch", [0, 1, 2, 3, 4], []),
        ("2 epochs", [1, 3], []),
        ("%4", [], [3, 7]),
        (5, [], [5]),
        ("last", [], []),
        (["2 epochs", "%4", 0], [1, 3], [0, 3, 7]),
    ],
)
def test_when(rules, epochs, iterations):
    found = settings(rules)
    assert [e for e in range(5) if found.tests_after_epoch(e)] == epochs
    assert [i for i in range(10) if found.tests_between(i, i + 1)] == iterations
    assert found.tests_between(2, 5) is (3 in iterations)  # several iterations of one call


@pytest.mark.parametrize("rules", ["weekly", "%0", [], "0 epochs", -2])
def test_a_wrong_schedule(rules):
    with pytest.raises(ScheduleError):
        settings(rules)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"test": (WINDOWS, LABELS)}, "given is tuple of 2"),
        ({"test": WINDOWS}, "given is ndarray"),
        ({"test": (WINDOWS[:3], LABELS, None)}, r"4 labels came with windows of shape \(3, 8, 1"),
        ({"test": (np.zeros(4), LABELS, None)}, r"windows of shape \(4,\)"),
        ({"activation": "relu"}, "activation='relu'"),
    ],
)
def test_what_does_not_fit(more, message):
    with pytest.raises(AutologError, match=message):
        settings(**more)
