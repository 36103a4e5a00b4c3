"""Folders named by the hash of their content, brought to the machine where a job needs them.

Who knows where such a folder belongs is a function, named by its import path and called on that
machine as ``place(content_hash)``.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

CHUNK = 64 * 2**20  # bytes


@dataclass(frozen=True)
class FolderFile:
    """A file's place in its folder, and what fetches its bytes, in order."""

    name: str
    chunks: tuple[Any, ...]


def read_folder(folder: Path, store: Callable[[bytes], Any]) -> list[FolderFile]:
    """Put the files of `folder` into a store, in chunks of bounded size.

    Raises
    ------
    FileNotFoundError
        If the folder is gone.
    OSError
        If a file can't be read.
    """
    if not folder.is_dir():  # or it would arrive empty, and be trusted for good
        raise FileNotFoundError(f"the folder {folder} is not there any more")
    return [
        FolderFile(
            path.relative_to(folder).as_posix(),
            tuple(store(chunk) for chunk in _chunks(path)),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def find_missing(place: str, hashes: Iterable[str]) -> tuple[str, ...]:
    """Return those of `hashes` whose folders are not on this machine.

    A folder that is there is trusted, for its name is its content's hash, and it was renamed to
    that only when it was complete.
    """
    return tuple(each for each in hashes if not _locate(place, each).is_dir())


def write_folder(
    place: str, content_hash: str, files: Iterable[FolderFile], fetch: Callable[[Any], bytes]
) -> None:
    """Write a folder aside, sync it and rename it, unless it is there by now.

    Raises
    ------
    OSError
        It can't be written.
    """
    folder = _locate(place, content_hash)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.is_dir():
            return
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a worker that was killed here
        partial.mkdir()
        for file in files:
            path = partial / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as stream:
                for chunk in file.chunks:
                    stream.write(fetch(chunk))
                stream.flush()
                os.fsync(stream.fileno())
        for inner in (partial, *partial.rglob("*")):
            if inner.is_dir():
                _sync_folder(inner)
        partial.rename(folder)
        _sync_folder(folder.parent)


def _locate(place: str, content_hash: str) -> Path:
    module, _, name = place.partition(":")
    return Path(getattr(importlib.import_module(module), name)(content_hash))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
