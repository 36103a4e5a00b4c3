"""The user's files: which belong together, and how processes and models import them."""

from __future__ import annotations

import importlib
import pickle
import sys
import types

import pytest
from studies import write_files

from ecg_mlflow.errors import ModelError, UntrustedCodeError
from ecg_mlflow.grids.user_code import UserCode, needed_code, step_finder, use


def test_files_that_a_function_needs(tmp_path):
    files = {"my_grid.py": "from factors_of_test import FACTOR", "factors_of_test.py": ""}
    write_files(tmp_path, {**files, "unrelated.py": "import tensorflow"})
    found = needed_code([("ecg_mlflow_grid_my_grid", "scaled")], tmp_path)
    assert list(found.files) == ["factors_of_test.py", "my_grid.py"]
    assert needed_code([], tmp_path) == needed_code([], None) == UserCode()
    with pytest.raises(
        ModelError, match=r"are in \['other\.py'\].*'my_grid\.py', 'unrel.*beside it"
    ):
        needed_code([("other", "f")], tmp_path)
    with pytest.raises(ModelError, match=r"are in \['my_grid\.py'\].*given are \[\]"):
        needed_code([("my_grid", "scaled")], None)


PACKAGES = {
    "grid.py": "import nets.blocks\nfrom outer import inner\ndef f():\n    from late import LATE",
    "nets/__init__.py": "from .sizes import WIDTH",
    "nets/blocks.py": "from . import sizes\nfrom ..beyond import x\nimport signal",
    "nets/sizes.py": "def f():\n    from .deep.end import END",
    "nets/deep/end.py": "END = 1",
    "nets/unused.py": "",
    "outer/inner.py": "",
    "late.py": "import grid",
    "signal.py": "",
    "beyond.py": "",
    "broken.py": "(",
}


def test_what_a_file_imports_is_read_with_it(tmp_path):
    write_files(tmp_path, PACKAGES)
    assert set(PACKAGES) - set(UserCode.read(tmp_path, ["grid.py"]).files) == {
        *("nets/unused.py", "signal.py", "beyond.py", "broken.py")
    }
    assert list(UserCode.read(tmp_path, ["broken.py"]).files) == ["broken.py"]


def test_code_is_run_as_it_was_read(tmp_path):
    write_files(tmp_path, {"read_of_test/__init__.py": "ONE = 1", "other_of_test.py": ""})
    use(UserCode.read(tmp_path, ["read_of_test/__init__.py"]))
    write_files(tmp_path, {"read_of_test/__init__.py": "ONE = 2"})
    import read_of_test

    assert read_of_test.ONE == 1
    assert read_of_test.__file__ == str(tmp_path / "read_of_test/__init__.py")
    with pytest.raises(ModuleNotFoundError):
        import other_of_test  # noqa: F401 - it is beside the file, but nothing was said of it

    use(UserCode.read(tmp_path, ["read_of_test/__init__.py"]))
    import read_of_test as again

    assert again.ONE == 2
    use(UserCode())
    with pytest.raises(ModuleNotFoundError):
        import read_of_test


def test_modules_that_a_process_has_are_kept_while_the_code_is_the_same(tmp_path):
    write_files(tmp_path, {"kept_of_test.py": ""})
    code = UserCode.read(tmp_path, ["kept_of_test.py"])
    use(code)
    import kept_of_test

    use(pickle.loads(pickle.dumps(code)))
    assert sys.modules["kept_of_test"] is kept_of_test
    use(code, anew=True)
    assert "kept_of_test" not in sys.modules
    use(UserCode())


def test_no_module_takes_the_place_of_pythons_or_a_librarys(tmp_path):
    write_files(
        tmp_path, {"grid.py": "import fractions, numpy", "fractions.py": "", "numpy.py": ""}
    )
    before = sys.modules["numpy"]
    use(UserCode.read(tmp_path, ["grid.py"]))
    assert sys.modules["numpy"] is before
    sys.modules.pop("fractions", None)
    import fractions

    assert fractions.Fraction(1, 2) == 0.5
    use(UserCode())


# --- The functions of a model, whatever else has their names --------------------------------------

GRID = """
from numba import njit
from factors_of_test import FACTOR

def scaled(signal, fs):
    return signal * FACTOR

@njit
def halved(signal, fs):
    return signal / 2

class Filters:
    @staticmethod
    def inverted(signal, fs):
        return -signal
"""


