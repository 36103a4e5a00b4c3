"""Where the files of this package live, and how they get there whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import platformdirs
from filelock import FileLock

from ecg_mlflow.errors import StorageFullError

ENVIRONMENT_VARIABLE = "ECG_MLFLOW_CACHE"
CHECKPOINT_VARIABLE = "ECG_MLFLOW_CHECKPOINTS"
_UNFINISHED = ".part"


def cache_root() -> Path:
    """Return the cache folder: $ECG_MLFLOW_CACHE, else the platform's, without creating it."""
    if chosen := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_cache_path("ecg_mlflow", appauthor=False)


def checkpoint_root() -> Path:
    """Return the folder of checkpoints: $ECG_MLFLOW_CHECKPOINTS, else within the cache."""
    if chosen := os.environ.get(CHECKPOINT_VARIABLE):
        return Path(chosen).expanduser().absolute()
    return cache_root() / "checkpoints"


def checkpoint_path(run_id: str) -> Path:
    """Return where the checkpoint of an MLflow run is, while it has one."""
    return checkpoint_root() / f"{run_id}.npz"


def discard_checkpoint(run_id: str) -> None:
    """Remove the checkpoint of a run that has ended, and the lock on it."""
    path = checkpoint_path(run_id)
    path.unlink(missing_ok=True)
    remove_unfinished(path)
    _lock_path(path).unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed have left of `path`; call it under the lock on it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_UNFINISHED}"):
        left.unlink(missing_ok=True)


def _lock_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


@contextmanager
def locked(target: Path, timeout_s: float = -1) -> Iterator[None]:
    """Hold the lock of a file or folder against other processes and threads.

    The system lets go of it when its process ends, however that comes about.

    Parameters
    ----------
    target
        What is about to be built or used; the lock file stands beside it.
    timeout_s
        How long to wait for whoever holds it; for ever by default.

    Raises
    ------
    TimeoutError
        If it is held by somebody else all the time.
    """
    with full_disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_lock_path(target), timeout=timeout_s)
        try:
            lock.acquire()
        except TimeoutError as error:
            raise TimeoutError(f"another process has held {target} for {timeout_s:g} s") from error
        with lock:
            lock.release()  # taken twice now
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
    try:
        with full_disk_errors(parent):
            scratch.mkdir()
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
    with written_aside(path) as file:
        file.write(data)


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write; it is synced and renamed over `path` when the block ends well.

    Raises
    ------
    StorageFullError
        If there is no room for it; what stood at `path` stands there still.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")
    with full_disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _sync_folder(path.parent)


def write_output(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; folders that are missing are made.

    Raises
    ------
    StorageFullError
        If it can't be written there.
    """
    try:
        write_whole(path, data)
    except StorageFullError:
        raise
    except OSError as error:
        raise StorageFullError(
            f"can't write {path}: {error.strerror or error}. Name another file or folder"
        ) from error


@contextmanager
def full_disk_errors(folder: Path) -> Iterator[None]:
    """Turn the system's "no space left" into an error that says where and what to do.

    Raises
    ------
    StorageFullError
        If the block raised an OSError for want of space, or of quota.
    """
    try:
        yield
    except StorageFullError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFullError(
            f"no space left on the disk of {folder} ({error.strerror}). Make room there, or choose "
            f"another folder with the environment variables {ENVIRONMENT_VARIABLE} and "
            f"{CHECKPOINT_VARIABLE}"
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
