"""What an environment for a model needs."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from ecg_mlflow.errors import ModelError
from ecg_mlflow.serving.requirements import pinned_requirements


def test_all_is_pinned_to_what_is_installed():
    found = dict(one.split("==") for one in pinned_requirements())
    tensorflow = {"tensorflow", "tensorflow-cpu"} & set(found)
    assert len(tensorflow) == 1
    assert set(found) - tensorflow == {
        *("mlflow", "keras", "numpy", "numba", "scipy", "pandas", "wfdb", "filelock")
    }
    assert all(version(name) == number for name, number in found.items())


def test_what_the_users_own_files_import_is_needed_too(tmp_path):
    grid, helper = tmp_path / "grid.py", tmp_path / "helper.py"
    grid.write_text("import os, helper\nfrom ecg_mlflow import C\ndef f():\n    import sklearn.svm")
    helper.write_text("import numpy as np\nfrom . import sibling")
    found = pinned_requirements([grid, helper])
    assert set(found) - set(pinned_requirements()) == {f"scikit-learn=={version('scikit-learn')}"}


def test_a_module_of_no_package(tmp_path):
    (tmp_path / "grid.py").write_text("import my_lab_tools")
    with pytest.raises(ModelError, match=r"my_lab_tools, which .*grid.py import, belongs to no"):
        pinned_requirements([tmp_path / "grid.py"])
