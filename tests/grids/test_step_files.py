"""Functions from a model's own files, whatever else goes by their names."""

from __future__ import annotations

import sys
import types

import pytest
from studies import write_files

from ecg_mlflow.errors import ModelError
from ecg_mlflow.grids.step_files import StepFiles

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


def test_two_models_run_their_own_versions(make_folder, monkeypatch):
    other = types.ModuleType("factors_of_test")
    monkeypatch.setitem(sys.modules, "factors_of_test", other)
    first, second = StepFiles(make_folder("a", 2)), StepFiles(make_folder("b", 3))
    path = list(sys.path)
    assert first.find("ecg_mlflow_grid_my_grid", "scaled")(10, 300) == 20
    assert second.find("ecg_mlflow_grid_my_grid", "scaled")(10, 300) == 30
    assert first.find("ecg_mlflow_grid_my_grid", "scaled")(10, 300) == 20
    assert second.find("my_grid", "Filters.inverted")(10, 300) == -10
    assert second.find("my_grid", "halved")(10.0, 300) == 5
    assert sys.modules["factors_of_test"] is other
    assert sys.path == path


def test_nothing_is_written_beside_the_files(make_folder):
    folder = make_folder("a", 2)
    StepFiles(folder).find("my_grid", "scaled")
    assert sorted(file.name for file in folder.iterdir()) == ["factors_of_test.py", "my_grid.py"]


@pytest.mark.parametrize(
    ("module", "name", "why"),
    [
        ("other", "scaled", "needs other.py, which it doesn't have"),
        ("my_grid", "gone", "my_grid.py has no function gone"),
    ],
)
def test_what_is_not_there(make_folder, module, name, why):
    with pytest.raises(ModelError, match=why):
        StepFiles(make_folder("a", 2)).find(module, name)
    with pytest.raises(ModelError, match="doesn't have with it"):
        StepFiles(None).find(module, name)


def test_a_file_that_fails(make_folder):
    folder = make_folder("a", 2, "import no_such_module_of_test")
    for _ in range(2):
        with pytest.raises(ModelError, match=r"my_grid\.py can't be run .*ModuleNotFoundError"):
            StepFiles(folder).find("my_grid", "scaled")


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
        found.append(StepFiles(tmp_path / str(size)).find("pack_of_test.steps", "scaled"))
    # Called only now: what they import then is their own too.
    assert [step(1, 300) for step in found] == [3**3 * 7, 5**3 * 7]
    assert "pack_of_test" not in sys.modules
