"""One trial: its curves, its rungs, what it shows."""

from __future__ import annotations

import math

import pytest
from boards import F1, Config, Planner

from ecg_mlflow.grids import KV, ConfigAlias
from ecg_mlflow.search.objective import Objective
from ecg_mlflow.search.pruners import SuccessiveHalving
from ecg_mlflow.study.plan import PlannedRun
from ecg_mlflow.study.trials import open_trial, rungs_of


def make_trial(repetitions=3, options=None, **config):
    planned = Config(0, ConfigAlias(options or {"layout": "c"}), **config)
    runs = Planner(repetitions).runs(planned)
    assert isinstance(runs[0], PlannedRun)
    return open_trial(0, planned, runs, SuccessiveHalving(eta=3, min_epochs=1))


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


def test_the_value_at_an_age_is_the_mean_of_those_that_have_come_so_far():
    trial = make_trial()
    assert trial.value_at(1, 1) is None
    note(trial, 0, e1=0.2, e3=0.4)
    note(trial, 1, e1=0.6)
    assert trial.value_at(1, 2) == pytest.approx(0.4)
    assert trial.value_at(3, 1) == 0.4
    assert trial.value_at(3, 2) is None
    assert trial.value_at(2, 1) == 0.2, "the last value before it counts"
    assert trial.value_at(1, 1) == 0.2, "the first repetition's"


def test_an_evaluation_without_the_metric_is_no_number():
    trial = make_trial()
    trial.note_tests(0, [(9, {"accuracy": 1.0})], "f1")
    assert math.isnan(trial.value_at(1, 1))


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
    objectives = (F1, Objective("loss", False))
    assert trial.values(objectives) == [pytest.approx(0.4), 2.0]
    assert trial.values(objectives, 2) == [0.2, 1.0]
    assert math.isnan(trial.values([Objective("speed", True)])[0])


def test_options_are_shown_as_numbers_or_by_their_aliases():
    trial = make_trial(options={"lr": 0.1, "n": 3, "flag": True, "net": KV(5, "five"), "b": [1]})
    assert trial.options() == {"lr": 0.1, "n": 3, "flag": "True", "net": "five", "b": "[1]"}
    assert trial.row()["lr"] == 0.1
