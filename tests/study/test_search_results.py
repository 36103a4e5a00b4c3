"""The best configuration as a grid file."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from ecg_mlflow.study.grid_file import load_grid_file
from ecg_mlflow.study.search_results import best_grid_file

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
