"""Run jobs in a pool with one worker per slot, the common base of all executors."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

from ecg_mlflow.executors.base import ExecutorError, Job, Outcome, OutcomeState, Report, Started
from ecg_mlflow.executors.job_queue import JobQueue, SlotState
from ecg_mlflow.executors.messages import decode_outcome, encode_message


class Worker(ABC):
    """What executes the jobs of one slot, seen from the driver.

    Parameters
    ----------
    slot
        Number of the slot.
    hang_timeout
        Seconds that its job may take from its start to its first report, and from each report to
        the next; None for any time.

    Attributes
    ----------
    job
        Its current job.
    alone
        Whether its current or last job is an exclusive one.
    has_begun
        Whether its current job has started.
    stopping
        Whether it was told to stop.
    """

    def __init__(self, slot: int, hang_timeout: float | None = None) -> None:
        self.slot = slot
        self.job: Job | None = None
        self.alone = False
        self.has_begun = False
        self.stopping = False
        self._inbox: deque[bytes] = deque()
        self._hang_timeout = hang_timeout
        self._last_sign = 0.0
        self._grace = 0.0
        self._stop_by: float | None = None
        self._killed_because: str | None = None

    @property
    @abstractmethod
    def pid(self) -> int:
        """The process id."""

    @property
    def name(self) -> str:
        """The worker's name in messages."""
        return f"worker {self.slot} (pid {self.pid})"

    @property
    def is_waiting(self) -> bool:
        """Whether its job can be taken back, since it has not been sent."""
        return False

    @property
    def is_idle(self) -> bool:
        """Whether it can take a job."""
        return self.job is None and not self.stopping and self._killed_because is None

    @property
    def deadline(self) -> float | None:
        """The time at which `enforce_limits` has something to do, as far as is known."""
        if self._stop_by is not None or self._hang_timeout is None:
            return self._stop_by
        is_watched = self.has_begun and self._killed_because is None
        return self._last_sign + self._hang_timeout if is_watched else None

    def start(self, job: Job, inbox: deque[bytes]) -> None:
        """Start a job; its messages are taken from `inbox`, now and later."""
        self.job = job
        self.alone = job.exclusive
        self._inbox = inbox
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
        self.has_begun = False

    def enforce_limits(self) -> None:
        """Kill it if the grace of `stop` is over; abort it if its job hangs."""
        if self.deadline is None or time.monotonic() < self.deadline:
            return
        if self._stop_by is None:
            silent = f"gave no sign of life for {self._hang_timeout:g} s"
            self._killed_because = f"{silent} and was killed"
            self._abort()
        else:
            self.kill(f"did not stop within {self._grace:g} s and was killed")

    def kill(self, because: str) -> None:
        """End it immediately, with what its jobs have started."""
        self._killed_because = self._killed_because or because
        self._stop_by = None
        self._kill()

    def death(self, job: Job) -> Outcome:
        """Return the outcome of `job`, during which the worker ended. Call it after `close`."""
        reason = f"{self.name} {self._killed_because or self._describe_end()}"
        state = OutcomeState.CANCELLED if self.stopping else OutcomeState.DIED
        return Outcome(job.key, state, error=f"{reason}\n{self._details()}", reason=reason)

    @abstractmethod
    def _begin(self, job: Job) -> None:
        """Give it the job; set `has_begun` if it starts at once."""

    def forward_inbox(self) -> None:  # noqa: B027 - a job may read its inbox itself
        """Deliver the messages to its job that can be delivered without waiting."""

    @abstractmethod
    def reports(self) -> Iterator[Report]:
        """Yield the reports that have arrived; `Outcome.value` is pickled."""

    def has_ended(self) -> bool:
        """Whether it is gone. The reports that it sent before can still be read."""
        return False

    def close(self) -> None:  # noqa: B027 - a thread has nothing to release
        """End it if it is still running, and release its resources."""

    @abstractmethod
    def _request_stop(self) -> None:
        """Tell its job to stop, or a worker without a job to end."""

    def _abort(self) -> None:
        """End a hanging worker, and find out where it hangs."""
        self._kill()

    def _kill(self) -> None:  # noqa: B027 - a thread can't be ended
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
    Each submitted job has exactly one `Outcome`, also when it is cancelled or the executor is shut
    down. Retrying is the caller's decision. An executor belongs to one thread, which must live as
    long as the executor.

    A subclass starts a worker (`_spawn`) and waits for any worker (`_wait`).

    Parameters
    ----------
    n_slots
        How many jobs run at once.
    grace
        Seconds to flush, for a cancelled job and at the end of a ``with`` block.
    fresh
        Whether an exclusive job gets a new worker, see `JobQueue`.
    """

    def __init__(self, n_slots: int, *, grace: float, fresh: bool = True) -> None:
        self._workers: list[W | None] = [None] * n_slots
        self._grace = grace
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

    def _is_ending(self) -> bool:
        """Whether `shutdown` has workers to wait for."""
        return any(worker.job for worker in self._present())

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
        left early, and jobs may be submitted and cancelled while it runs: all reports are kept.
        Reports during `shutdown` are yielded afterwards.
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
        """Send a copy of `data` to a job, which gets it from `ecg_mlflow.executors.received`.

        A queued job gets it after its start; a job may ignore it. The call returns without waiting:
        `events` delivers what the job can't take yet. A key that is not pending is ignored, since
        the job may just have ended; a job that is ending may miss the message. A message never
        reaches a later job, even under the same key.

        Raises
        ------
        ExecutorError
            `data` is not a dict, can't be pickled, or exceeds 16 kB when pickled.
        """
        message = encode_message(data)
        if key in self._pending:
            self._pending[key].append(message)
        for worker in self._present():
            worker.forward_inbox()

    def cancel(self, key: str, grace: float | None = None) -> None:
        """Remove a job from the queue, or tell it to stop by raising `Terminated` in it.

        It has `grace` seconds to flush, None for the executor's default. A later call, also of
        `shutdown`, can only shorten them. A job that returns a value after it was told to stop is
        CANCELLED with that value; one that returned just before may be DONE. A key that is not
        pending is ignored, since the job may just have ended.
        """
        if self._queue.remove(key):
            self._ready.append(_cancelled_in_queue(key))
        for worker in self._present():
            if worker.job and worker.job.key == key:
                self._stop(worker, self._grace if grace is None else grace)

    def shutdown(self, grace: float) -> None:
        """Cancel every job and give the running ones `grace` seconds to flush. Idempotent.

        An exception that interrupts it, such as a second Ctrl-C, ends them immediately.
        """
        self._closed = True
        self._ready.extend(map(_cancelled_in_queue, self._queue.clear()))
        try:
            for worker in self._present():
                self._stop(worker, grace)
            while self._is_ending():
                self._attend(grace)
        finally:  # also after a second Ctrl-C
            for worker in self._present():
                worker.stopping = True
                worker.kill("was killed at the shutdown")
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
        self.shutdown(self._grace)

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
            return  # from a thread of an earlier job
        if not isinstance(report, Outcome):
            self._ready.append(report)
            return
        self._ready.append(decode_outcome(report, worker.stopping))
        worker.finish()
        if report.state is OutcomeState.DIED:
            worker.kill("was asked to end by its job")

    def _stop(self, worker: W, grace: float) -> None:
        if worker.job and worker.is_waiting:
            self._ready.append(_cancelled_in_queue(worker.job.key))
            worker.finish()
        else:
            worker.stop(grace)

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
                idle.stop(self._grace)

    def _start(self, job: Job, slot: int) -> None:
        worker = self._workers[slot]
        if worker is None:
            try:
                worker = self._workers[slot] = self._spawn(slot)
            except OSError as error:
                reason = f"no worker could be started: {error}"
                self._ready.append(Outcome(job.key, OutcomeState.DIED, error=reason, reason=reason))
                return
        worker.start(job, self._pending[job.key])
        if worker.has_begun:
            self._ready.append(Started(job.key, slot, worker.pid))


#: Any executor: what jobs are submitted to.
Executor: TypeAlias = Pool[Any]


def _cancelled_in_queue(key: str) -> Outcome:
    """Return the outcome of a job that never started."""
    return Outcome(key, OutcomeState.CANCELLED, reason="cancelled before it started")


def check_hang_timeout(seconds: float | None) -> float | None:
    """Return `seconds`, or None for no limit; raise ExecutorError unless they are above 0."""
    if seconds is not None and not seconds > 0:
        raise ExecutorError(f"hang_timeout={seconds:g}: write seconds above 0, or leave it out")
    return seconds
