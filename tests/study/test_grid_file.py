from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
from studies import grid_text

from ecg_mlflow.errors import DataNotFoundError, ResearchError
from ecg_mlflow.executors.factory import pickle_for_worker
from ecg_mlflow.study.grid_file import find_grid_file, load_grid_file

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["resnet.py", "resnet", "quickstart"])
def test_shipped_grids_are_found_by_name(tmp_path, name):
    assert find_grid_file(name, [tmp_path]) == EXAMPLES / f"{name.removesuffix('.py')}.py"


def test_a_users_own_file_comes_before_a_shipped_one(tmp_path):
    own = tmp_path / "resnet.py"
    own.touch()
    assert find_grid_file("resnet.py", [tmp_path / "elsewhere", tmp_path]) == own
    assert find_grid_file(str(own), []) == own


def test_an_unknown_grid_lists_the_examples_and_the_places(tmp_path):
    with pytest.raises(DataNotFoundError) as error:
        find_grid_file("resnett.py", [tmp_path])
    assert str(tmp_path / "resnett.py") in str(error.value)
    assert "one of the examples: 01_first_study.py, " in str(error.value)
    assert "08_promotion.py, quickstart.py, resnet.py" in str(error.value)


def test_a_research_is_named_after_its_file_unless_it_has_a_name(tmp_path):
    path = tmp_path / "my design.py"
    path.write_text(grid_text())
    assert load_grid_file(path).research.name == "my design"
    path.write_text(grid_text(name="'another'"))
    assert load_grid_file(path).research.name == "another"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\nresearch = (\n", 2, "SyntaxError"),
        ("import os\n\nos.nothing\n", 3, "AttributeError: module 'os' has no attribute"),
        ("def f():\n    return 1 / 0\n\nf()\n", 2, "ZeroDivisionError"),
        ("import sys\nsys.exit('enough')\n", 2, "SystemExit: enough"),
        (grid_text(classes="['A']"), 5, "classes=.'A'. must name two or more"),
        ("from ecg_mlflow import Option\nOption('x', [])\n", 2, "option 'x' has no values"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
        ("import not_there_at_all\n", 1, "No module named 'not_there_at_all'"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, line, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ResearchError, match=message) as error:
        load_grid_file(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert "ecg_mlflow_grid_broken" not in sys.modules


def test_a_syntax_error_in_a_neighbour_is_told_by_the_line_that_imports_it(tmp_path, monkeypatch):
    (tmp_path / "broken_neighbour.py").write_text("\n\n\n(\n")
    path = tmp_path / "grid.py"
    path.write_text("import broken_neighbour\n")
    with pytest.raises(ResearchError, match=r"broken_neighbour\.py, line 4") as error:
        load_grid_file(path)
    assert str(error.value).startswith(f"{path}:1: ")


@pytest.mark.parametrize(
    ("text", "found"), [("x = 1\n", "it has none"), ("research = 7\n", "it has research = 7")]
)
def test_a_file_has_to_define_a_research(tmp_path, text, found):
    path = tmp_path / "empty.py"
    path.write_text(text)
    with pytest.raises(ResearchError, match=rf"must define research = Research\(...\); {found}"):
        load_grid_file(path)


def test_running_a_file_leaves_nothing_behind(tmp_path):
    path = tmp_path / "grid.py"
    path.write_text(grid_text())
    before = list(sys.path)
    load_grid_file(path)
    assert sys.path == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_edited_is_read_anew(tmp_path):
    path = tmp_path / "grid.py"
    for seed in ("1", "2"):
        path.write_text(grid_text(seed=seed))
        assert load_grid_file(path).research.seed == int(seed)


def test_functions_reach_another_process_without_their_files(tmp_path):
    (tmp_path / "own_layers.py").write_text("def twice(x):\n    return 2 * x\n")
    path = tmp_path / "grid.py"
    path.write_text(
        grid_text("import own_layers\ndef step(x):\n    return own_layers.twice(x) + 1\n")
    )
    grid = load_grid_file(path)
    names = [module.__name__ for module in grid.modules]
    assert names == ["ecg_mlflow_grid_grid", "own_layers"]

    payload = pickle_for_worker(grid.modules[0].step, grid.modules)
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer)(20))"
    done = subprocess.run(
        [sys.executable, "-c", program], input=payload, capture_output=True, cwd="/"
    )
    assert done.stdout.strip() == b"41", done.stderr.decode()
    # and by reference again afterwards, where the file is at hand
    assert cloudpickle.loads(cloudpickle.dumps(grid.modules[0].step)) is grid.modules[0].step
    del sys.modules["own_layers"]
