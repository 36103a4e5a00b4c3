"""One trial: its curves, its rungs, what it shows; the trials that a study ends with."""

from __future__ import annotations

import math

import pytest
from boards import F1, Config, Table

from ecg_mlflow.grids import KV, ConfigAlias, Option
from ecg_mlflow.search.objective import Objective
from ecg_mlflow.study.trials import OpenTrial, finalists, is_scored, rungs_of

BOTH = (F1, Objective("loss", False))


def make_trial(options=None):
    planned = Config(0, ConfigAlias(options or {"layout": "c"}), repetitions=3)
    return OpenTrial(0, planned, planned.runs, rungs=(1.0, 3.0))


def note(trial, repetition, **values):
    """Note values by epoch: ``e3=0.5``."""
    tests = [(int(epoch[1:]) * 10 - 1, {"f1": f1}) for epoch, f1 in values.items()]
    trial.note_tests(repetition, tests, "f1")


@pytest.mark.parametrize(
    ("test_every", "ages", "rungs"),
    [
        ("epoch", [1, 3], (1.0, 3.0)),
        ("2 epochs", [1, 3], (2.0, 4.0)),
        ("5 epochs", [1, 3], (5.0,)),
        ("9 epochs", [1, 3], ()),
        ("%25", [1, 3], (2.5, 5.0)),
        ("epoch", [9, 30], ()),
    ],
)
def test_rungs_move_to_evaluations_and_the_end_is_none(test_every, ages, rungs):
    config = Config(0, ConfigAlias({}), test_every=test_every)
    assert rungs_of(config, ages) == rungs


def test_the_values_at_an_age_are_of_the_repetitions_that_have_come_so_far():
    trial = make_trial()
    assert trial.values_at(1) == []
    note(trial, 1, e1=0.6)
    note(trial, 0, e1=0.2, e3=0.4)
    assert trial.values_at(1) == [0.2, 0.6]
    assert trial.values_at(2) == [0.2], "the last value before it counts"
    assert trial.values_at(3) == [0.4]
    trial.note_tests(2, [(9, {"accuracy": 1.0})], "f1")
    assert math.isnan(trial.values_at(1)[2])


def test_a_rung_is_due_when_all_that_are_under_way_have_come_so_far():
    trial = make_trial()
    trial.under_way = {0, 1}
    note(trial, 0, e1=0.2, e3=0.4)
    assert trial.due_rung() is None
    note(trial, 1, e1=0.2)
    assert trial.due_rung() == 1.0
    trial.judged[1.0] = 2
    assert trial.due_rung() is None
    note(trial, 1, e3=0.2)
    assert trial.due_rung() == 3.0


def test_values_are_means_over_what_has_finished():
    trial = make_trial()
    trial.metrics = {0: {"f1": 0.2, "loss": 1.0}, 2: {"f1": 0.6, "loss": 3.0}}
    assert trial.values(BOTH) == [pytest.approx(0.4), 2.0]
    assert trial.values(BOTH, 2) == [0.2, 1.0]
    assert math.isnan(trial.values([Objective("speed", True)])[0])


def test_options_are_shown_as_numbers_or_by_their_aliases():
    trial = make_trial({"lr": 0.1, "n": 3, "flag": True, "net": KV(5, "five"), "b": [1]})
    assert trial.options() == {"lr": 0.1, "n": 3, "flag": "True", "net": "five", "b": "[1]"}
    assert trial.row()["lr"] == 0.1


@pytest.mark.parametrize(
    ("values", "n", "expected"),
    [
        ([[0.1], [0.9], [None], [0.5]], 2, [1, 3]),
        ([[0.1], [0.9], [None], [0.5]], 9, [1, 3, 0]),
        ([[0.9, None], [0.5, 0.4]], 2, [1]),  # a lucky one has fewer repetitions
        ([[(0.9, 3.0)], [(0.8, 2.0)], [(0.7, 1.0)], [(0.85, 4.0)]], 1, [0, 1, 2]),  # the front
    ],
)
def test_the_finalists(values, n, expected):
    objectives = BOTH if isinstance(values[0][0], tuple) else (F1,)
    grid = Option("layout", [f"c{i}" for i in range(len(values))])
    table = Table(grid, repetitions=len(values[0]), objectives=objectives)
    table.open()
    for runs in values:
        for key, reached in zip(table.next_keys(), runs, strict=True):
            if reached is None:
                table.fail(key)
            else:
                f1, loss = reached if isinstance(reached, tuple) else (reached, 0.0)
                table.finish(key, f1, loss=loss)
    best = finalists(table.scheduler.trials.values(), objectives, n)
    assert [trial.number for trial in best] == expected


def test_a_run_is_scored_that_has_a_metric_of_the_test_records():
    assert is_scored({"test_f1": 0.2})
    assert not is_scored({"validation_f1": 0.2, "best_test": 0.1})
