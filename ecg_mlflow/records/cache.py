"""Where packed data lives, and how files get there whole or not at all."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

ENVIRONMENT_VARIABLE = "ECG_MLFLOW_CACHE"
_UNFINISHED = ".part"


def cache_root() -> Path:
    """Return the cache folder: $ECG_MLFLOW_CACHE, else the platform's, without creating it."""
    if chosen := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ecg_mlflow"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ecg_mlflow"


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of a file or folder against other processes and threads.

    The system lets go of it when its process ends, however that comes about.

    Parameters
    ----------
    target
        What is about to be built; the lock file stands beside it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        yield


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Give an empty folder to build in, and remove what is left of it afterwards.

    Call it under a lock for `name`: what an earlier, killed build of that name left is removed.

    Parameters
    ----------
    parent
        Where the folder is made: the file system of the final place, so that it can be renamed.
    name
        What is being built.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f".{glob.escape(name)}.*{_UNFINISHED}"):
        shutil.rmtree(left)
    scratch = parent / f".{name}.{secrets.token_hex(4)}{_UNFINISHED}"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def move_folder(source: Path, target: Path) -> None:
    """Sync a folder's files to disk and rename the folder to its final place."""
    for file in source.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    _sync_folder(target.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file aside, sync it and rename it over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
