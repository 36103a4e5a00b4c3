"""One call of a job function, alike in every executor, and what it comes to."""

from __future__ import annotations

import importlib
import pickle
import re
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from ecg_mlflow.executors.base import ExecutorError, Outcome, OutcomeState
from ecg_mlflow.executors.stopping import Terminated, stop_requested

JobFunction = Callable[[bytes, Callable[[dict[str, Any]], None]], Any]

_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Message:
    """A worker's words to the driver: pickled `report` data, or an `Answer`."""

    key: str
    content: bytes | Answer


@dataclass(frozen=True)
class Answer:
    """How a call ended. `value` is a pickle, None if the function raised."""

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
        It is not written like one. Whether it can be imported shows in the worker.
    """
    if not _IMPORT_PATH.fullmatch(function):
        raise ExecutorError(
            f"{function!r} does not name a job function: write 'package.module:function'"
        )
    return function


def call(function: str, payload: bytes, report: Callable[[dict[str, Any]], None]) -> Answer:
    """Import `function`, call it and catch what it raises.

    SystemExit and KeyboardInterrupt are let through: the job asks for the process's end.
    """
    try:
        value = _load(function)(payload, report)
    except Terminated as error:
        return Answer(interrupted=True) if stop_requested() else _failure(error)
    except Exception as error:  # noqa: BLE001 - whatever a job raises becomes its outcome
        return _failure(error)
    return encode_result(value)


def _load(function: str) -> JobFunction:
    module, _, name = function.partition(":")
    loaded: JobFunction = getattr(importlib.import_module(module), name)
    return loaded


def _failure(error: BaseException) -> Answer:
    own_frame = error.__traceback__
    told = describe_error(error, own_frame.tb_next if own_frame else None)
    return Answer(error=told["error"], reason=told["reason"], error_type=told["error_type"])


def describe_error(error: BaseException, trace: TracebackType | None) -> dict[str, str]:
    """Return an error as an `Outcome` states it: ``error``, ``reason`` and ``error_type``."""
    return {
        "error": "".join(traceback.format_exception(type(error), error, trace)),
        "reason": _one_line("".join(traceback.format_exception_only(error))),
        "error_type": type_name(error),
    }


def type_name(value: object) -> str:
    """Return the qualified name of the type of `value`, as outcomes state it."""
    kind = type(value)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return prefix + kind.__qualname__


def _one_line(text: str) -> str:
    return " ".join(text.split())


def encode_result(value: object) -> Answer:
    """Pickle what a job returned, or say why it can't travel."""
    try:
        return Answer(value=pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    except Exception as error:  # noqa: BLE001 - __reduce__ is user code and raises anything
        reason = (
            f"the job's result, a {type_name(value)}, can't be sent to the driver "
            f"({_one_line(str(error))}): return numbers, text, arrays, or lists and dicts of them"
        )
        return Answer(error=reason, reason=reason, error_type=type_name(error))


def encode_report(data: dict[str, Any]) -> bytes:
    """Pickle what a job reports.

    Raises
    ------
    TypeError
        In the job, which then fails: `data` is no dict, or doesn't survive pickling.
    """
    return encode_dict(data, "report()", "the driver")


def encode_dict(data: dict[str, Any], function: str, receiver: str) -> bytes:
    """Pickle what was given to `function` for `receiver`, or raise TypeError naming them."""
    if not isinstance(data, dict):
        raise TypeError(f"{function} takes a dict, not a {type_name(data)}")
    try:
        encoded = pickle.dumps(data, pickle.HIGHEST_PROTOCOL)
        pickle.loads(encoded)  # better an error here than where it arrives
    except Exception as error:
        raise TypeError(
            f"{function} can't send {sorted(map(str, data))} to {receiver} ({error}): it takes "
            "numbers, text, arrays, and lists and dicts of them"
        ) from error
    return encoded


def to_outcome(key: str, answer: Answer, cancelled: bool) -> Outcome:
    """Turn an answer into the driver's outcome; `cancelled`: the driver asked for it."""
    value = None
    if answer.value is not None:
        try:
            value = pickle.loads(answer.value)
        except Exception as error:  # noqa: BLE001 - unpickling runs any code
            reason = f"the job's result can't be unpickled in the driver: {_one_line(str(error))}"
            answer = replace(answer, error=reason, reason=reason, error_type=type_name(error))
    if not answer.interrupted:
        state = OutcomeState.FAILED if answer.error else OutcomeState.DONE
        return Outcome(key, state, value, answer.error, answer.reason, answer.error_type)
    if cancelled:
        reason = answer.reason or "stopped as asked"
        return Outcome(key, OutcomeState.CANCELLED, value, answer.error, reason, answer.error_type)
    reason = "stopped by a SIGTERM that the driver did not send"
    return Outcome(
        key, OutcomeState.DIED, value, answer.error or reason, reason, exitcode=-signal.SIGTERM
    )


def exit_outcome(key: str, error: BaseException) -> Outcome:
    """Return the outcome of a job that asked for the end of the process."""
    code = error.code if isinstance(error, SystemExit) else 1
    exitcode = code if isinstance(code, int) else int(code is not None)
    return Outcome(
        key,
        OutcomeState.DIED,
        error="".join(traceback.format_exception(error)),
        reason=f"the job raised {error!r}, which ends a process, with exit code {exitcode}",
        exitcode=exitcode,
    )
