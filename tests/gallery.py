"""What several test processes need and one of them makes: read-only, in a folder that all share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from ecg_mlflow.tracking.client import connect


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` has filled, in this process or in another one of this session.

    Who comes while it is being filled waits. What failed half way is left to the next one, in
    another folder.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with FileLock(root / f"{name}.lock"):
        done = root / f"{name}.path"
        if done.exists():
            return Path(done.read_text())
        folder = factory.mktemp(name)
        make(folder)
        done.write_text(str(folder))
        return folder


def new_store(factory: pytest.TempPathFactory, folder: Path) -> str:
    """Make a sqlite store in a folder; return its URI.

    It is a copy: MLflow takes seconds to make the tables.
    """
    empty = made_once(factory, "empty", lambda folder: connect(f"sqlite:///{folder / 'mlflow.db'}"))
    shutil.copy(empty / "mlflow.db", folder)
    return f"sqlite:///{folder / 'mlflow.db'}"
