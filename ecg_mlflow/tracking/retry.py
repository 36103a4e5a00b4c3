"""Wait for a store that is away: a server that restarts, a database or a disk that is full.

MLflow's own retries last seconds or minutes, repeat calls that must not be repeated, and say
nothing. Here every call that may be repeated is, until the store is back or the
time is up, and `on_wait` is called meanwhile.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds to wait for a store before a study gives up, resumable as it is then.
RETRY_LIMIT_S = 3600.0
#: Longest pause between two tries.
PAUSE_S = 5.0

#: Calls that make something new each time: to repeat one blindly may make two.
_MAKES_NEW = ("create_run", "create_logged_model")


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
        away = error.error_code == "TEMPORARILY_UNAVAILABLE" or (
            error.error_code == "INTERNAL_ERROR"
            and "API request to" in str(error)
            and "failed with" in str(error)
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
        """Return the client with retries in all calls that may be repeated."""
        return cast("MlflowClient", _RetryingClient(client, self))


class _RetryingClient:
    """An `MlflowClient` whose calls go through a `RetryPolicy`."""

    def __init__(self, client: MlflowClient, retry: RetryPolicy) -> None:
        self._client = client
        self._retry = retry

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found) or name in _MAKES_NEW:
            return found
        return partial(self._retry.call, found)
