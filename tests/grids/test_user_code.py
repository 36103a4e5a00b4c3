"""The user's files: which belong together, and how a process imports them."""

from __future__ import annotations

import pickle
import sys

import pytest
from studies import write_files

from ecg_mlflow.errors import ModelError
from ecg_mlflow.grids.user_code import UserCode, needed_code, use


def test_files_that_a_function_needs(tmp_path):
    files = {"my_grid.py": "from factors_of_test import FACTOR", "factors_of_test.py": ""}
    write_files(tmp_path, {**files, "unrelated.py": "import tensorflow"})
    found = needed_code([("ecg_mlflow_grid_my_grid", "scaled")], tmp_path)
    assert list(found.files) == ["factors_of_test.py", "my_grid.py"]
    assert needed_code([], tmp_path) == needed_code([], None) == UserCode()
    with pytest.raises(
        ModelError, match=r"stand in \['other.py'\].*'my_grid.py', 'unrel.*beside it"
    ):
        needed_code([("other", "f")], tmp_path)
    with pytest.raises(ModelError, match=r"stand in \['my_grid.py'\].*given are \[\]"):
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
