"""Call a job function, and encode the messages to and from it, for every executor.

The driver sends a job pickled dicts, small enough to be delivered without waiting. Each executor
brings them to the job's thread in its own way; jobs call `received`.
"""

from __future__ import annotations

import importlib
import pickle
import re
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from ecg_mlflow.executors.base import ExecutorError, Job, Outcome, OutcomeState
from ecg_mlflow.executors.stopping import Terminated, ThreadStop, stop_requested

JobFunction = Callable[[bytes, Callable[[dict[str, Any]], None]], Any]

MESSAGE_LIMIT = 16_000  # bytes; a connection writes so many in one piece

_HERE = threading.local()
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class WorkerMessage:
    """What a worker sends to the driver: pickled `report` data, or a job's `CallResult`."""

    key: str
    content: bytes | CallResult


@dataclass(frozen=True)
class CallResult:
    """The end of a call. `value` is a pickle; None if the function raised."""

    value: bytes | None = None
    error: str | None = None
    reason: str | None = None
    error_type: str | None = None
    interrupted: bool = False


def check_import_path(function: str) -> str:
    """Return `function`, an import path ``package.module:function``.

    Raises
    ------
    ExecutorError
        If it is malformed. Import errors show in the worker.
    """
    if not _IMPORT_PATH.fullmatch(function):
        raise ExecutorError(
            f"{function!r} does not name a job function: write 'package.module:function'"
        )
    return function


def call(function: str, payload: bytes, report: Callable[[dict[str, Any]], None]) -> CallResult:
    """Import `function`, call it and catch what it raises.

    SystemExit and KeyboardInterrupt propagate, since the job requests the end of the process.
    """
    try:
        value = _load(function)(payload, report)
    except Terminated as error:
        return CallResult(interrupted=True) if stop_requested() else _failure(error)
    except Exception as error:  # noqa: BLE001 - whatever a job raises becomes its outcome
        return _failure(error)
    return encode_result(value)


def _load(function: str) -> JobFunction:
    module, _, name = function.partition(":")
    loaded: JobFunction = getattr(importlib.import_module(module), name)
    return loaded


def _failure(error: BaseException) -> CallResult:
    own_frame = error.__traceback__
    told = describe_error(error, own_frame.tb_next if own_frame else None)
    return CallResult(error=told["error"], reason=told["reason"], error_type=told["error_type"])


def describe_error(error: BaseException, trace: TracebackType | None) -> dict[str, str]:
    """Return ``error``, ``reason`` and ``error_type`` of an exception, as in `Outcome`."""
    return {
        "error": "".join(traceback.format_exception(type(error), error, trace)),
        "reason": _one_line("".join(traceback.format_exception_only(error))),
        "error_type": type_name(error),
    }


def type_name(value: object) -> str:
    """Return the qualified name of the type of `value`, as in outcomes."""
    kind = type(value)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return prefix + kind.__qualname__


def _one_line(text: str) -> str:
    return " ".join(text.split())


