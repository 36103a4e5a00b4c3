"""Copy folders named by the hash of their content to the machine where a job needs them.

A function, named by its import path and called on that machine as ``place(content_hash)``, returns
the path of such a folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_mlflow.files import locked, move_folder, scratch_folder

CHUNK = 64 * 2**20  # bytes


@dataclass(frozen=True)
class FolderFile:
    """A file's relative path in its folder, and references to its chunks, in order."""

    name: str
    chunks: tuple[Any, ...]


def read_folder(folder: Path, store: Callable[[bytes], Any]) -> list[FolderFile]:
    """Put the files of `folder` into a store, in chunks of bounded size.

    Raises
    ------
    FileNotFoundError
        If the folder is missing.
    OSError
        If a file can't be read.
    """
    if not folder.is_dir():  # otherwise an empty folder would be copied and trusted
        raise FileNotFoundError(f"the folder {folder} is missing")
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
    """Return those of `hashes` whose folders are missing on this machine.

    An existing folder is trusted, since it was renamed to the hash of its content only when it was
    complete.
    """
    return tuple(each for each in hashes if not _locate(place, each).is_dir())


def write_folder(
    place: str, content_hash: str, files: Iterable[FolderFile], fetch: Callable[[Any], bytes]
) -> None:
    """Write a folder aside, sync it and rename it, unless it exists by now.

    Raises
    ------
    OSError
        If it can't be written.
    """
    folder = _locate(place, content_hash)
    with locked(folder):
        if folder.is_dir():
            return
        with scratch_folder(folder.parent, folder.name) as scratch:
            for file in files:
                path = scratch / file.name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as stream:
                    for chunk in file.chunks:
                        stream.write(fetch(chunk))
            move_folder(scratch, folder)


def _locate(place: str, content_hash: str) -> Path:
    module, _, name = place.partition(":")
    return Path(getattr(importlib.import_module(module), name)(content_hash))
