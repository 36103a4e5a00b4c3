"""Execute jobs in a Ray actor's process, on any node.

Ray is imported only in the functions that use it.
"""

from __future__ import annotations

import faulthandler
import os
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from ecg_mlflow.executors.base import Job, Outcome
from ecg_mlflow.executors.devices import DEVICE_VARIABLE, REMOVED_VARIABLES
from ecg_mlflow.executors.folders import FolderFile, find_missing, write_folder
from ecg_mlflow.executors.messages import CallResult, JobThread, WorkerMessage

_OUTBOX_LIMIT = 64 * 2**20  # bytes; beyond them `report` waits for the driver
_GATHER = 0.02  # seconds to wait for more reports, so that they are sent together


@dataclass(frozen=True)
class Introduction:
    """Process, host, node and device of an actor, and the folders that its node lacks."""

    pid: int
    host: str
    node: str
    device: str
    missing: tuple[str, ...]


class JobActor:
    """Executes one job at a time in a thread, and answers other calls in further threads.

    Parameters
    ----------
    function
        The job function's import path.
    place
        Import path of the function that returns a folder's path on this machine.
    """

    def __init__(self, function: str, place: str | None) -> None:
        for name in REMOVED_VARIABLES:
            os.environ.pop(name, None)
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ[DEVICE_VARIABLE] = f"gpu:{gpus}" if gpus else "cpu"
        self._function = function
        self._place = place
        self._outbox = _Outbox()
        self._inbox = _Inbox()
        self._job: JobThread | None = None
        self._stopped_before: str | None = None

    def stay(self) -> None:
        """Never return; the failure of this call tells the caller that the process ended."""
        threading.Event().wait()

    def introduce(self, folders: Iterable[str]) -> Introduction:
        """Return this actor's description, with the `folders`, by hash, that its node lacks."""
        missing = find_missing(self._place, folders) if self._place else ()
        import ray

        node = ray.get_runtime_context().get_node_id()
        device = os.environ[DEVICE_VARIABLE]
        return Introduction(os.getpid(), os.uname().nodename, node, device, missing)

    def receive(self, content_hash: str, files: list[FolderFile]) -> None:
        """Write a folder, unless another worker of this node has done so meanwhile."""
        import ray

        assert self._place is not None
        write_folder(self._place, content_hash, files, ray.get)

    def begin(self, job: Job, first_bundle: int) -> None:
        """Start a job, to which the bundles of messages from this number on are addressed."""
        self._inbox.forget_before(first_bundle)
        self._job = JobThread(self._function, job, self._inbox.take, self._outbox.put)
        if self._stopped_before == job.key:
            self._job.stop.request()
        self._stopped_before = None
        self._job.start()

    def next_messages(self) -> list[WorkerMessage | Outcome]:
        """Wait for messages without a limit, and return them."""
        return self._outbox.take()

    def deliver(self, number: int, messages: list[bytes]) -> None:
        """Take a bundle of messages to the current job, or to the one that begins next."""
        self._inbox.put(number, messages)

    def stop(self, key: str) -> None:
        """Tell a job to stop, the current one or the one that begins next."""
        if self._job and self._job.job.key == key:
            self._job.stop.request()
        else:
            self._stopped_before = key

    def stacks(self) -> str:
        """Return the stacks of all threads."""
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            return file.read()


class _Inbox:
    """Bundles of messages from the driver, numbered in the order in which it has sent them.

    The numbers run on from job to job. Calls of an actor that answers several at once may
    overtake each other: the numbers keep the order, and each job's messages from the next one's.
    """

    def __init__(self) -> None:
        self._bundles: dict[int, list[bytes]] = {}
        self._next = 0
        self._lock = threading.Lock()

    def put(self, number: int, messages: list[bytes]) -> None:
        """Add a bundle, unless it is to a job that is over."""
        with self._lock:
            if number >= self._next:
                self._bundles[number] = messages

    def forget_before(self, number: int) -> None:
        """Drop what an earlier job did not read, now and when it comes."""
        with self._lock:
            self._next = number
            self._bundles = {n: self._bundles[n] for n in self._bundles if n >= number}

    def take(self) -> list[bytes]:
        """Return the messages that are here, up to the first bundle that has yet to come."""
        messages: list[bytes] = []
        with self._lock:
            while bundle := self._bundles.pop(self._next, None):
                messages += bundle
                self._next += 1
        return messages


class _Outbox:
    """Messages that wait for the driver to fetch them."""

    def __init__(self) -> None:
        self._messages: list[WorkerMessage | Outcome] = []
        self._size = 0
        self._changed = threading.Condition()

    def put(self, message: WorkerMessage | Outcome) -> None:
        """Add a message, after waiting for room if there is none."""
        content = None if isinstance(message, Outcome) else message.content
        data = content.value if isinstance(content, CallResult) else content
        with self._changed:
            self._changed.wait_for(lambda: self._size < _OUTBOX_LIMIT)
            self._messages.append(message)
            self._size += len(data or b"")
            self._changed.notify_all()

    def take(self) -> list[WorkerMessage | Outcome]:
        """Wait for a message and take all that are there a moment later."""
        with self._changed:
            self._changed.wait_for(lambda: self._messages)
            self._changed.wait_for(self._has_ended, _GATHER)
            messages, self._messages, self._size = self._messages, [], 0
            self._changed.notify_all()
        return messages

    def _has_ended(self) -> bool:
        last = self._messages[-1]
        return isinstance(last, Outcome) or isinstance(last.content, CallResult)
