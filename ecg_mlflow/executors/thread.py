"""Jobs in a thread of this process, one at a time."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from ecg_mlflow.executors.base import (
    Event,
    Job,
    Outcome,
    OutcomeState,
    Report,
    Started,
    cancelled_in_queue,
    check_submission,
)
from ecg_mlflow.executors.mailbox import encode_letter, reading, take_all
from ecg_mlflow.executors.messages import (
    call,
    check_import_path,
    encode_report,
    exit_outcome,
    to_outcome,
)
from ecg_mlflow.executors.stopping import ThreadStop


class InProcessExecutor:
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

    n_slots = 1

    def __init__(self, function: str, *, grace: float = 30.0) -> None:
        self._function = check_import_path(function)
        self._grace = grace
        self._pending: dict[str, deque[bytes]] = {}  # letters that the job has yet to read
        self._queue: deque[Job] = deque()
        self._running: _Call | None = None
        self._reports: SimpleQueue[Report] = SimpleQueue()
        self._closed = False

    @property
    def free_slots(self) -> int:
        """One if nothing runs or waits, else none."""
        return int(not self._running and not self._queue)

    @property
    def n_pending(self) -> int:
        """How many submitted jobs have an outcome that `events` has not yielded yet."""
        return len(self._pending)

    def submit(self, job: Job) -> None:
        """Queue `job`; see `Executor.submit`."""
        check_submission(job, self._pending, self._closed)
        self._pending[job.key] = deque()
        self._queue.append(job)
        self._start_next()

    def _start_next(self) -> None:
        if not self._running and self._queue:
            job = self._queue.popleft()
            letters = self._pending[job.key]
            self._running = _Call(self._function, job, letters, self._reports)
            self._running.start()

    def events(self, timeout: float) -> Iterator[Report]:
        """Yield what has been reported; see `Executor.events`."""
        deadline = time.monotonic() + timeout
        wait = timeout
        while self._pending:
            try:
                report = self._reports.get(timeout=wait) if wait > 0 else self._reports.get(False)
            except Empty:
                return
            if report.key not in self._pending:
                wait = deadline - time.monotonic()
                continue  # a thread that an earlier job has left behind
            wait = 0.0
            if isinstance(report, Outcome):
                self._settle(report.key)
            yield report

    def _settle(self, key: str) -> None:
        del self._pending[key]
        if self._running and self._running.job.key == key:
            self._running = None
            self._start_next()

    def send(self, key: str, data: dict[str, Any]) -> None:
        """Put `data` where the job's thread finds it; see `Executor.send`."""
        letter = encode_letter(data)
        if key in self._pending:
            self._pending[key].append(letter)

    def cancel(self, key: str, grace: float | None = None) -> None:
        """Cancel a queued job, or a running one at its next report; see `Executor.cancel`.

        Nothing can end a thread, so that `grace` is of no account.
        """
        if self._running and self._running.job.key == key:
            self._running.stop.request()
        for job in [job for job in self._queue if job.key == key]:
            self._queue.remove(job)
            self._reports.put(cancelled_in_queue(key))

    def shutdown(self, grace: float) -> None:
        """Cancel every job; abandon one that goes on after `grace` seconds."""
        self._closed = True
        for key in list(self._pending):
            self.cancel(key)
        if self._running and not self._running.abandoned:
            try:
                self._running.join(grace)
            finally:  # a second Ctrl-C comes this way
                self._running.abandon(f"went on {grace:g} s after it had been told to stop")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown(self._grace)


class _Call(threading.Thread):
    """One job on its way."""

    def __init__(
        self, function: str, job: Job, letters: deque[bytes], reports: SimpleQueue[Report]
    ) -> None:
        # A daemon, so that an abandoned job can't keep the process from exiting.
        super().__init__(name=f"job {job.key}", daemon=True)
        self.job = job
        self.stop = ThreadStop()
        self.abandoned = False
        self._function = function
        self._letters = letters
        self._reports = reports

    def run(self) -> None:
        key = self.job.key
        self._reports.put(Started(key, worker=0, pid=os.getpid()))
        try:
            with self.stop.governing_this_thread(), reading(lambda: take_all(self._letters)):
                answer = call(self._function, self.job.payload, self._report)
        except BaseException as error:  # noqa: BLE001 - without an outcome the driver would wait on
            self._reports.put(exit_outcome(key, error))
        else:
            answer = replace(answer, interrupted=self.stop.told)
            self._reports.put(to_outcome(key, answer, cancelled=True))

    def _report(self, data: dict[str, Any]) -> None:
        self._reports.put(Event(key=self.job.key, data=pickle.loads(encode_report(data))))
        self.stop.check()

    def abandon(self, reason: str) -> None:
        """Report an outcome for it; a later one, or the one that just came, is no longer read."""
        self.abandoned = True
        text = f"job {self.job.key!r} {reason}; it is left running in this process"
        self._reports.put(Outcome(self.job.key, OutcomeState.CANCELLED, error=text, reason=text))
