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
    path.write_text(grid_text("import own_neighbour"))
    before = list(sys.path)
    (tmp_path / "own_neighbour.py").write_text("")
    load_grid_file(path)
    assert sys.path == before
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "own_neighbour.py"]


def test_a_file_that_was_edited_is_read_anew(tmp_path):
    path = tmp_path / "grid.py"
    for seed in ("1", "2"):
        path.write_text(grid_text(seed=seed))
        assert load_grid_file(path).research.seed == int(seed)


def elsewhere(grid, value, program):
    """Run a program in another process, where `value` is what was sent, and no file is left."""
    payload = pickle_for_worker(value, grid.code)
    for file in sorted(grid.path.parent.rglob("*.py")):
        file.rename(file.with_suffix(".gone"))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import pickle, sys\nvalue = pickle.load(sys.stdin.buffer)\n{program}",
        ],
        input=payload,
        capture_output=True,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def test_functions_reach_another_process_without_their_files(tmp_path):
    (tmp_path / "own_layers.py").write_text("def twice(x):\n    return 2 * x\n")
    path = tmp_path / "grid.py"
    path.write_text(
        grid_text("import own_layers\ndef step(x):\n    return own_layers.twice(x) + 1\n")
    )
    grid = load_grid_file(path)
    assert set(grid.code.modules()) == {"ecg_mlflow_grid_grid", "own_layers"}
    assert elsewhere(grid, grid.module.step, "print(value(20))") == "41"
    # and by reference again afterwards, where the file is at hand
    assert cloudpickle.loads(cloudpickle.dumps(grid.module.step)) is grid.module.step


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


def test_packages_and_imports_inside_functions_work_in_another_process(tmp_path):
    write_files(tmp_path, PACKAGE)
    path = tmp_path / "grid.py"
    path.write_text(grid_text("import own_nets\ndef step(x):\n    return own_nets.block(x)\n"))
    grid = load_grid_file(path)
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


def test_what_the_grid_file_did_to_a_module_goes_with_it(tmp_path):
    write_files(
        tmp_path, {"own_sizes.py": "WIDTH = 1\nNAMES = []\ndef get():\n    return WIDTH, NAMES"}
    )
    path = tmp_path / "grid.py"
    before = (
        "import own_sizes\nown_sizes.WIDTH = 2\nown_sizes.NAMES.append('a')\nget = own_sizes.get"
    )
    path.write_text(grid_text(before))
    grid = load_grid_file(path)
    assert elsewhere(grid, grid.module.get, "print(value())") == "(2, ['a'])"


def test_a_module_imported_by_a_computed_name_goes_along(tmp_path):
    write_files(tmp_path, {"own_found/part.py": "ONE = 1", "code.py": "TWO = 2"})
    path = tmp_path / "grid.py"
    before = """
import importlib, sys
part = importlib.import_module(".".join(["own_found", "part"]))
sys.modules.pop("code", None)
import code  # by chance the name of one of Python's own
def step():
    import importlib
    return importlib.import_module("own_found.part").ONE + part.ONE + code.TWO
"""
    path.write_text(grid_text(before))
    pythons = sys.modules.get("code")
    grid = load_grid_file(path)
    said = elsewhere(
        grid, grid.module.step, "import code\nprint(value(), hasattr(code, 'interact'))"
    )
    assert said == "4 True"
    del sys.modules["code"]
    if pythons is not None:
        sys.modules["code"] = pythons


def test_neighbours_that_were_edited_are_read_anew(tmp_path):
    path = tmp_path / "grid.py"
    path.write_text(grid_text("import own_seeds.one", seed="own_seeds.one.SEED"))
    for seed in (1, 2):
        write_files(tmp_path, {"own_seeds/one.py": f"SEED = {seed}"})
        assert load_grid_file(path).research.seed == seed


def test_two_folders_have_their_own_neighbours(tmp_path):
    text = grid_text("import own_seed", seed="own_seed.SEED")
    for seed in (1, 2):
        write_files(tmp_path / str(seed), {"grid.py": text, "own_seed.py": f"SEED = {seed}"})
        assert load_grid_file(tmp_path / str(seed) / "grid.py").research.seed == seed
