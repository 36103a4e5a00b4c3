"""Names of installed packages."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from ecg_mlflow.errors import ModelError
from ecg_mlflow.installed import pinned


def test_the_first_name_that_is_installed_counts():
    assert pinned("no-such-package", "numpy", "keras") == f"numpy=={version('numpy')}"


def test_a_package_that_is_not_there():
    with pytest.raises(ModelError, match=r"called no-such-package or nor-this, so .* be pinned"):
        pinned("no-such-package", "nor-this")
