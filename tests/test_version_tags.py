"""The tag of versions."""

from __future__ import annotations

import sys

from ecg_mlflow import version_tags as module
from ecg_mlflow.version_tags import version_tags


def test_versions_are_one_short_line():
    (found,) = version_tags().values()
    names = [part.split(" ")[0] for part in found.split(", ")]
    assert names == ["ecg_mlflow", "keras", "mlflow", "numba", "numpy", "tensorflow", "python"]
    assert found.endswith(f"python {'.'.join(map(str, sys.version_info[:3]))}")


def test_a_package_that_is_not_there_is_left_out(monkeypatch):
    monkeypatch.setitem(module._PACKAGES, "numba", ("no-such-distribution",))
    (found,) = version_tags.__wrapped__().values()
    assert "numba" not in found
