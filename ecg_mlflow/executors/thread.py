"""Run jobs in a thread of this process, one at a time."""

from __future__ import annotations

import os
import time
from collections import deque
from queue import Empty, SimpleQueue

from ecg_mlflow.executors.base import Job, Outcome, OutcomeState
from ecg_mlflow.executors.messages import JobThread, WorkerMessage, check_import_path, take_all
from ecg_mlflow.executors.pool import Pool


class ThreadWorker:
    """A thread that executes one job.

    Parameters
    ----------
    slot
        Number of the slot whose job it executes.
    function
        The job function's import path.
    spoken
        Queue for its messages, each with the worker.
    """

    is_idle = False

    def __init__(
        self,
        slot: int,
        function: str,
        spoken: SimpleQueue[tuple[ThreadWorker, WorkerMessage | Outcome]],
    ) -> None:
        self.slot = slot
        self.job: Job | None = None
        self.alone = False
        self.stopping = False
        self._function = function
        self._spoken = spoken
        self._thread: JobThread | None = None
        self._grace = 0.0

    @property
    def pid(self) -> int:
        """The id of this process."""
        return os.getpid()

    def start(self, job: Job, inbox: deque[bytes]) -> None:
        """Take a job in hand."""
        self.job = job
        self.alone = job.exclusive
        self._thread = JobThread(
            self._function,
            job,
            lambda: take_all(inbox),
            lambda said: self._spoken.put((self, said)),
        )
        self._thread.start()

    def forward_inbox(self) -> None:
        """Do nothing: the job's thread reads the inbox itself."""

    def stop(self, grace: float) -> None:
        """Tell the job to stop. Nothing can end a thread: `grace` is only named in the outcome."""
        self.stopping = True
        self._grace = grace
        if self._thread:
            self._thread.stop.request()

    def finish(self) -> None:
        """Note that the job has its outcome."""
        self.job = None

    def close(self) -> None:
        """Do nothing: the thread has ended, or can't be ended."""

    def death(self, job: Job) -> Outcome:
        """Return the outcome of a job that still runs after it was told to stop."""
        text = (
            f"job {job.key!r} was still running {self._grace:g} s after it was told to stop; it is "
            "left running in this process"
        )
        return Outcome(job.key, OutcomeState.CANCELLED, error=text, reason=text)


class InProcessExecutor(Pool[ThreadWorker]):
    """Executes jobs one after the other in a thread of this process.

    A thread cannot be interrupted or killed from outside, so what processes give is given only
    in part: a job that is cancelled gets `Terminated` when it next calls ``report`` or leaves a
    shielded block, and one that never does so within the grace of `shutdown` is abandoned,
    running on. A crash takes the driver with it. Jobs share this process's environment and
    imports, and with one slot each of them is alone on its device.

    Parameters
    ----------
    function
        The job function's import path, ``"package.module:function"``.
    grace
        Seconds that the end of a ``with`` block gives a running job.
    """

    def __init__(self, function: str, *, grace: float = 30.0) -> None:
        super().__init__(1, grace=grace)
        self._function = check_import_path(function)
        self._spoken: SimpleQueue[tuple[ThreadWorker, WorkerMessage | Outcome]] = SimpleQueue()
        self._given_up_at = 0.0

    def shutdown(self, grace: float) -> None:
        """Cancel every job; abandon one that still runs after `grace` seconds."""
        self._given_up_at = time.monotonic() + grace
        super().shutdown(grace)

    def _spawn(self, slot: int) -> ThreadWorker:
        return ThreadWorker(slot, self._function, self._spoken)

    def _device(self, slot: int) -> str:
        return "this process"

    def _is_ending(self) -> bool:
        return bool(self._present()) and time.monotonic() < self._given_up_at

    def _end_all(self) -> None:
        for worker in self._present():
            self._retire(worker)

    def _attend(self, timeout: float) -> None:
        if self._closed:
            timeout = min(timeout, max(0.0, self._given_up_at - time.monotonic()))
        try:
            said = self._spoken.get(timeout=timeout) if timeout > 0 else self._spoken.get_nowait()
            while True:
                self._listen_to(*said)
                said = self._spoken.get_nowait()
        except Empty:
            self._assign()

    def _listen_to(self, worker: ThreadWorker, said: WorkerMessage | Outcome) -> None:
        if not self._is_current(worker):
            return  # it was abandoned
        if isinstance(said, Outcome):  # its job asked for the end of the process
            self._ready.append(said)
            worker.finish()
        else:
            self._note(worker, said)
        if worker.job is None:
            self._retire(worker)
