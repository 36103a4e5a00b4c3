"""What a search is after."""

from __future__ import annotations

import math

import pytest

from ecg_mlflow.errors import SearchError
from ecg_mlflow.search.objective import Objective, mean, pareto_front, parse_objectives


@pytest.mark.parametrize(
    ("metrics", "directions", "found"),
    [
        ("test_f1", None, [("test_f1", True)]),
        ("test_log_loss", None, [("test_log_loss", False)]),
        ("validation_brier", None, [("validation_brier", False)]),
        ("trainable_parameters", None, [("trainable_parameters", False)]),
        ("iterations_per_second", None, [("iterations_per_second", True)]),
        ("test_f1, loss", None, [("test_f1", True), ("loss", False)]),
        ("test_f1,speed", "maximize, minimize", [("test_f1", True), ("speed", False)]),
        ("loss", "maximize", [("loss", True)]),
    ],
)
def test_objectives_are_read(metrics, directions, found):
    assert [(one.metric, one.maximize) for one in parse_objectives(metrics, directions)] == found


@pytest.mark.parametrize(
    ("metrics", "directions", "says"),
    [
        (" , ", None, "must name one metric"),
        ("f1,f1", None, "each once"),
        ("f1", "up", "must say maximize or minimize for each of the 1 objectives"),
        ("f1,loss", "maximize", "each of the 2 objectives"),
    ],
)
def test_what_is_no_objective_is_refused(metrics, directions, says):
    with pytest.raises(SearchError, match=says):
        parse_objectives(metrics, directions)


def test_merits_are_larger_where_values_are_better():
    up, down = Objective("f1", True), Objective("loss", False)
    assert up.merit(0.5) > up.merit(0.4)
    assert down.merit(0.4) > down.merit(0.5)
    assert up.merit(math.nan) == down.merit(math.nan) == -math.inf
    assert (str(up), down.direction) == ("maximize f1", "minimize")


def test_the_pareto_front_holds_what_nothing_beats():
    objectives = (Objective("f1", True), Objective("parameters", False))
    values = [(0.9, 100), (0.8, 10), (0.8, 20), (0.7, 10), (math.nan, 1), (0.9, 100)]
    assert pareto_front(values, objectives) == [0, 1, 5]
    assert pareto_front([], objectives) == []
    assert mean([1.0, 2.0]) == 1.5
    assert math.isnan(mean([]))
