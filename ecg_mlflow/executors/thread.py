"""Run jobs in a thread of this process, one at a time."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Iterator

from ecg_mlflow.executors.base import Job, Outcome, OutcomeState, Report
from ecg_mlflow.executors.messages import JobThread, check_import_path, take_all
from ecg_mlflow.executors.pool import Pool, Worker


class ThreadWorker(Worker):
    """Executes each job in a new thread of this process.

    Parameters
    ----------
    function
        The job function's import path.
    changed
        Set after each of its reports.
    """

    def __init__(self, function: str, changed: threading.Event) -> None:
        super().__init__(0)
        self._function = function
        self._changed = changed
        self._outbox: deque[bytes] = deque()
        self._thread: JobThread | None = None

    @property
    def pid(self) -> int:
        """The id of this process."""
        return os.getpid()

    @property
    def deadline(self) -> float | None:
        """None: nothing can end a thread."""
        return None

    def _begin(self, job: Job) -> None:
        self.has_begun = True
        inbox = self._inbox
        self._thread = JobThread(self._function, job, lambda: take_all(inbox), self._put)
        self._thread.start()

    def _put(self, report: bytes) -> None:
        self._outbox.append(report)
        self._changed.set()

    def reports(self) -> Iterator[Report]:
        """Yield the reports that have arrived."""
        for report in take_all(self._outbox):
            yield pickle.loads(report)

    def finish(self) -> None:
        """Record that its job has its outcome; the next job gets a new thread."""
        super().finish()
        self.stopping, self._stop_by = False, None

    def kill(self, because: str) -> None:
        """Do nothing: nothing can end a thread."""

    def _request_stop(self) -> None:
        if self._thread:
            self._thread.stop.request()

    def death(self, job: Job) -> Outcome:
        """Return the outcome of a job that still runs after it was told to stop."""
        text = (
            f"job {job.key!r} was still running {self._grace:g} s after it was told to stop; it is "
            "left running in this process"
        )
        return Outcome(job.key, OutcomeState.CANCELLED, error=text, reason=text)


class InProcessExecutor(Pool[ThreadWorker]):
    """Executes jobs one after the other in a thread of this process.

    A thread can't be interrupted or killed from outside: a cancelled job gets `Terminated` at its
    next ``report`` or when it leaves a shielded block, and one that never does so within the grace
    of `shutdown` is abandoned and runs on. A crash ends the driver, too. Jobs share this process's
    environment and imports, and with one slot each of them is alone on its device.

    Parameters
    ----------
    function
        The job function's import path, ``"package.module:function"``.
    grace
        Seconds that the end of a ``with`` block gives a running job.
    """

    def __init__(self, function: str, *, grace: float = 30.0) -> None:
        super().__init__(1, grace=grace, fresh=False)
        self._function = check_import_path(function)
        self._changed = threading.Event()
        self._abandon_at = float("inf")

    def shutdown(self, grace: float) -> None:
        """Cancel every job; abandon one that still runs after `grace` seconds."""
        self._abandon_at = time.monotonic() + grace
        super().shutdown(grace)

    def _spawn(self, slot: int) -> ThreadWorker:
        return ThreadWorker(self._function, self._changed)

    def _device(self, slot: int) -> str:
        return "this process"

    def _is_ending(self) -> bool:
        return super()._is_ending() and time.monotonic() < self._abandon_at

    def _wait(self, timeout: float) -> None:
        self._changed.wait(min(timeout, max(0.0, self._abandon_at - time.monotonic())))
        self._changed.clear()
