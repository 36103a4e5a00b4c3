"""Calls of a store: all their errors are `TrackingError`, and they wait for a store that is away.

A store is away while a server restarts, or a database or a disk is full. MLflow's own retries last
seconds or minutes, repeat calls that must not be repeated, and say nothing. Here every call that
may be repeated is, until the store is back or the time is up, and `on_wait` is called meanwhile.
"""

from __future__ import annotations

import errno
import inspect
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import PurePath
from typing import Any, ParamSpec, TypeVar, cast

import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ecg_mlflow.errors import RunGoneError, TrackingError

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds to wait for a store before a study gives up, resumable as it is then.
RETRY_LIMIT_S = 3600.0
#: Longest pause between two tries.
PAUSE_S = 5.0

#: Characters of a store's own words that an error repeats.
CAUSE_LIMIT = 500
#: MLflow's code for what is not in the store.
MISSING = "RESOURCE_DOES_NOT_EXIST"

#: What MLflow, its databases and its servers raise.
_STORE_ERRORS = (
    *(MlflowException, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError, ImportError),
)
#: Calls that make something new each time: to repeat one blindly may make two.
_MAKES_NEW = ("create_run", "create_logged_model")
#: A status that is no answer of MLflow's own, in MLflow's words.
_STATUS = re.compile(r"^API request to \S+ \S+ failed with error code (\d{3}) ")
#: What the store says of a run that can't be written because it was deleted, or is not there.
_GONE = re.compile(
    r"[Rr]un '?(\w+)'? must be in (?:the )?'active'|Run (?:with id=|')(\w+)'? not found"
)
#: Statuses of a server or proxy that takes the same call later.
_LATER = ("408", "425", "429")
#: What gateways say with a status, whatever they call it.
_GATEWAY_WORDS = {
    401: re.compile(
        r"\b401\b|unauthori[sz]ed|unauthenticated|not authenticated|expired|no api key"
    ),
    403: re.compile(r"\b403\b|forbidden|denied|not allowed|permission"),
}
#: What an error repeats of a call's arguments: not their contents.
_NAMES = re.compile(r"(id|name|key|alias|version|path|file)$")


@contextmanager
def store_errors(doing: str, hint: str = "", *, of_a_call: bool = False) -> Iterator[None]:
    """Turn whatever a store raises inside the block into one `TrackingError`.

    The client may be MLflow's own, or one from `RetryPolicy.client`.

    Parameters
    ----------
    doing
        What was attempted, as in ``"open the tracking store sqlite:///mlflow.db"``.
    hint
        What to do next.
    of_a_call
        Whether a `store_errors` around this one says better what was attempted.
    """
    try:
        yield
    except _STORE_ERRORS as error:
        if isinstance(error, TrackingError) and not error.of_a_call:
            raise
        met = _cause(error)
        if refusal := _refusal(met):
            hint = refusal
        elif getattr(met, "error_code", "") == MISSING:
            hint = hint or "Is MLFLOW_TRACKING_URI its store?"
        text = f"MLflow could not {doing}: {cause_text(met)}. {hint}".rstrip()
        said = _gone(cause_text(met), text) or TrackingError(text)
        said.of_a_call = of_a_call
        raise said from met


def was_deleted(run_id: str) -> RunGoneError:
    """Return the error that a run was deleted."""
    how = f"`mlflow runs restore --run-id {run_id}` brings it back"
    return RunGoneError(f"run {run_id} was deleted; {how}", run_id)


def _gone(cause: str, text: str) -> RunGoneError | None:
    """Return the error that a run was deleted or removed, if that is what a store says."""
    found = _GONE.search(cause)
    if found is None:
        return None
    return was_deleted(found[1]) if found[1] else RunGoneError(text, found[2])


def _refusal(error: BaseException) -> str:
    """Return what to do where a server wants a login, or a proxy before it; empty otherwise."""
    login = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    code = getattr(error, "error_code", "")
    response = getattr(error, "response", None)  # of artifacts, which have no codes
    status = getattr(response, "status_code", None)
    answer = getattr(error, "json", None)
    if isinstance(answer, dict) and "error_code" not in answer:
        # Of a gateway before MLflow: MLflow's client keeps its words, and forgets the status.
        words = str(answer).lower()
        status = next((one for one, said in _GATEWAY_WORDS.items() if said.search(words)), status)
    if code == "UNAUTHENTICATED" or status == 401:
        return f"The server wants a login: set {login}; a login or token may have run out."
    if code in ("PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED") or status == 403:
        return (
            f"The server doesn't allow that to this login: is it the right one ({login})? Else ask "
            "whoever runs the server for the permission."
        )
    if "not in a valid JSON format" in str(error):
        return (
            "Something other than MLflow has answered, perhaps the login page of a proxy: is "
            f"MLFLOW_TRACKING_URI right? A login is given by {login}."
        )
    return ""


