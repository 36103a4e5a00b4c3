"""Execute a job function in a worker, and encode what it and the driver send each other.

A worker sends pickled reports (`Event`, `Outcome`). The driver sends a job pickled dicts, small
enough to be delivered without waiting; each executor brings them to the job's thread in its own
way, and jobs call `received`.
"""

from __future__ import annotations

import pickle
import re
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any

from ecg_mlflow.executors.base import Event, ExecutorError, Job, Outcome, OutcomeState
from ecg_mlflow.executors.stopping import StopFlag, Terminated, stop_requested

MESSAGE_LIMIT = 16_000  # bytes; a connection writes so many in one piece

_HERE = threading.local()
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


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


def execute(
    function: str,
    job: Job,
    take: Callable[[], list[bytes]],
    send: Callable[[bytes], None],
    stop: StopFlag,
) -> None:
    """Execute a job in this thread, and send its reports, the outcome last.

    SystemExit and KeyboardInterrupt propagate: the job requests the end of the process.

    Parameters
    ----------
    function
        The job function's import path.
    job
        The job.
    take
        Returns new messages of the driver, without waiting.
    send
        Sends one pickled report.
    stop
        Tells the job to stop; it governs this thread.
    """

    def report(data: dict[str, Any]) -> None:
        send(_encode(Event(job.key, data), data, "report()", "the driver"))
        stop.check()

    _HERE.take = take
    try:
        outcome = _encode_value(job.key, resolve_name(function)(job.payload, report))
    except Terminated as error:
        asked = stop_requested()
        outcome = Outcome(job.key, OutcomeState.CANCELLED) if asked else _failure(job.key, error)
    except Exception as error:  # noqa: BLE001 - whatever a job raises becomes its outcome
        outcome = _failure(job.key, error)
    finally:
        del _HERE.take
    if stop.told:  # the job may have returned a value or failed after that
        outcome = replace(outcome, state=OutcomeState.CANCELLED)
    send(pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL))


def _failure(key: str, error: BaseException) -> Outcome:
    own_frame = error.__traceback__
    error = error.with_traceback(own_frame.tb_next if own_frame else None)
    return Outcome(key, OutcomeState.FAILED, **describe_error(error))


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return ``error``, ``reason`` and ``error_type`` of an exception, as in `Outcome`."""
    return {
        "error": "".join(traceback.format_exception(error)),
        "reason": one_line("".join(traceback.format_exception_only(error))),
        "error_type": type_name(error),
    }


def type_name(value: object) -> str:
    """Return the qualified name of the type of `value`, as in outcomes."""
    kind = type(value)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return prefix + kind.__qualname__


def one_line(text: object) -> str:
    """Return a text with its line breaks replaced by spaces."""
    return " ".join(str(text).split())


def _encode_value(key: str, value: object) -> Outcome:
    try:
        return Outcome(key, OutcomeState.DONE, pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    except Exception as error:  # noqa: BLE001 - __reduce__ is user code and raises anything
        reason = (
            f"the job's result, a {type_name(value)}, can't be sent to the driver "
            f"({one_line(error)}): return numbers, text, arrays, or lists and dicts of them"
        )
        return Outcome(key, OutcomeState.FAILED, None, reason, reason, type_name(error))


def decode_outcome(outcome: Outcome, cancelled: bool) -> Outcome:
    """Complete a worker's outcome in the driver: its value, and who has interrupted the job.

    Parameters
    ----------
    outcome
        As the worker sent it: CANCELLED if the job was interrupted, by whomever.
    cancelled
        Whether the driver told the job to stop.
    """
    if outcome.value is not None:
        try:
            outcome = replace(outcome, value=pickle.loads(outcome.value))
        except Exception as error:  # noqa: BLE001 - unpickling runs any code
            reason = f"the job's result can't be unpickled in the driver: {one_line(error)}"
            is_done = outcome.state is OutcomeState.DONE
            state = OutcomeState.FAILED if is_done else outcome.state
            outcome = Outcome(outcome.key, state, None, reason, reason, type_name(error))
    if outcome.state is not OutcomeState.CANCELLED:
        return outcome
    if cancelled:
        return replace(outcome, reason=outcome.reason or "stopped as asked")
    reason = "stopped by a SIGTERM that the driver did not send"
    error_text = outcome.error or reason
    state, code = OutcomeState.DIED, -signal.SIGTERM
    return replace(outcome, state=state, error=error_text, reason=reason, exitcode=code)


def _encode(message: object, data: dict[str, Any], function: str, receiver: str) -> bytes:
    """Pickle a message with the argument of `function`; a TypeError names who can't get it."""
    if not isinstance(data, dict):
        raise TypeError(f"{function} takes a dict, not a {type_name(data)}")
    try:
        encoded = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        pickle.loads(encoded)  # raises here instead of at the receiver
    except Exception as error:
        raise TypeError(
            f"{function} can't send {sorted(map(str, data))} to {receiver} ({error}): it takes "
            "numbers, text, arrays, and lists and dicts of them"
        ) from error
    return encoded


def encode_message(data: dict[str, Any]) -> bytes:
    """Pickle a message of the driver.

    Raises
    ------
    ExecutorError
        If `data` is not a dict, can't be pickled and unpickled, or is too large.
    """
    try:
        message = _encode(data, data, "send()", "the job")
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
    """A thread that executes one job; for the parameters see `execute`."""

    def __init__(
        self,
        function: str,
        job: Job,
        take: Callable[[], list[bytes]],
        send: Callable[[bytes], None],
    ) -> None:
        # A daemon thread, so that the process can exit despite an abandoned job.
        super().__init__(name=f"job {job.key}", daemon=True)
        self.stop = StopFlag()
        self._function = function
        self._job = job
        self._take = take
        self._send = send

    def run(self) -> None:
        """Execute the job. If it requests the end of the process, its outcome is DIED."""
        try:
            with self.stop.governing_this_thread():
                execute(self._function, self._job, self._take, self._send, self.stop)
        except BaseException as error:  # noqa: BLE001 - without an outcome the driver would wait on
            code = error.code if isinstance(error, SystemExit) else 1
            exitcode = code if isinstance(code, int) else int(code is not None)
            reason = f"the job raised {error!r}, which ends a process, with exit code {exitcode}"
            text = "".join(traceback.format_exception(error))
            state = OutcomeState.DIED
            outcome = Outcome(self._job.key, state, None, text, reason, None, exitcode)
            self._send(pickle.dumps(outcome))
