"""Run jobs in a pool with one worker per slot, the common base of all executors."""

from __future__ import annotations

import pickle
import signal
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

from ecg_mlflow.executors.base import ExecutorError, Job, Outcome, OutcomeState, Report
from ecg_mlflow.executors.job_queue import JobQueue, SlotState

#: Seconds that running jobs have to flush when an executor ends.
GRACE = 30.0
#: Bytes of a message; a connection takes so many in one piece.
MESSAGE_LIMIT = 16_000


class Worker(ABC):
    """What executes the jobs of one slot, seen from the driver.

    Parameters
    ----------
    slot
        Number of the slot.

    Attributes
    ----------
    job
        Its current job.
    alone
        Whether its current or last job is an exclusive one.
    stopping
        Whether it was told to stop.
    """

    #: What `kill` does to it, in messages.
    kill_effect = "was killed"

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.job: Job | None = None
        self.alone = False
        self.stopping = False
        self._inbox: deque[bytes] = deque()
        self._hang_timeout: float | None = None
        self._last_sign: float | None = None
        self._grace = 0.0
        self._stop_by: float | None = None
        self._killed_because: str | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """The worker's name in messages."""

    @property
    def is_idle(self) -> bool:
        """Whether it can take a job."""
        return self.job is None and not self.stopping and self._killed_because is None

    @property
    def deadline(self) -> float | None:
        """The time at which `enforce_limits` has something to do, as far as is known."""
        if self._stop_by is not None or self._killed_because:
            return self._stop_by
        if self._last_sign is None or self._hang_timeout is None:
            return None
        return self._last_sign + self._hang_timeout

    def start(self, job: Job, inbox: deque[bytes], hang_timeout: float | None) -> None:
        """Start a job; its messages are taken from `inbox`, now and later.

        It may take `hang_timeout` seconds from its start to its first report, and from each report
        to the next; None for any time.
        """
        self.job = job
        self.alone = job.exclusive
        self._inbox = inbox
        self._hang_timeout = hang_timeout
        self._begin(job)

    def _has_shown_life(self) -> None:
        self._last_sign = time.monotonic()

    def stop(self, grace: float) -> None:
        """Tell it to end within `grace` seconds; a later call can only shorten that."""
        self._end_within(grace)
        if not self.stopping:
            self.stopping = True
            self._request_stop()

    def _end_within(self, grace: float) -> None:
        """Kill it after `grace` seconds if it has not ended, or earlier if that was decided."""
        stop_by = time.monotonic() + grace
        if self._stop_by is None or stop_by < self._stop_by:
            self._grace, self._stop_by = grace, stop_by

    def finish(self) -> None:
        """Record that its job has its outcome."""
        self.job = None
        self._last_sign = None
        if self.stopping:
            self._request_stop()

    def enforce_limits(self) -> None:
        """Kill it if the grace of `stop` is over; abort it if its job hangs."""
        if self.deadline is None or time.monotonic() < self.deadline:
            return
        if self._stop_by is None:
            self._killed_because = f"gave no sign of life for {self._hang_timeout:g} s"
            self._abort()
        else:
            self.kill(f"did not stop within {self._grace:g} s")

    def kill(self, because: str) -> None:
        """End it immediately, with what its jobs have started."""
        self._killed_because = self._killed_because or because
        self._stop_by = None
        self._kill()

    def death(self, job: Job) -> Outcome:
        """Return the outcome of `job`, during which the worker ended. Call it after `close`."""
        if self.stopping and self._last_sign is None:
            return _never_started(job.key)
        killed = self._killed_because and f"{self._killed_because} and {self.kill_effect}"
        reason = f"{self.name} {killed or self._describe_end()}"
        state = OutcomeState.CANCELLED if self.stopping else OutcomeState.DIED
        return Outcome(job.key, state, error=f"{reason}\n{self._details()}", reason=reason)

    @abstractmethod
    def _begin(self, job: Job) -> None:
        """Give it the job; call `_has_shown_life` if it starts at once."""

    def forward_inbox(self) -> None:  # noqa: B027 - a job may read its inbox itself
        """Deliver the messages to its job that can be delivered without waiting."""

    @abstractmethod
    def reports(self) -> Iterator[Report]:
        """Yield the reports that have arrived."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Whether it is gone. The reports that it sent before can still be read."""

    def close(self) -> None:  # noqa: B027 - a thread has nothing to release
        """End it if it is still running, and release its resources."""

    @abstractmethod
    def _request_stop(self) -> None:
        """Tell its job to stop, or a worker without a job to end."""

    def _abort(self) -> None:
        """End a hanging worker, and find out where it hangs."""
        self._kill()

    @abstractmethod
    def _kill(self) -> None:
        """End it immediately."""

    def _describe_end(self) -> str:
        """Return how a worker ended that was not killed from here."""
        return "has ended"

    def _details(self) -> str:
        """Return what else is known about its end."""
        return ""