def encode_result(value: object) -> CallResult:
    """Pickle a job's result, or return the error if it can't be pickled."""
    try:
        return CallResult(value=pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    except Exception as error:  # noqa: BLE001 - __reduce__ is user code and raises anything
        reason = (
            f"the job's result, a {type_name(value)}, can't be sent to the driver "
            f"({_one_line(str(error))}): return numbers, text, arrays, or lists and dicts of them"
        )
        return CallResult(error=reason, reason=reason, error_type=type_name(error))


def encode_report(data: dict[str, Any]) -> bytes:
    """Pickle a job's report.

    Raises
    ------
    TypeError
        If `data` is not a dict, or can't be pickled and unpickled; the job then fails.
    """
    return encode_dict(data, "report()", "the driver")


def encode_dict(data: dict[str, Any], function: str, receiver: str) -> bytes:
    """Pickle the argument of `function` for `receiver`; a TypeError names both."""
    if not isinstance(data, dict):
        raise TypeError(f"{function} takes a dict, not a {type_name(data)}")
    try:
        encoded = pickle.dumps(data, pickle.HIGHEST_PROTOCOL)
        pickle.loads(encoded)  # raises here instead of at the receiver
    except Exception as error:
        raise TypeError(
            f"{function} can't send {sorted(map(str, data))} to {receiver} ({error}): it takes "
            "numbers, text, arrays, and lists and dicts of them"
        ) from error
    return encoded


def to_outcome(key: str, result: CallResult, cancelled: bool) -> Outcome:
    """Turn a result into an outcome; `cancelled` if the driver told the job to stop."""
    value = None
    if result.value is not None:
        try:
            value = pickle.loads(result.value)
        except Exception as error:  # noqa: BLE001 - unpickling runs any code
            reason = f"the job's result can't be unpickled in the driver: {_one_line(str(error))}"
            result = replace(result, error=reason, reason=reason, error_type=type_name(error))
    if not result.interrupted:
        state = OutcomeState.FAILED if result.error else OutcomeState.DONE
        return Outcome(key, state, value, result.error, result.reason, result.error_type)
    if cancelled:
        reason = result.reason or "stopped as asked"
        return Outcome(key, OutcomeState.CANCELLED, value, result.error, reason, result.error_type)
    reason = "stopped by a SIGTERM that the driver did not send"
    return Outcome(
        key, OutcomeState.DIED, value, result.error or reason, reason, exitcode=-signal.SIGTERM
    )


def exit_outcome(key: str, error: BaseException) -> Outcome:
    """Return the outcome of a job that requested the end of the process."""
    code = error.code if isinstance(error, SystemExit) else 1
    exitcode = code if isinstance(code, int) else int(code is not None)
    return Outcome(
        key,
        OutcomeState.DIED,
        error="".join(traceback.format_exception(error)),
        reason=f"the job raised {error!r}, which ends a process, with exit code {exitcode}",
        exitcode=exitcode,
    )


def encode_message(data: dict[str, Any]) -> bytes:
    """Pickle a message of the driver.

    Raises
    ------
    ExecutorError
        If `data` is not a dict, can't be pickled and unpickled, or is too large.
    """
    try:
        message = encode_dict(data, "send()", "the job")
    except TypeError as error:
        raise ExecutorError(str(error)) from error
    if len(message) > MESSAGE_LIMIT:
        raise ExecutorError(
            f"send() can't send {sorted(map(str, data))} to the job: these are {len(message)} "
            f"bytes, and {MESSAGE_LIMIT} are allowed. Send a path or an id of what is large"
        )
    return message


def take_all(inbox: deque[bytes]) -> list[bytes]:
    """Empty a deque to which another thread may be adding."""
    return [inbox.popleft() for _ in range(len(inbox))]


@contextmanager
def reading(take: Callable[[], list[bytes]]) -> Iterator[None]:
    """Let `received` get its messages from `take` in this thread.

    `take` returns new messages without waiting. In other threads of the job `received` returns an
    empty list, since only one thread may read a connection.
    """
    _HERE.take = take
    try:
        yield
    finally:
        del _HERE.take


def received() -> list[dict[str, Any]]:
    """Return the driver's messages to this job since the last call, the oldest first.

    Call it in the job's thread, up to once per iteration: without messages it takes some
    microseconds. In other threads and outside jobs it returns an empty list. If `Terminated`
    interrupts it, its messages are lost; in a `shielded` block they are kept::

        for batch in batches:
            step(batch)
            for data in received():
                drop(data["pruned"])
    """
    take = getattr(_HERE, "take", None)
    return [pickle.loads(message) for message in take()] if take else []


class JobThread(threading.Thread):
    """A thread that executes one job.

    Parameters
    ----------
    function
        The job function's import path.
    job
        The job.
    take
        Returns the messages to the job, without waiting.
    send
        Called with each of the job's messages, and at last with its `CallResult` or, if the job
        requested the end of the process, its outcome.

    Attributes
    ----------
    stop
        Tells the job to stop.
    """

    def __init__(
        self,
        function: str,
        job: Job,
        take: Callable[[], list[bytes]],
        send: Callable[[WorkerMessage | Outcome], None],
    ) -> None:
        # A daemon thread, so that the process can exit despite an abandoned job.
        super().__init__(name=f"job {job.key}", daemon=True)
        self.job = job
        self.stop = ThreadStop()
        self._function = function
        self._take = take
        self._send = send

    def run(self) -> None:
        """Execute the job."""
        try:
            with self.stop.governing_this_thread(), reading(self._take):
                result = call(self._function, self.job.payload, self._report)
        except BaseException as error:  # noqa: BLE001 - without an outcome the driver would wait on
            self._send(exit_outcome(self.job.key, error))
        else:
            self._send(WorkerMessage(self.job.key, replace(result, interrupted=self.stop.told)))

    def _report(self, data: dict[str, Any]) -> None:
        self._send(WorkerMessage(self.job.key, encode_report(data)))
        self.stop.check()
