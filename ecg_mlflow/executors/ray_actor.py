"""Execute jobs in a Ray actor's process, on any node.

Ray is imported only in the functions that use it.
"""

from __future__ import annotations

import faulthandler
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_mlflow.executors.base import Job
from ecg_mlflow.executors.devices import DEVICE_VARIABLE, REMOVED_VARIABLES
from ecg_mlflow.executors.execution import JobThread
from ecg_mlflow.files import cache_root, locked, move_folder, scratch_folder

CHUNK = 64 * 2**20  # bytes of a file that travel together
_OUTBOX_LIMIT = 64 * 2**20  # bytes; beyond them `report` waits for the driver
_GATHER = 0.02  # seconds to wait for more reports, so that they are sent together


@dataclass(frozen=True)
class ActorInfo:
    """Process, host, node and device of an actor, and whether its node lacks the folder."""

    pid: int
    host: str
    node: str
    device: str
    lacks_folder: bool


@dataclass(frozen=True)
class FolderFile:
    """A file's relative path in its folder, and references to its chunks, in order."""

    name: str
    chunks: tuple[Any, ...]


class JobActor:
    """Executes one job at a time in a thread, and answers calls in other threads.

    Calls of `begin`, `deliver` and `stop` must run in the order in which they were sent.

    Parameters
    ----------
    function
        The job function's import path.
    needed
        The folder that jobs need, as its path within the cache folder; None if they need none.
    """

    def __init__(self, function: str, needed: str | None) -> None:
        for name in REMOVED_VARIABLES:
            os.environ.pop(name, None)
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ[DEVICE_VARIABLE] = f"gpu:{gpus}" if gpus else "cpu"
        self._function = function
        self._folder = None if needed is None else cache_root() / needed
        self._outbox: list[bytes] = []
        self._size = 0
        self._changed = threading.Condition()
        self._inbox: deque[bytes] = deque()
        self._thread: JobThread | None = None

    def stay(self) -> None:
        """Never return; the failure of this call tells the caller that the process ended."""
        threading.Event().wait()

    def describe(self) -> ActorInfo:
        """Describe this actor.

        A folder that exists is trusted, since it was renamed to the hash of its content only when
        it was complete.
        """
        import ray

        lacks_folder = self._folder is not None and not self._folder.is_dir()
        node = ray.get_runtime_context().get_node_id()
        device = os.environ[DEVICE_VARIABLE]
        return ActorInfo(os.getpid(), os.uname().nodename, node, device, lacks_folder)

    def receive(self, files: list[FolderFile]) -> None:
        """Write the folder, unless another worker of this node has done so meanwhile."""
        import ray

        assert self._folder is not None
        write_folder(self._folder, files, ray.get)

    def begin(self, job: Job) -> None:
        """Start a job, to which the messages from now on are addressed."""
        self._inbox = deque[bytes]()
        self._thread = JobThread(self._function, job, self._inbox, self._put)
        self._thread.start()

    def deliver(self, messages: list[bytes]) -> None:
        """Give messages to the current job."""
        self._inbox.extend(messages)

    def stop(self) -> None:
        """Tell the current job to stop."""
        if self._thread:
            self._thread.request_stop()

    def next_reports(self) -> list[bytes]:
        """Wait for reports without a limit, and return all that are there a moment later."""
        with self._changed:
            self._changed.wait_for(lambda: self._outbox)
        time.sleep(_GATHER)
        with self._changed:
            reports, self._outbox, self._size = self._outbox, [], 0
            self._changed.notify_all()
        return reports

    def _put(self, report: bytes) -> None:
        """Add a report, after waiting while the driver has too many to fetch."""
        with self._changed:
            self._changed.wait_for(lambda: self._size < _OUTBOX_LIMIT)
            self._outbox.append(report)
            self._size += len(report)
            self._changed.notify_all()

    def stacks(self) -> str:
        """Return the stacks of all threads."""
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            return file.read()


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
        FolderFile(path.relative_to(folder).as_posix(), tuple(map(store, _chunks(path))))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def write_folder(folder: Path, files: Iterable[FolderFile], fetch: Callable[[Any], bytes]) -> None:
    """Write a folder aside, sync it and rename it, unless it exists by now.

    Raises
    ------
    OSError
        If it can't be written.
    """
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
