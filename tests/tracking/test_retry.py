from __future__ import annotations

import copy
import errno
import itertools

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking import retry as module
from ecg_mlflow.tracking.retry import RetryPolicy, is_away, store_errors

REFUSED = (
    "API request to http://127.0.0.1:5000/api/2.0/mlflow/runs/log-batch failed with exception "
    "HTTPConnectionPool(host='127.0.0.1', port=5000): Max retries exceeded"
)
AWAY = MlflowException(REFUSED)
ANSWERED = (
    "API request to endpoint /api/2.0/mlflow/runs/log-batch failed with error code {} != 200. "
    "Response body: '<html>API request to endpoint /x failed with error code 503 != 200.'"
)


def http_error(code: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = code
    return requests.HTTPError(response=response)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (AWAY, True),
        (MlflowException("database or disk is full", TEMPORARILY_UNAVAILABLE), True),
        (requests.ConnectionError("refused"), True),
        (http_error(503), True),
        (http_error(404), False),
        (TimeoutError(), True),
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EACCES, "no permission"), False),
        (MlflowException("the run is deleted", INVALID_PARAMETER_VALUE), False),
        (MlflowException("a bug in the store"), False),
        # A status that is no answer of MLflow's own, such as a proxy's page.
        *((MlflowException(ANSWERED.format(code)), True) for code in (408, 429, 500, 502, 503)),
        *((MlflowException(ANSWERED.format(code)), False) for code in (301, 405, 407, 413, 414)),
        (ValueError(REFUSED), False),
    ],
)
def test_which_errors_mean_away(error, away):
    assert is_away(error) is away
    caused = TrackingError("MLflow could not log")
    caused.__cause__ = error
    assert is_away(caused) is away


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only in sleep."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    return now


def failing(times, error=AWAY):
    calls = itertools.count()

    def function(name):
        if next(calls) < times:
            raise error
        return name

    return function


def test_a_call_is_repeated_until_the_store_is_back(clock):
    waits = []
    retry = RetryPolicy(on_wait=lambda waited, error: waits.append((waited, error)))
    assert retry.call(failing(8), "there") == "there"
    assert waits[0] == (0, AWAY)
    assert [waited for waited, _ in waits] == [0, 0.25, 0.75, 1.75, 3.75, 7.75, 12.75, 17.75]


def test_waiting_ends_at_the_limit_at_a_refusal_and_where_the_listener_ends_it(clock):
    def stop(waited, error):
        raise KeyboardInterrupt

    for limit_s, ends_at in ((0, 0), (60, 60)):
        with pytest.raises(MlflowException, match="API request"):
            RetryPolicy(limit_s).call(failing(10**6), 1)
        assert clock[0] == ends_at
    with pytest.raises(ValueError, match="no"):
        RetryPolicy(on_wait=stop).call(failing(1, ValueError("no")), 1)
    with pytest.raises(KeyboardInterrupt):
        RetryPolicy(on_wait=stop).call(failing(1), 1)
    assert clock[0] == 60


def test_a_full_disk_is_a_store_error_and_a_bug_is_none():
    message = r"write it: .*No space left.* Make room\."
    with pytest.raises(TrackingError, match=message), store_errors("write it", "Make room."):
        raise OSError(28, "No space left on device")
    with pytest.raises(ZeroDivisionError), store_errors("divide"):
        _ = 1 / 0


def test_a_client_repeats_its_calls_but_not_what_makes_something_new(clock):
    class Client:
        tracking_uri = "sqlite:///x"
        set_tag = staticmethod(failing(2))
        create_run = staticmethod(failing(2))
        create_logged_model = staticmethod(failing(2))

    client = RetryPolicy().client(Client())
    assert copy.copy(client).tracking_uri == "sqlite:///x"
    assert client.set_tag("done") == "done"
    for name in ("create_run", "create_logged_model"):
        doing = name.replace("_", " ")
        with pytest.raises(TrackingError, match=f"could not {doing} 'x': API request") as caught:
            getattr(client, name)("x")
        assert is_away(caught.value)


@pytest.mark.parametrize(
    ("name", "given", "about"),
    [
        ("log_text", {"text": "a,b", "artifact_file": "table.csv"}, ", 'table.csv'"),
        ("log_artifact", {"local_path": f"/{'long' * 30}/file"}, ", 'file'"),
        ("set_tag", {"key": "team", "value": "ecg"}, ", 'team'"),
    ],
)
def test_an_error_names_what_a_call_is_about_or_what_it_was_for(client, name, given, about):
    doing, run_id = name.replace("_", " "), "f" * 32
    call = getattr(RetryPolicy(0).client(client), name)
    with pytest.raises(TrackingError, match=f"^MLflow could not {doing} '{run_id}'{about}: Run "):
        call(run_id, **given)
    message = "^MLflow could not do it: Run with id=f+ not found. So there.$"
    with pytest.raises(TrackingError, match=message), store_errors("do it", "So there."):
        call(run_id, **given)
