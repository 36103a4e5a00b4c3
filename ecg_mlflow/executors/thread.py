"""Run jobs in a thread of this process, one at a time."""

from __future__ import annotations

import pickle
import threading
from collections import deque
from collections.abc import Iterator

from ecg_mlflow.executors.base import Job, Report
from ecg_mlflow.executors.execution import JobThread, take_all
from ecg_mlflow.executors.pool import Pool, Worker


class ThreadWorker(Worker):
    """Executes each job in a new thread of this process.

    Parameters
    ----------
    function
        The job function's import path.
    changed
        Set after each of its reports, and at its end.
    """

    name = "the job's thread"
    kill_effect = "was left running in this process"

    def __init__(self, function: str, changed: threading.Event) -> None:
        super().__init__(0)
        self._function = function
        self._changed = changed
        self._outbox: deque[bytes] = deque()
        self._thread: JobThread | None = None

    def _begin(self, job: Job) -> None:
        self._thread = JobThread(self._function, job, self._inbox, self._put)
        self._has_shown_life()
        self._thread.start()

    def _put(self, report: bytes) -> None:
        self._outbox.append(report)
        self._changed.set()

    def reports(self) -> Iterator[Report]:
        """Yield the reports that have arrived."""
        yield from map(pickle.loads, take_all(self._outbox))

    def has_ended(self) -> bool:
        """Whether it was abandoned: nothing can end a thread."""
        return self._killed_because is not None

    def _request_stop(self) -> None:
        if self.job and self._thread:
            self._thread.request_stop()
        else:
            self.kill("is not needed")

    def _kill(self) -> None:
        self._changed.set()


class InProcessExecutor(Pool[ThreadWorker]):
    """Executes jobs one after the other in a thread of this process.

    A thread can't be interrupted or killed from outside: at a shutdown a job gets `Terminated` at
    its next ``report`` or when it leaves a shielded block, and one that never does so within the
    grace is abandoned and runs on. A crash ends the driver, too. Jobs share this process's
    environment and imports, and with one slot each of them is alone on its device.

    Parameters
    ----------
    function
        The job function's import path, ``"package.module:function"``.
    """

    def __init__(self, function: str) -> None:
        super().__init__(1)
        self._function = function
        self._changed = threading.Event()

    def _spawn(self, slot: int) -> ThreadWorker:
        return ThreadWorker(self._function, self._changed)

    def _device(self, slot: int) -> str:
        return "this process"

    def _wait(self, timeout: float) -> None:
        self._changed.wait(timeout)
        self._changed.clear()
