"""What every executor takes, does and yields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Protocol, Self

from ecg_mlflow.errors import EcgMlflowError


class ExecutorError(EcgMlflowError, RuntimeError):
    """An executor was used in a way that it can't honour."""


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes
    ----------
    key
        Names the job in every report. Unique among the jobs that have no outcome yet, so that a
        job may be submitted again under its key once it has failed.
    payload
        Handed to the job function as it is.
    cost
        The submitter's estimate, in any unit. Executors keep the order of submission: who wants
        the longest first sorts by this before submitting.
    exclusive
        Alone on its device, as for another try after memory has run out. It starts when nothing
        else runs there and idle workers have ended, and until its end nothing else starts there.
        Once it is its turn, a device is kept free for it; later jobs may go on elsewhere.
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
    """The process ended under the job, or hung and was killed. Worth another try."""
    CANCELLED = "cancelled"
    """`Executor.cancel` or `Executor.shutdown` stopped it, before or after it had started."""


@dataclass(frozen=True)
class Started:
    """A job has been handed to a worker: slot number and process id."""

    key: str
    worker: int
    pid: int


@dataclass(frozen=True)
class Event:
    """What a running job said by ``report(data)``."""

    key: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The end of a job, the last report under its key.

    Attributes
    ----------
    value
        What the function returned, if it did. A job that was told to stop may still have
        returned something.
    error
        The full text: a traceback, or what became of the process and the end of its log.
    reason
        The same in one line.
    error_type
        Qualified name of the exception, ``"ValueError"`` or ``"package.module.OwnError"``.
    exitcode
        Of a process that ended under the job: its exit status, or minus the number of the
        signal that killed it.
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
    shut down. Retrying is the caller's decision. An executor belongs to one thread, which has
    to live as long as the executor does.
    """

    @property
    def n_slots(self) -> int:
        """How many jobs can run at once."""

    @property
    def free_slots(self) -> int:
        """How many more jobs, none of them exclusive, would start at once if submitted now."""

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
        """Yield what has been reported, waiting up to `timeout` seconds for the first report.

        The iterator ends when nothing more is at hand, and at once when no job is pending. It
        may be left early, and jobs may be submitted and cancelled while it runs: no report is
        lost. What was reported during `shutdown` is yielded afterwards.
        """

    def send(self, key: str, data: dict[str, Any]) -> None:
        """Bring a copy of `data` to a job, which gets it from `ecg_mlflow.executors.received`.

        A job that is queued gets it once it has started, and one that never asks for it is none
        the worse. The call waits for no job: what can't be handed on at once is handed on while
        `events` runs. A key that is not pending is ignored, for the job may just have ended, and
        whether a job that is ending still reads it is open. It never reaches a later job, not
        even one under the same key.

        Raises
        ------
        ExecutorError
            `data` is no dict, can't be pickled, or is more than 16 kB when pickled.
        """

    def cancel(self, key: str, grace: float | None = None) -> None:
        """Take a job from the queue, or tell it to stop: `Terminated` is raised in it.

        It has `grace` seconds to flush, None for the executor's own. A later call, of
        `shutdown` too, can only shorten them. A job that returns something after it was told
        to stop is CANCELLED with that value; one that returned before it noticed may turn out
        to be DONE. A key that is not pending is ignored, for the job may just have ended.
        """

    def shutdown(self, grace: float) -> None:
        """Cancel every job and give the running ones `grace` seconds to flush. Idempotent.

        An exception that interrupts it, as a second Ctrl-C does, ends them at once.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def check_hang_timeout(seconds: float | None) -> float | None:
    """Return `seconds`, None for any time, or raise ExecutorError where no job could keep them."""
    if seconds is not None and not seconds > 0:
        raise ExecutorError(f"hang_timeout={seconds:g}: write seconds above 0, or leave it out")
    return seconds
