"""What the parent run shows: the leaderboard, and the best configuration as a grid file."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, nan, sqrt
from types import SimpleNamespace

import pytest
from boards import F1, Config

from ecg_mlflow.grids import ConfigAlias
from ecg_mlflow.search.objective import Objective
from ecg_mlflow.study.grid_file import load_grid_file
from ecg_mlflow.study.search_config import SearchConfig
from ecg_mlflow.study.status import best_grid_file, leaderboard
from ecg_mlflow.study.trials import OpenTrial
from ecg_mlflow.tracking.run_data import as_columns

#: What the runs of each configuration have reached.
REACHED = {"lucky": [0.9], "diverged": [nan], "steady": [0.6, 0.4], "open": [], "torn": [0.2, nan]}


def ranked(*objectives, sampler="grid"):
    trials = [
        OpenTrial(
            number,
            Config(number, ConfigAlias({"layout": name})),
            (),
            metrics={i: {"time": 7.0, "f1": f1, "best_f1": 1.0} for i, f1 in enumerate(values)},
        )
        for number, (name, values) in enumerate(REACHED.items())
    ]
    search = SearchConfig(sampler, objectives=objectives)
    return leaderboard(trials, search, repetitions=2)


@pytest.mark.parametrize(
    ("objective", "sampler", "names"),
    [
        (F1, "grid", ["lucky", "steady", "torn", "diverged"]),
        (Objective("f1", maximize=False), "grid", ["torn", "steady", "lucky", "diverged"]),
        # Where runs are given up, who has fewer comes behind.
        (F1, "tpe", ["steady", "torn", "lucky", "diverged"]),
    ],
)
def test_the_best_mean_comes_first(objective, sampler, names):
    rows = ranked(objective, sampler=sampler)
    assert [row["layout"] for row in rows] == names
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]


def test_the_leaderboard_has_means_and_deviations_of_what_is_finite():
    rows = {row["layout"]: row for row in ranked(F1)}
    steady, torn = rows["steady"], rows["torn"]
    assert list(steady) == ["rank", "layout", "runs", "f1", "f1_std", "best_f1", "best_f1_std"]
    assert (steady["runs"], steady["f1"], steady["best_f1"]) == (2, 0.5, 1.0)
    assert steady["f1_std"] == pytest.approx(sqrt(0.02))  # sample, not population
    assert (torn["runs"], torn["f1"]) == (2, 0.2)
    assert isnan(torn["f1_std"]), "of one repetition"
    assert isnan(rows["diverged"]["f1"])


def test_the_leaderboard_tells_which_are_on_the_front_of_several_objectives():
    rows = ranked(F1, Objective("time", maximize=False))
    assert [row["layout"] for row in rows if row["pareto_front"]] == ["lucky"]


def test_columns_in_order_of_appearance_with_gaps():
    assert as_columns([{"a": 1}, {"b": 2, "a": 3}]) == {"a": [1, 3], "b": [None, 2]}
    assert as_columns([]) == {}


SOURCE = '''
"""Two ways."""
from ecg_mlflow import KV, LogUniform, Option, Pipeline, Research

def small(input_shape, n_classes, size, lr, way):
    """Stand for a model."""

def look(results):
    return None

research = Research(
    grid=Option.product(Option("size", [1, 2]), Option("way", [KV(small, "a"), KV(len, "b")]))
    * Option("lr", LogUniform(1e-4, 1e-2)),
    model=small,
    train=Pipeline().random_split_signals(10, 1),
    test=Pipeline().split_signals(10, 10),
    classes=["A", "N"],
    update_grid=look,
)
'''


def test_it_is_the_study_s_file_with_one_configuration(tmp_path):
    path = tmp_path / "best.py"
    path.write_text(SOURCE)
    whole = replace(load_grid_file(path).research, name="ways")
    trial = SimpleNamespace(options=lambda: {"size": 2, "way": "b", "lr": 0.001234})
    path.write_text(best_grid_file(SOURCE, whole, trial, "f1 0.9000 in study x"))
    research = load_grid_file(path).research
    (config,) = research.grid
    assert config.alias() == {"size": "2", "way": "b", "lr": "0.001234"}
    assert config["way"] is len
    assert config["lr"] == 0.001234
    assert research.name == "ways best"
    assert research.update_grid is None
    assert "# f1 0.9000 in study x" in path.read_text()
    beyond = SimpleNamespace(options=lambda: {"size": 3, "way": "b", "lr": 0.001234})
    assert best_grid_file(SOURCE, whole, beyond, "") is None
