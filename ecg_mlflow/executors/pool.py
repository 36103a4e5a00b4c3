"""Run jobs in a pool with one worker per slot, the common base of all executors."""

from __future__ import annotations

import pickle
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from ecg_mlflow.executors.base import (
    Event,
    ExecutorError,
    Job,
    Outcome,
    OutcomeState,
    Report,
    Started,
)
from ecg_mlflow.executors.job_queue import EndIdle, JobQueue, SlotState
from ecg_mlflow.executors.messages import CallResult, WorkerMessage, encode_message, to_outcome


class PoolWorker(Protocol):
    """The interface of a worker for its pool.

    Attributes
    ----------
    slot
        Number of the slot whose jobs it executes.
    job
        Its current job.
    alone
        Whether its current or last job is an exclusive one.
    stopping
        Whether it was told to stop.
    """

    slot: int
    job: Job | None
    alone: bool
    stopping: bool

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def is_idle(self) -> bool:
        """Whether it can take a job."""

    def start(self, job: Job, inbox: deque[bytes]) -> None:
        """Start a job; its messages are taken from `inbox`, now and later."""

    def forward_inbox(self) -> None:
        """Deliver the messages to its job that can be delivered without waiting."""

    def stop(self, grace: float) -> None:
        """Tell its job to end within `grace` seconds; a later call can only shorten that."""

    def finish(self) -> None:
        """Record that its job has its outcome."""

    def close(self) -> None:
        """End it if it is still running, and release its resources."""

    def death(self, job: Job) -> Outcome:
        """Return the outcome of `job`, during which the worker ended. Call it after `close`."""


W = TypeVar("W", bound=PoolWorker)


class Pool(ABC, Generic[W]):
    """One worker per slot, started for its slot's first job and reused for later ones.

    A subclass starts a worker (`_spawn`) and waits for messages of all workers (`_attend`).

    Parameters
    ----------
    n_slots
        How many jobs run at once.
    grace
        Seconds to flush, for a cancelled job and at the end of a ``with`` block.
    fresh
        Whether an exclusive job gets a new worker, see `JobQueue`.
    """

    #: Whether a job starts as soon as its worker has it; otherwise `_attend` reports its start.
    _starts_at_once = True

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
    def _attend(self, timeout: float) -> None:
        """Wait for a message, end or time limit of a worker, handle it, and call `_assign`."""

    @abstractmethod
    def _device(self, slot: int) -> str:
        """Return the device of the slot's worker, or `job_queue.UNKNOWN`."""

    @abstractmethod
    def _is_ending(self) -> bool:
        """Whether `shutdown` has workers to wait for."""

    @abstractmethod
    def _end_all(self) -> None:
        """End the remaining workers immediately, retire them, and release all resources."""

    @property
    def n_slots(self) -> int:
        """How many jobs can run at once."""
        return len(self._workers)

    @property
    def free_slots(self) -> int:
        """How many more jobs would start immediately; see `Executor.free_slots`.

        A slot is not free while its worker is ending, or while its device is reserved for or used
        by an exclusive job.
        """
        return self._queue.count_free(self._slot_states())

    @property
    def n_pending(self) -> int:
        """How many submitted jobs have an outcome that `events` has not yielded yet."""
        return len(self._pending)

    def submit(self, job: Job) -> None:
        """Queue `job`, and start it if a slot is free; see `Executor.submit`.

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
        """Yield the reports; see `Executor.events`."""
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
        """Send `data` to the job's worker, when it has one; see `Executor.send`."""
        message = encode_message(data)
        if key in self._pending:
            self._pending[key].append(message)
        for worker in self._present():
            worker.forward_inbox()

    def cancel(self, key: str, grace: float | None = None) -> None:
        """Remove a job from the queue, or tell its worker to stop; see `Executor.cancel`."""
        if self._queue.remove(key):
            self._ready.append(_cancelled_in_queue(key))
        for worker in self._present():
            if worker.job and worker.job.key == key:
                self._stop(worker, self._grace if grace is None else grace)

    def shutdown(self, grace: float) -> None:
        """Cancel every job, end every worker; see `Executor.shutdown`."""
        self._closed = True
        self._ready.extend(map(_cancelled_in_queue, self._queue.clear()))
        try:
            for worker in self._present():
                self._stop(worker, grace)
            while self._is_ending():
                self._attend(grace)
        finally:  # also after a second Ctrl-C
            self._end_all()

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

    def _is_current(self, worker: W) -> bool:
        """Whether the pool still has this worker: a signal's handler may have shut it down."""
        return self._workers[worker.slot] is worker

    def _stop(self, worker: W, grace: float) -> None:
        worker.stop(grace)

    def _withdraw_job(self, worker: W) -> None:
        """Cancel the job of a worker to which it has not been sent."""
        assert worker.job is not None
        self._ready.append(_cancelled_in_queue(worker.job.key))
        worker.finish()

    def _note(self, worker: W, message: WorkerMessage) -> None:
        """Turn a worker's message into a report."""
        if worker.job is None or message.key != worker.job.key:
            return  # from a thread of an earlier job
        if isinstance(message.content, CallResult):
            self._ready.append(to_outcome(message.key, message.content, worker.stopping))
            worker.finish()
        else:
            self._ready.append(Event(message.key, pickle.loads(message.content)))

    def _retire(self, worker: W) -> None:
        """Free the slot of a worker that has ended; its current job has died."""
        self._workers[worker.slot] = None
        worker.close()
        if worker.job:
            self._ready.append(worker.death(worker.job))

    def _slot_states(self) -> list[SlotState]:
        return [
            SlotState(
                self._device(slot),
                busy=worker is not None and not worker.is_idle,
                alone=worker is not None and not worker.is_idle and worker.alone,
                warm=worker is not None and worker.is_idle,
            )
            for slot, worker in enumerate(self._workers)
        ]

    def _retire_ended(self) -> None:
        """Retire idle workers that have ended, before they get a job."""

    def _end_idle(self, worker: W) -> None:
        """End an idle worker to free its memory for an exclusive job."""
        worker.stop(self._grace)

    def _assign(self) -> None:
        """Start the jobs that can start now."""
        if not self._queue:
            return
        self._retire_ended()
        while step := self._queue.next_step(self._slot_states()):
            worker = self._workers[step.slot]
            if not isinstance(step, EndIdle):
                self._start(step.job, step.slot)
            elif worker:
                self._end_idle(worker)

    def _start(self, job: Job, slot: int) -> None:
        worker = self._workers[slot]
        if worker is None:
            try:
                worker = self._workers[slot] = self._spawn(slot)
            except OSError as error:
                reason = f"no worker could be started: {error}"
                self._ready.append(Outcome(job.key, OutcomeState.DIED, error=reason, reason=reason))
                return
        if self._starts_at_once:
            self._ready.append(Started(job.key, slot, worker.pid))
        worker.start(job, self._pending[job.key])


def _cancelled_in_queue(key: str) -> Outcome:
    """Return the outcome of a job that never started."""
    return Outcome(key, OutcomeState.CANCELLED, reason="cancelled before it started")
