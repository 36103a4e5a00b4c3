"""The grid file's function that changes its grid."""

from __future__ import annotations

import pytest

from ecg_mlflow.errors import ResearchError
from ecg_mlflow.grids import Grid, Option
from ecg_mlflow.study.grid_update import GridUpdate
from ecg_mlflow.training.schedule import Schedule

ROWS = [{"trial": 0, "state": "complete", "layout": "c", "test_f1": 0.5}]


def ask(function, rule="last", n_ended=1, last=True):
    return GridUpdate(function, Schedule.parse(rule)).next_grid(n_ended, last, lambda: ROWS)


def test_it_is_called_when_the_schedule_says_so():
    option = Option("layout", ["c"])
    assert ask(lambda results: option, last=False) is None
    assert ask(lambda results: option) == Grid(option)
    assert ask(lambda results: Grid(option), "%2", 2, last=False) == Grid(option)
    assert ask(lambda results: Grid(option), "%2", 3, last=False) is None
    assert ask(lambda results: None) is None


def test_it_gets_the_results_as_a_table():
    seen = []
    ask(seen.append)
    assert seen[0].to_dict("records") == ROWS


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (
            lambda results: results["test_f2"],
            "update_grid: it failed on the results of 1 configurations with KeyError: 'test_f2'",
        ),
        (lambda results: Option("layout", []), "update_grid: option 'layout' has no values"),
        (lambda results: ["c"], r"must return a grid, an option, or None .* not \['c'\]"),
    ],
)
def test_what_goes_wrong_in_it_says_so(function, says):
    with pytest.raises(ResearchError, match=says):
        ask(function)
