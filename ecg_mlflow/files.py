"""Locate the files of this package, and write them completely or not at all."""

from __future__ import annotations

import errno
import glob
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import platformdirs
from filelock import FileLock

from ecg_mlflow.errors import StorageError, TrackingError

ENVIRONMENT_VARIABLE = "ECG_MLFLOW_CACHE"
CHECKPOINT_VARIABLE = "ECG_MLFLOW_CHECKPOINTS"
_UNFINISHED = ".part"
#: Permissions, a file system that is only to be read, a file in place of a folder.
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. -]{0,127}")


def cache_root() -> Path:
    """Return the cache folder: $ECG_MLFLOW_CACHE, else the platform's, without creating it.

    Raises
    ------
    StorageError
        If it depends on a home folder, and there is none.
    """
    platform = partial(platformdirs.user_cache_path, "ecg_mlflow", appauthor=False)
    return chosen_folder(ENVIRONMENT_VARIABLE, platform)


def checkpoint_root() -> Path:
    """Return the folder of checkpoints: $ECG_MLFLOW_CHECKPOINTS, else within the cache."""
    return chosen_folder(CHECKPOINT_VARIABLE, lambda: cache_root() / "checkpoints")


def chosen_folder(variable: str, default: Callable[[], Path]) -> Path:
    """Return the folder that an environment variable names, else the default one.

    Raises
    ------
    StorageError
        If it depends on a home folder, and there is none.
    """
    chosen = os.environ.get(variable)
    try:
        folder = Path(chosen).expanduser().absolute() if chosen else default()
    except RuntimeError:
        folder = Path()
    if not folder.is_absolute():  # as of older versions of platformdirs
        raise StorageError(
            "there is no home folder for the files of ecg_mlflow: set the environment variable "
            f"{variable} to a folder that can be written"
        )
    return folder


def check_writable(folder: Path) -> None:
    """Make a folder if it is missing, and check that files can be written there.

    Raises
    ------
    StorageError
        If they can't; the message names the variables by which another folder is chosen.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")


def checkpoint_path(run_id: str) -> Path:
    """Return the path of an MLflow run's checkpoint."""
    return checkpoint_root() / f"{file_name(run_id)}.npz"


def file_name(name: str) -> str:
    """Return a name from a store, such as a run's id or a digest, that is to be a file's name.

    Raises
    ------
    TrackingError
        If it is empty, begins with a point, or has other characters than letters, digits, ``_``,
        ``-``, points and spaces: it could lead elsewhere.
    """
    if not _PLAIN_NAME.fullmatch(name):
        raise TrackingError(
            f"{name[:100]!r} from the store is no id or digest, and can't be a file's name"
        )
    return name


def is_special(path: Path) -> bool:
    """Return whether something other than a file is there: a folder, FIFO, device or socket.

    To open one may block for ever.
    """
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # nothing is there, or nothing can be
        return False


def discard_checkpoint(run_id: str) -> None:
    """Remove the checkpoint of a run that has ended, and its lock."""
    path = checkpoint_path(run_id)
    path.unlink(missing_ok=True)
    remove_unfinished(path)
    _lock_path(path).unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove incomplete files that killed processes left of `path`; call it under its lock."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_UNFINISHED}"):
        left.unlink(missing_ok=True)


def _lock_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


@contextmanager
def locked(target: Path, timeout_s: float = -1) -> Iterator[None]:
    """Hold the lock of a file or folder against other processes and threads.

    The system releases the lock when the process ends, even if it is killed.

    Parameters
    ----------
    target
        The file or folder to lock; the lock file lies beside it.
    timeout_s
        Seconds to wait for another holder; for ever by default.

    Raises
    ------
    TimeoutError
        If another process or thread holds the lock for that time.
    """
    with storage_errors(target.parent):
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
    """Give an empty folder to build in, and remove it afterwards.

    Call it under a lock for `name`: it removes the folders that killed builds of that name left.

    Parameters
    ----------
    parent
        Parent of the folder, on the file system of the final place, so that it can be renamed.
    name
        Name of the build.
    """
    with storage_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f".{glob.escape(name)}.*{_UNFINISHED}"):
        shutil.rmtree(left)
    scratch = parent / f".{name}.{secrets.token_hex(4)}{_UNFINISHED}"
    try:
        with storage_errors(parent):
            scratch.mkdir()
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def move_folder(source: Path, target: Path) -> None:
    """Sync a folder's content to disk and rename the folder to its final place."""
    for path in (source, *source.rglob("*")):
        if path.is_file() or path.is_dir():
            _sync(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    _sync(target.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file aside, sync it and rename it over `path`."""
    with written_aside(path) as file:
        file.write(data)


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write; it is synced and renamed over `path` if the block succeeds.

    Raises
    ------
    StorageError
        If the disk is full; the earlier file at `path` stays.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _sync(path.parent)


def write_output(path: Path, data: bytes) -> None:
    """Write a file completely or not at all; create missing folders.

    Raises
    ------
    StorageError
        If it can't be written there.
    """
    try:
        write_whole(path, data)
    except OSError as error:
        met = error.__cause__ if isinstance(error, StorageError) else error
        why = getattr(met, "strerror", None) or met
        raise StorageError(f"can't write {path}: {why}. Name another file or folder") from error


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn the system's errors about a folder into one that names the place and the remedy.

    Raises
    ------
    StorageError
        If the block raised an OSError because of a full disk or an exceeded quota, or because
        nothing can be written in the folder.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"no space left on the disk of {folder} ({error.strerror}). Make room there"
        elif error.errno in _NOT_WRITABLE and _is_about(error, folder):
            what = f"can't write in {folder} ({error.strerror}). Mend that"
        else:
            raise
        raise StorageError(
            f"{what}, or choose another folder with the environment variables "
            f"{ENVIRONMENT_VARIABLE} and {CHECKPOINT_VARIABLE}"
        ) from error


def _is_about(error: OSError, folder: Path) -> bool:
    """Say whether an error is about a folder, those above it or what is in it."""
    if not isinstance(error.filename, str | os.PathLike):
        return False
    path = Path(error.filename)
    return path == folder or path in folder.parents or folder in path.parents


def _sync(path: Path) -> None:
    """Sync a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