@pytest.fixture
def make_folder(tmp_path):
    def make(name: str, factor: int, grid: str = GRID):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "my_grid.py").write_text(grid)
        (folder / "factors_of_test.py").write_text(f"FACTOR = {factor}")
        return folder

    return make


def test_two_models_run_their_own_versions(tmp_path, make_folder, monkeypatch):
    other = types.ModuleType("factors_of_test")
    monkeypatch.setitem(sys.modules, "factors_of_test", other)
    first, second = step_finder(make_folder("a", 2), len), step_finder(make_folder("b", 3), len)
    path = list(sys.path)
    assert first("ecg_mlflow_grid_my_grid", "scaled")(10, 300) == 20
    assert second("ecg_mlflow_grid_my_grid", "scaled")(10, 300) == 30
    assert first("ecg_mlflow_grid_my_grid", "scaled")(10, 300) == 20
    assert second("my_grid", "Filters.inverted")(10, 300) == -10
    assert second("my_grid", "halved")(10.0, 300) == 5
    assert sys.modules["factors_of_test"] is other
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("my_grid")
    assert sys.path == path
    left = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert left == ["factors_of_test.py", "my_grid.py"], "nothing is written beside the files"


@pytest.mark.parametrize(
    ("grid", "module", "name", "why"),
    [
        (GRID, "other", "scaled", "needs other.py, which the model doesn't have"),
        (GRID, "..my_grid", "scaled", r"'\.\.my_grid' is no name of a Python module"),
        (GRID, "/etc/my_grid", "scaled", r"'/etc/my_grid' is no name of a Python module"),
        ("import os", "my_grid", "os.system", r"my_grid\.py defines no function os\.system"),
        ("from os import system", "my_grid", "system", "defines no function system"),
        ("from shutil import rmtree", "my_grid", "rmtree", "defines no function rmtree"),
        (GRID, "my_grid", "gone", "my_grid.py defines no function gone"),
        ("import no_such_of_test", "my_grid", "f", r"my_grid\.py can't be run .*ModuleNotFound"),
    ],
)
def test_what_is_not_there_or_fails(make_folder, grid, module, name, why):
    folder = make_folder("a", 2, grid)
    for _ in range(2):
        with pytest.raises(ModelError, match=why):
            step_finder(folder, len)(module, name)


def test_nothing_is_found_where_a_model_has_no_files():
    with pytest.raises(ModelError, match=r"needs my_grid\.py, which the model doesn't have"):
        step_finder(None, len)("my_grid", "scaled")


def test_files_are_run_only_with_consent(tmp_path, make_folder):
    run = tmp_path / "run"
    folder = make_folder("a", 2, f"import pathlib\npathlib.Path({str(run)!r}).touch()\n{GRID}")
    asked = []

    def refuse(files):
        asked.append(set(files))
        raise UntrustedCodeError("no")

    find = step_finder(folder, refuse)
    with pytest.raises(UntrustedCodeError):
        find("my_grid", "scaled")
    assert (asked, run.exists()) == ([{"my_grid.py", "factors_of_test.py"}], False)
    step_finder(folder, len)("my_grid", "scaled")
    assert run.exists()


def test_models_with_packages_run_their_own_versions(tmp_path):
    files = {
        "pack_of_test/__init__.py": "from .sizes import SIZE",
        "pack_of_test/steps.py": """
import pack_of_test
import pack_of_test.sizes as sizes

def scaled(signal, fs):
    from late_of_test import LATE
    from .more import MORE
    return signal * pack_of_test.SIZE * sizes.SIZE * LATE * MORE
""",
        "pack_of_test/more.py": "MORE = 7",
    }
    found = []
    for size in (3, 5):
        write_files(tmp_path / str(size), files)
        sizes = {"pack_of_test/sizes.py": f"SIZE = {size}", "late_of_test.py": f"LATE = {size}"}
        write_files(tmp_path / str(size), sizes)
        found.append(step_finder(tmp_path / str(size), len)("pack_of_test.steps", "scaled"))
    # Called only now: what they import then is their own too.
    assert [step(1, 300) for step in found] == [3**3 * 7, 5**3 * 7]
    assert "pack_of_test" not in sys.modules
