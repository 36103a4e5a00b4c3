"""Define jobs and the reports about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

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
    exclusive
        Whether it runs alone on its device, as for a retry after a lack of memory. When it is next
        in the queue, a device is reserved for it: it starts when all jobs there and idle workers
        have ended, and no other job starts there until its end. Later jobs use other devices.
    """

    key: str
    payload: bytes
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
    """`Pool.shutdown` stopped it, before or after it had started."""


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
        The full text: a traceback, or how the process ended and the end of its output.
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


Report = Event | Outcome