def cause_text(error: BaseException) -> str:
    """Return a store's own words, in one line."""
    error = _cause(error)
    text = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return text if len(text) <= CAUSE_LIMIT else f"{text[:CAUSE_LIMIT]} ..."


def _cause(error: BaseException) -> BaseException:
    is_of_a_call = isinstance(error, TrackingError) and error.of_a_call
    return error.__cause__ or error if is_of_a_call else error


def error_code(error: TrackingError) -> str:
    """Return MLflow's code of what caused an error; empty where it was something else."""
    return str(getattr(error.__cause__, "error_code", ""))


def is_away(error: BaseException) -> bool:
    """Say whether an error means that the store is away for now, rather than that it refuses."""
    away = isinstance(
        error,
        requests.ConnectionError
        | requests.Timeout
        | TimeoutError
        | sqlalchemy.exc.OperationalError,
    )
    if isinstance(error, MlflowException):
        # A database that doesn't answer or is full; a server that doesn't answer, or with 5xx.
        # MLflow gives most of the other statuses the code of 5xx, too.
        status = _STATUS.search(str(error))
        away = error.error_code == "TEMPORARILY_UNAVAILABLE" or (
            error.error_code == "INTERNAL_ERROR"
            and "API request to" in str(error)
            and "failed with" in str(error)
            and (status is None or status[1].startswith("5") or status[1] in _LATER)
        )
    elif isinstance(error, requests.HTTPError):
        away = error.response is not None and error.response.status_code >= 500
    elif isinstance(error, OSError):
        away = away or error.errno in (errno.ENOSPC, errno.EDQUOT)
    return away or (error.__cause__ is not None and is_away(error.__cause__))


class RetryPolicy:
    """Repeats calls while the store is away.

    Parameters
    ----------
    limit_s
        How long to wait in all for one call.
    on_wait
        Called before each pause with the seconds waited so far and the error. What it raises
        ends the waiting.
    """

    def __init__(
        self,
        limit_s: float = RETRY_LIMIT_S,
        on_wait: Callable[[float, BaseException], None] | None = None,
    ) -> None:
        self.limit_s = limit_s
        self._on_wait = on_wait

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the function returns; it must be one that may be repeated.

        Raises
        ------
        Exception
            Its last error, when the time is up; at once if the store is not away.
        """
        started = time.monotonic()
        pause = 0.25
        while True:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                waited = time.monotonic() - started
                if not is_away(error) or waited >= self.limit_s:
                    raise
                if self._on_wait:
                    self._on_wait(waited, error)
                time.sleep(min(pause, self.limit_s - waited))
            pause = min(2 * pause, PAUSE_S)

    def client(self, client: MlflowClient) -> MlflowClient:
        """Return the client with retries in all calls that may be repeated.

        What its calls meet in the store is a `TrackingError`.
        """
        return cast("MlflowClient", _StoreClient(client, self))


class _StoreClient:
    """An `MlflowClient` whose calls go through a `RetryPolicy`, and raise `TrackingError`."""

    def __init__(self, client: MlflowClient, retry: RetryPolicy) -> None:
        self._client = client
        self._retry = retry

    def __getattr__(self, name: str) -> Any:
        if name == "_client":  # not there yet in a copy
            raise AttributeError(name)
        found = getattr(self._client, name)
        if not callable(found):
            return found

        @wraps(found)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                if name in _MAKES_NEW:
                    return found(*args, **kwargs)
                return self._retry.call(found, *args, **kwargs)
            except Exception:
                given = inspect.signature(found).bind(*args, **kwargs).arguments
                names = [
                    repr(PurePath(one).name if key == "local_path" else one)
                    for key, one in given.items()
                    if isinstance(one, str) and _NAMES.search(key)
                ]
                doing = f"{name.replace('_', ' ')} {', '.join(names)}".rstrip()
                with store_errors(doing, of_a_call=True):
                    raise

        return call
