"""The file in which a search is written down, so that it outlives the process that searches.

It is Optuna's journal: one line of JSON per step, appended and synced before the step counts.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from ecg_mlflow.errors import SearchError
from ecg_mlflow.files import full_disk_errors
from ecg_mlflow.search.quiet import quiet

_LINE = b'{"op_code":'  # how each line begins


def open_journal(path: Path) -> JournalStorage:
    """Open the journal of a search, or begin one.

    A process that was killed may have left half a line at the end. Optuna overlooks that as long
    as nothing follows, and can't read the file any more once something does; so it is cut off.

    Parameters
    ----------
    path
        The journal; no other process may have it open.

    Raises
    ------
    SearchError
        If the file is damaged, or is no journal; it is left as it is.
    StorageFullError
        If there is no room for it; also later, when something is written.
    """
    with full_disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _cut_unfinished_line(path)
        try:
            with quiet():
                return JournalStorage(_Journal(path))
        # What Optuna raises on lines that are JSON, but tell of no step that it knows.
        except (AssertionError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(path, f"Optuna can't follow it ({error!r})") from error


class _NoLock(JournalFileOpenLock):
    """A lock that does nothing.

    One process has the journal open, and whoever opens it sees to that. Optuna's own lock is a file
    beside the journal that a killed process leaves there, and for which the next one waits half a
    minute.
    """

    def acquire(self) -> bool:
        """Say that it is held."""
        return True

    def release(self) -> None:
        """Do nothing."""


class _Journal(JournalFileBackend):
    """A journal that stays whole when the disk is full."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_obj=_NoLock(str(path)))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines, all or none of them."""
        size = self._path.stat().st_size
        with full_disk_errors(self._path.parent):
            try:
                super().append_logs(logs)
            except OSError:
                os.truncate(self._path, size)
                raise


def _cut_unfinished_line(path: Path) -> None:
    """Check the lines of a journal, and remove what follows the last of them."""
    data = path.read_bytes()
    *lines, rest = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not _is_step(line):
            raise damaged(path, f"line {number} is no step of a search: {line[:60]!r}")
    if not (rest.startswith(_LINE) or _LINE.startswith(rest)):
        raise damaged(path, f"it ends with what is no step of a search: {rest[:60]!r}")
    if rest:
        os.truncate(path, len(data) - len(rest))


def _is_step(line: bytes) -> bool:
    try:
        step = json.loads(line)
    except ValueError:
        return False
    return isinstance(step, dict) and "op_code" in step


def damaged(path: Path, reason: str) -> SearchError:
    """Return the error that says that a journal is damaged, and what to do."""
    return SearchError(
        f"the journal {path} of this search is damaged: {reason}. Move it away and start again: "
        "finished runs are known to MLflow and are not repeated, and the search begins its history "
        "anew from them"
    )