W = TypeVar("W", bound=Worker)


class Pool(ABC, Generic[W]):
    """Executes jobs in the order of their submission, as many at once as it has slots.

    Each slot has one worker, which is started for the slot's first job and reused for later ones.
    Each submitted job has exactly one `Outcome`, also when the executor is shut down. Retrying is
    the caller's decision. An executor belongs to one thread, which must live as long as the
    executor. The end of a ``with`` block shuts it down and gives running jobs 30 s to flush.

    A subclass starts a worker (`_spawn`) and waits for any worker (`_wait`).

    Parameters
    ----------
    n_slots
        How many jobs run at once.
    hang_timeout
        Seconds that a job may take from its start to its first report, and from each report to
        the next or to its end; None for any time.
    fresh
        Whether an exclusive job gets a new worker, see `JobQueue`.
    """

    def __init__(
        self, n_slots: int, *, hang_timeout: float | None = None, fresh: bool = False
    ) -> None:
        self._workers: list[W | None] = [None] * n_slots
        self._hang_timeout = hang_timeout
        self._queue = JobQueue(fresh=fresh)
        self._pending: dict[str, deque[bytes]] = {}  # undelivered messages by job
        self._ready: deque[Report] = deque()
        self._closed = False

    @abstractmethod
    def _spawn(self, slot: int) -> W:
        """Start a worker for a slot; an OSError makes its job DIED."""

    @abstractmethod
    def _wait(self, timeout: float) -> None:
        """Wait until a worker has reports or has ended."""

    @abstractmethod
    def _device(self, slot: int) -> str:
        """Return the device of the slot's worker, or `job_queue.UNKNOWN`."""

    def _release(self) -> None:
        """Release the executor's resources, after its workers have ended."""

    @property
    def n_slots(self) -> int:
        """How many jobs can run at once."""
        return len(self._workers)

    @property
    def free_slots(self) -> int:
        """How many more non-exclusive jobs would start immediately if submitted now.

        A slot is not free while its worker is ending, or while its device is reserved for or used
        by an exclusive job.
        """
        return self._queue.count_free(self._slot_states())

    @property
    def n_pending(self) -> int:
        """How many submitted jobs have an outcome that `events` has not yielded yet."""
        return len(self._pending)

    def submit(self, job: Job) -> None:
        """Queue `job`, and start it if a slot is free.

        Raises
        ------
        ExecutorError
            The executor is shut down, or a job with this key has no outcome yet.
        """
        if self._closed:
            raise ExecutorError(f"job {job.key!r} was submitted to an executor that is shut down")
        if job.key in self._pending:
            raise ExecutorError(
                f"job {job.key!r} was submitted twice: a key may be used again only after the "
                "outcome of its first job"
            )
        self._pending[job.key] = deque()
        self._queue.put(job)
        self._assign()

    def events(self, timeout: float) -> Iterator[Report]:
        """Yield the reports, after waiting up to `timeout` seconds for the first one.

        The iterator ends after the reports at hand, and immediately if no job is pending. It may be
        left early, and jobs may be submitted while it runs: all reports are kept. Reports during
        `shutdown` are yielded afterwards.
        """
        deadline = time.monotonic() + timeout
        if not self._closed:
            self._attend(0.0)
        while self._pending and not self._ready and (left := deadline - time.monotonic()) > 0:
            self._attend(left)
        while self._ready:
            report = self._ready.popleft()
            if isinstance(report, Outcome):
                del self._pending[report.key]
            yield report

    def send(self, key: str, data: dict[str, Any]) -> None:
        """Send a copy of `data` to a job, which gets it from `execution.received`.

        A queued job gets it after its start; a job may ignore it. The call returns without waiting:
        `events` delivers what the job can't take yet. A key that is not pending is ignored, since
        the job may just have ended; a job that is ending may miss the message. A message never
        reaches a later job, even under the same key.

        Raises
        ------
        ExecutorError
            `data` exceeds 16 kB when pickled.
        """
        message = pickle.dumps(data, pickle.HIGHEST_PROTOCOL)
        if len(message) > MESSAGE_LIMIT:
            raise ExecutorError(
                f"a message of {len(message)} bytes can't be sent to a job, {MESSAGE_LIMIT} are "
                "allowed: send a path or an id of what is large"
            )
        if key in self._pending:
            self._pending[key].append(message)
        for worker in self._present():
            worker.forward_inbox()

    def shutdown(self, grace: float) -> None:
        """Stop every job by raising `Terminated` in it, and give it `grace` seconds to flush.

        A job that returns a value after it was told to stop is CANCELLED with that value. Later
        calls change nothing, except that one from a signal's handler can shorten the grace. An
        exception that interrupts it, such as a second Ctrl-C, ends the jobs immediately.
        """
        self._closed = True
        self._ready.extend(map(_never_started, self._queue.clear()))
        try:
            for worker in self._present():
                worker.stop(grace)
            while self._present():
                self._attend(grace)
        finally:  # also after a second Ctrl-C
            for worker in self._present():
                worker.stopping = True
                worker.kill("had to end at once")
            for worker in self._present():
                self._retire(worker)
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown(GRACE)

    def _present(self) -> list[W]:
        return [worker for worker in self._workers if worker]

    def _attend(self, timeout: float) -> None:
        """Wait for a report, end or deadline of a worker, handle it, and start jobs."""
        deadlines = [worker.deadline for worker in self._present() if worker.deadline is not None]
        left = [max(0.0, deadline - time.monotonic()) for deadline in deadlines]
        self._wait(min([timeout, *left]))
        for worker in self._present():
            if self._workers[worker.slot] is not worker:
                continue  # a signal's handler has shut the executor down meanwhile
            ended = worker.has_ended()  # asked first, so that its last reports are read below
            for report in worker.reports():
                self._note(worker, report)
            if ended:
                self._retire(worker)
            else:
                worker.forward_inbox()
                worker.enforce_limits()
        self._assign()

    def _note(self, worker: W, report: Report) -> None:
        """Pass a worker's report on."""
        if worker.job is None or report.key != worker.job.key:
            return  # from a thread that an earlier job has left behind
        if not isinstance(report, Outcome):
            self._ready.append(report)
            return
        worker.finish()
        if report.state is OutcomeState.CANCELLED:
            report = _interrupted(report, by_driver=worker.stopping)
            worker.stop(GRACE)  # what an interrupted job leaves behind is not reused
        elif report.state is OutcomeState.DIED:
            worker.kill("was asked to end by its job")
        self._ready.append(report)

    def _retire(self, worker: W) -> None:
        """Free the slot of a worker that has ended; its current job has died."""
        self._workers[worker.slot] = None
        worker.close()
        if worker.job:
            self._ready.append(worker.death(worker.job))

    def _slot_states(self) -> list[SlotState]:
        states = []
        for slot, worker in enumerate(self._workers):
            warm = worker is not None and worker.is_idle
            busy = worker is not None and not warm
            alone = worker is not None and busy and worker.alone
            states.append(SlotState(self._device(slot), busy, alone, warm))
        return states

    def _assign(self) -> None:
        """Start the jobs that can start now."""
        if not self._queue:
            return
        for worker in self._present():
            if worker.is_idle and worker.has_ended():
                self._retire(worker)
        while step := self._queue.next_step(self._slot_states()):
            slot, job = step
            if job:
                self._start(job, slot)
            elif idle := self._workers[slot]:
                idle.stop(GRACE)

    def _start(self, job: Job, slot: int) -> None:
        worker = self._workers[slot]
        if worker is None:
            try:
                worker = self._workers[slot] = self._spawn(slot)
            except OSError as error:
                reason = f"no worker could be started: {error}"
                self._ready.append(Outcome(job.key, OutcomeState.DIED, error=reason, reason=reason))
                return
        worker.start(job, self._pending[job.key], self._hang_timeout)


#: Any executor: what jobs are submitted to.
Executor: TypeAlias = Pool[Any]


def _never_started(key: str) -> Outcome:
    return Outcome(key, OutcomeState.CANCELLED, reason="cancelled before it started")


def _interrupted(outcome: Outcome, by_driver: bool) -> Outcome:
    """Complete the outcome of a job that was told to stop: who has interrupted it."""
    if by_driver:
        return replace(outcome, reason=outcome.reason or "stopped as asked")
    reason = "stopped by a SIGTERM that the driver did not send"
    error, code = outcome.error or reason, -signal.SIGTERM
    return replace(outcome, state=OutcomeState.DIED, error=error, reason=reason, exitcode=code)
