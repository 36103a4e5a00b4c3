"""What all executors share: one worker per slot, a queue of jobs, and reports of each job."""

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
    """A worker as its pool sees it.

    Attributes
    ----------
    slot
        Number of the slot whose jobs it executes.
    job
        The job that it has in hand.
    alone
        That job is, or its last one was, an exclusive one.
    stopping
        It has been told to stop.
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
        """Whether it can be given a job."""

    def start(self, job: Job, inbox: deque[bytes]) -> None:
        """Take a job in hand; what is sent to the job is taken from `inbox`, now and later."""

    def forward_inbox(self) -> None:
        """Hand on what has been sent to its job, as far as that needs no waiting."""

    def stop(self, grace: float) -> None:
        """Tell its job to end within `grace` seconds; a later call can only shorten that."""

    def finish(self) -> None:
        """Note that its job has its outcome."""

    def close(self) -> None:
        """End it, if it has not ended, and let go of what belongs to it."""

    def death(self, job: Job) -> Outcome:
        """Return the outcome of `job`, under which the worker has ended. Call after `close`."""


W = TypeVar("W", bound=PoolWorker)


class Pool(ABC, Generic[W]):
    """One worker per slot, started for its slot's first job and kept for the next ones.

    An executor is a pool that knows how to start a worker (`_spawn`) and how to listen to all of
    them (`_attend`).

    Parameters
    ----------
    n_slots
        How many jobs run at once.
    grace
        Seconds to flush, for a cancelled job and at the end of a ``with`` block.
    fresh
        Whether an exclusive job gets a new worker, see `JobQueue`.
    """

    #: A job runs as soon as its worker has it; otherwise `_attend` says when it has begun.
    _starts_at_once = True

    def __init__(self, n_slots: int, *, grace: float, fresh: bool = True) -> None:
        self._workers: list[W | None] = [None] * n_slots
        self._grace = grace
        self._queue = JobQueue(fresh=fresh)
        self._pending: dict[str, deque[bytes]] = {}  # what has yet to be handed on to each job
        self._ready: deque[Report] = deque()
        self._closed = False

    @abstractmethod
    def _spawn(self, slot: int) -> W:
        """Start a worker for a slot; an OSError makes its job DIED."""

    @abstractmethod
    def _attend(self, timeout: float) -> None:
        """Wait until a worker speaks, ends or is overdue, take note, and call `_assign`."""

    @abstractmethod
    def _device(self, slot: int) -> str:
        """Return what the slot's worker runs on, or `job_queue.UNKNOWN`."""

    @abstractmethod
    def _is_ending(self) -> bool:
        """Whether `shutdown` has workers to wait for."""

    @abstractmethod
    def _end_all(self) -> None:
        """End what is left of the workers at once, retire them, and let go of all else."""

    @property
    def n_slots(self) -> int:
        """How many jobs can run at once."""
        return len(self._workers)

    @property
    def free_slots(self) -> int:
        """How many more jobs would start at once; see `Executor.free_slots`.

        Not free is a slot whose worker is ending, or whose device an exclusive job has or awaits.
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
        """Yield what has been reported; see `Executor.events`."""
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
        """Bring `data` to the job's worker, once it has one; see `Executor.send`."""
        message = encode_message(data)
        if key in self._pending:
            self._pending[key].append(message)
        for worker in self._present():
            worker.forward_inbox()

    def cancel(self, key: str, grace: float | None = None) -> None:
        """Take a job from the queue, or tell its worker to stop; see `Executor.cancel`."""
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
        finally:  # a second Ctrl-C comes this way
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
            return  # a thread that an earlier job has left behind
        if isinstance(message.content, CallResult):
            self._ready.append(to_outcome(message.key, message.content, worker.stopping))
            worker.finish()
        else:
            self._ready.append(Event(message.key, pickle.loads(message.content)))

    def _retire(self, worker: W) -> None:
        """Free the slot of a worker that has ended; a job that it had in hand has died."""
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
        """Retire idle workers that have ended, before they are given a job."""

    def _end_idle(self, worker: W) -> None:
        """End an idle worker, for an exclusive job needs its memory."""
        worker.stop(self._grace)

    def _assign(self) -> None:
        """Start the jobs whose turn it is."""
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
