from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
from studies import grid_text, write_files

from ecg_mlflow.errors import DataNotFoundError, ResearchError
from ecg_mlflow.grids.code_transfer import pickle_for_worker
from ecg_mlflow.study.grid_file import find_grid_file, load_grid_file

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def load(tmp_path):
    """Write a grid file, and files beside it, and load it."""

    def load(text, name="grid.py", **beside):
        write_files(tmp_path, {name: text, **beside})
        return load_grid_file(tmp_path / name)

    return load


def test_grids_are_found_by_name_and_a_users_own_comes_first(tmp_path):
    for name in ("resnet.py", "resnet", "quickstart"):
        shipped = EXAMPLES / f"{name.removesuffix('.py')}.py"
        assert find_grid_file(name, [tmp_path]) == shipped
    own = tmp_path / "resnet.py"
    own.touch()
    assert find_grid_file("resnet.py", [tmp_path / "elsewhere", tmp_path]) == own
    assert find_grid_file(str(own), []) == own
    with pytest.raises(DataNotFoundError) as error:
        find_grid_file("resnett.py", [tmp_path])
    assert str(tmp_path / "resnett.py") in str(error.value)
    assert "one of the examples: 01_first_study.py, " in str(error.value)
    assert "08_promotion.py, quickstart.py, resnet.py" in str(error.value)


def test_a_research_is_named_after_its_file_unless_it_has_a_name(load):
    assert load(grid_text(), "my design.py").research.name == "my design"
    assert load(grid_text(name="'another'")).research.name == "another"


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
        ("import broken_neighbour\n", 1, r"broken_neighbour\.py, line 4"),
    ],
)
def test_errors_name_file_and_line(tmp_path, load, text, line, message):
    with pytest.raises(ResearchError, match=message) as error:
        load(text, "broken.py", **{"broken_neighbour.py": "\n\n\n(\n"})
    assert str(error.value).startswith(f"{tmp_path / 'broken.py'}:{line}: ")
    assert "ecg_mlflow_grid_broken" not in sys.modules


@pytest.mark.parametrize(
    ("text", "found"), [("x = 1\n", "it has none"), ("research = 7\n", "it has research = 7")]
)
def test_a_file_has_to_define_a_research(load, text, found):
    with pytest.raises(ResearchError, match=rf"must define research = Research\(...\); {found}"):
        load(text)


def test_running_a_file_leaves_nothing_behind(tmp_path, load):
    before = list(sys.path)
    load(grid_text("import own_neighbour"), **{"own_neighbour.py": ""})
    assert sys.path == before
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert names == ["grid.py", "own_neighbour.py"]


def test_files_that_were_edited_are_read_anew_and_folders_have_their_own(tmp_path, load):
    for seed in (1, 2):
        assert load(grid_text(seed=f"{seed}")).research.seed == seed
    beside = grid_text("import own_seeds.one", seed="own_seeds.one.SEED")
    for place in ("", "first/", "second/"):
        for seed in (1, 2):
            files = {f"{place}own_seeds/one.py": f"SEED = {seed}"}
            assert load(beside, f"{place}grid.py", **files).research.seed == seed


def elsewhere(grid, value, program):
    """Run a program in another process, where `value` is what was sent, and no file is left."""
    payload = pickle_for_worker(value, grid.code)
    for file in sorted(grid.path.parent.rglob("*.py")):
        file.rename(file.with_suffix(".gone"))
    text = f"import pickle, sys\nvalue = pickle.load(sys.stdin.buffer)\n{program}"
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, input=payload, capture_output=True, cwd="/")
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


PACKAGE = {
    "own_nets/__init__.py": "from .blocks import block",
    "own_nets/blocks.py": """
from numba import njit
from . import sizes
from .sizes import Sized

@njit
def added(x):
    return x + 1

def block(x):
    from .late import late
    from own_more.deep import deep
    import own_alone
    assert isinstance(late(x), Sized)
    return added(late(x).x) + sizes.WIDTH + deep.DEEP + own_alone.ALONE
""",
    "own_nets/sizes.py": "WIDTH = 10\nclass Sized:\n    def __init__(self, x):\n        self.x = x",
    "own_nets/late.py": "def late(x):\n    from .blocks import Sized\n    return Sized(x)",
    "own_more/deep/deep.py": "DEEP = 100",
    "own_alone.py": "ALONE = 1000",
}


def test_packages_and_imports_inside_functions_work_in_another_process(load):
    text = grid_text("import own_nets\ndef step(x):\n    return own_nets.block(x)\n")
    grid = load(text, **PACKAGE)
    assert sorted(grid.code.files) == ["grid.py", *sorted(PACKAGE)]
    assert "own_alone" not in sys.modules, "only the function imports it, when it runs"
    program = """
import traceback
print(value(1))
try:
    value([])
except Exception:
    traceback.print_exc(file=sys.stdout)
"""
    said = elsewhere(grid, grid.module.step, program)
    assert said.startswith("1112\n")
    assert "own_nets/blocks.py" in said
    for line in ("return own_nets.block(x)", "return added(late(x).x) + sizes.WIDTH"):
        assert line in said, "lines are told where no file is"
    assert grid.module.step(1) == 1112, "and here, where no file is any more either"
    assert cloudpickle.loads(cloudpickle.dumps(grid.module.step)) is grid.module.step


def test_what_the_grid_file_did_to_a_module_goes_with_it(load):
    before = (
        "import own_sizes\nown_sizes.WIDTH = 2\nown_sizes.NAMES.append('a')\nget = own_sizes.get"
    )
    sizes = "WIDTH = 1\nNAMES = []\ndef get():\n    return WIDTH, NAMES"
    grid = load(grid_text(before), **{"own_sizes.py": sizes})
    assert elsewhere(grid, grid.module.get, "print(value())") == "(2, ['a'])"


def test_a_module_imported_by_a_computed_name_goes_along(load, monkeypatch):
    before = """
import importlib, sys
part = importlib.import_module(".".join(["own_found", "part"]))
sys.modules.pop("code", None)
import code  # by chance the name of one of Python's own
def step():
    import importlib
    return importlib.import_module("own_found.part").ONE + part.ONE + code.TWO
"""
    monkeypatch.setitem(sys.modules, "code", sys)  # to be put back
    files = {"own_found/part.py": "ONE = 1", "code.py": "TWO = 2"}
    grid = load(grid_text(before), **files)
    program = "import code\nprint(value(), hasattr(code, 'interact'))"
    assert elsewhere(grid, grid.module.step, program) == "4 True"
