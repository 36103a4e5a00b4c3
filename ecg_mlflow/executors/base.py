"""Define the executor protocol, its jobs and its reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Protocol, Self

from ecg_mlflow.errors import EcgMlflowError


class ExecutorError(EcgMlflowError, RuntimeError):
    """An executor was used in an unsupported way."""


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes
    ----------
    key
        Identifies the job in every report. Unique among the jobs without an outcome, so that a job
        may be submitted again under its key after it has failed.
    payload
        Argument of the job function.
    cost
        The submitter's estimate, in any unit. Executors keep the order of submission; to run the
        longest first, sort by this before submitting.
    exclusive
        Whether it runs alone on its device, as for a retry after a lack of memory. When it is next
        in the queue, a device is reserved for it: it starts when all jobs there and idle workers
        have ended, and no other job starts there until its end. Later jobs use other devices.
    """

    key: str
    payload: bytes
    cost: float = 0.0
    exclusive: bool = False


class OutcomeState(Enum):
    """How a job ended."""

    DONE = "done"
    """The function returned."""
    FAILED = "failed"
    """The function raised, or its result can't be brought to the driver: a user's error."""
    DIED = "died"
    """The process ended during the job, or hung and was killed. The job may be retried."""
    CANCELLED = "cancelled"
    """`Executor.cancel` or `Executor.shutdown` stopped it, before or after it had started."""


@dataclass(frozen=True)
class Started:
    """A job was given to a worker: slot number and process id."""

    key: str
    worker: int
    pid: int


@dataclass(frozen=True)
class Event:
    """The data that a running job passed to ``report(data)``."""

    key: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The end of a job, the last report under its key.

    Attributes
    ----------
    value
        The return value of the function, if any. A job that was told to stop may still return one.
    error
        The full text: a traceback, or how the process ended and the end of its log.
    reason
        The same in one line.
    error_type
        Qualified name of the exception, ``"ValueError"`` or ``"package.module.OwnError"``.
    exitcode
        Exit status of a process that ended during the job, or minus the number of the signal that
        killed it.
    """

    key: str
    state: OutcomeState
    value: Any = None
    error: str | None = None
    reason: str | None = None
    error_type: str | None = None
    exitcode: int | None = None


Report = Started | Event | Outcome


class Executor(Protocol):
    """Executes jobs in the order of their submission, as many at once as it has slots.

    Each submitted job has exactly one `Outcome`, also when it is cancelled or the executor is
    shut down. Retrying is the caller's decision. An executor belongs to one thread, which must
    live as long as the executor.
    """

    @property
    def n_slots(self) -> int:
        """How many jobs can run at once."""

    @property
    def free_slots(self) -> int:
        """How many more non-exclusive jobs would start immediately if submitted now."""

    @property
    def n_pending(self) -> int:
        """How many submitted jobs have an outcome that `events` has not yielded yet."""

    def submit(self, job: Job) -> None:
        """Queue `job`, and start it if a slot is free.

        Raises
        ------
        ExecutorError
            The executor is shut down, or a job with this key has no outcome yet.
        """

    def events(self, timeout: float) -> Iterator[Report]:
        """Yield the reports, after waiting up to `timeout` seconds for the first one.

        The iterator ends after the reports at hand, and immediately if no job is pending. It may be
        left early, and jobs may be submitted and cancelled while it runs: all reports are kept.
        Reports during `shutdown` are yielded afterwards.
        """

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

    def cancel(self, key: str, grace: float | None = None) -> None:
        """Remove a job from the queue, or tell it to stop by raising `Terminated` in it.

        It has `grace` seconds to flush, None for the executor's default. A later call, also of
        `shutdown`, can only shorten them. A job that returns a value after it was told to stop is
        CANCELLED with that value; one that returned just before may be DONE. A key that is not
        pending is ignored, since the job may just have ended.
        """

    def shutdown(self, grace: float) -> None:
        """Cancel every job and give the running ones `grace` seconds to flush. Idempotent.

        An exception that interrupts it, such as a second Ctrl-C, ends them immediately.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def check_hang_timeout(seconds: float | None) -> float | None:
    """Return `seconds`, or None for no limit; raise ExecutorError unless they are above 0."""
    if seconds is not None and not seconds > 0:
        raise ExecutorError(f"hang_timeout={seconds:g}: write seconds above 0, or leave it out")
    return seconds
