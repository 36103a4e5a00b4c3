from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from servers import free_port

from ecg_mlflow.errors import StorageError, TrackingError
from ecg_mlflow.tracking import client as client_module
from ecg_mlflow.tracking.artifacts import read_artifacts
from ecg_mlflow.tracking.client import _is_half_made as is_half_made
from ecg_mlflow.tracking.client import absolute_uri, connect, environment
from ecg_mlflow.tracking.retry import RetryPolicy, is_away


def test_relative_sqlite_starts_from_the_base_folder(tracking_store, client):
    folder, name = os.path.split(tracking_store.removeprefix("sqlite:///"))
    again = connect(f"sqlite:///{name}", base_dir=folder)
    assert again.tracking_uri == tracking_store
    run_id = client.create_run("0").info.run_id
    assert again.get_run(run_id).info.run_id == run_id


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("sqlite:///mlflow.db", "sqlite:////base/mlflow.db"),
        ("sqlite:///sub/m.db", "sqlite:////base/sub/m.db"),
        ("sqlite:////abs/m.db", "sqlite:////abs/m.db"),
        ("sqlite:///m.db?timeout=5", "sqlite:////base/m.db?timeout=5"),
        ("sqlite+pysqlite:///m.db", "sqlite+pysqlite:////base/m.db"),
        ("sqlite:////my%20dir/100%25.db", "sqlite:////my dir/100%25.db"),
        ("sqlite://", "sqlite://"),
        ("http://host:5000", "http://host:5000"),
        ("postgresql://u:p@host/db", "postgresql://u:p@host/db"),
        ("databricks", "databricks"),
    ],
)
def test_absolute_uri(uri, absolute):
    assert absolute_uri(uri, "/base") == absolute


def test_a_folder_with_a_space_is_the_one_that_mlflow_uses(tracking_store, tmp_path, monkeypatch):
    folder = tmp_path / "my studies"
    folder.mkdir()
    shutil.copy(tracking_store.removeprefix("sqlite:///"), folder / "mlflow.db")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = connect()
    assert client.tracking_uri == f"sqlite:///{folder}/mlflow.db"
    client.create_experiment("seen by MLflow")
    assert MlflowClient(mlflow.get_tracking_uri()).get_experiment_by_name("seen by MLflow")


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("http://127.0.0.1:{closed}", "{uri}: .*mlflow server"),
        ("http://127.0.0.1:{silent}", "mlflow server"),
        ("mysql+pymysql://me:secret@127.0.0.1:{closed}/mlflow", r"me:\*\*\*@.* refused"),
        ("file:///tmp/mlruns", r"sqlite:///mlflow\.db"),
        ("sqlite:///:memory:", "Name a file"),
    ],
)
def test_stores_that_are_not_there_or_can_not_be_used(uri, why):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = uri.format(closed=free_port(), silent=silent.getsockname()[1])
        with pytest.raises(TrackingError, match=why.format(uri=uri)) as caught:
            connect(uri, timeout_s=3)
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, ConnectionError)


def test_something_else_answers_http():
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI"):
            connect(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("notes.txt", "file is not a database"),
        ("", "Is a directory"),
        ("notes.txt/new/mlflow.db", "Not a directory"),
        # As root, who may write anything else.
        ("/proc/new/mlflow.db", "No such file"),
    ],
)
def test_what_can_be_no_sqlite_store_is_refused_and_left_as_it_is(tmp_path, path, why):
    notes = tmp_path / "notes.txt"
    notes.write_text(text := "these are not the tables you look for " * 9)
    uri = f"sqlite:///{tmp_path / path}"
    with pytest.raises(TrackingError, match=f"{why}.* Name another store") as caught:
        connect(uri)
    assert "upgrade" not in str(caught.value)
    assert str(tmp_path / path) in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["notes.txt"]
    assert notes.read_text() == text


def test_a_folder_that_is_only_to_be_read_holds_no_new_store(tmp_path, monkeypatch):
    def refuse(path, name):
        raise StorageError("can't write there") from OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("ecg_mlflow.tracking.client.scratch_folder", refuse)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    why = f"store {uri} can't be written: Read-only file system. Name another store in MLFLOW_TR"
    with pytest.raises(TrackingError, match=re.escape(why)):
        connect(uri)


def test_store_of_another_schema_and_a_damaged_one(tmp_path, tracking_store):
    old, damaged = tmp_path / "old.db", tmp_path / "damaged.db"
    data = Path(tracking_store.removeprefix("sqlite:///")).read_bytes()
    old.write_bytes(data)
    with sqlite3.connect(old) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    database.close()
    damaged.write_bytes(data[:100] + bytes(7900) + data[8000:])
    for path, why in ((old, f"mlflow db upgrade sqlite:///{old}"), (damaged, str(damaged))):
        with pytest.raises(TrackingError, match=why):
            connect(f"sqlite:///{path}")


def test_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("ECG_SET", "before")
    monkeypatch.delenv("ECG_UNSET", raising=False)
    with environment(ECG_SET="inside", ECG_UNSET="inside"):
        assert os.environ["ECG_SET"] == os.environ["ECG_UNSET"] == "inside"
    assert os.environ["ECG_SET"] == "before"
    with pytest.raises(KeyError), environment(ECG_SET="inside", ECG_UNSET="inside"):
        raise KeyError
    assert os.environ["ECG_SET"] == "before"
    assert "ECG_UNSET" not in os.environ


# --- A store that is made -------------------------------------------------------------------------

BEGIN = """
import sys, time
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.runs import find_or_create_experiment
print("ready", flush=True)
sys.stdin.readline()
client = connect(sys.argv[1])
experiment = find_or_create_experiment(client, "same")
client.log_metric(client.create_run(experiment).info.run_id, "loss", 1.0)
"""
#: The same by MLflow alone, which makes the tables in their place.
BY_MLFLOW = BEGIN.replace("connect(sys.argv[1])", "MlflowClient(sys.argv[1])").replace(
    "from ecg_mlflow.tracking.client import connect", "from mlflow import MlflowClient"
)


def started(*codes: str, uri: str) -> list[subprocess.Popen[str]]:
    """Start processes that wait until all of them are ready, and let them go at once."""
    found = [
        subprocess.Popen(
            [sys.executable, "-c", code, uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for code in codes
    ]
    for one in found:
        assert one.stdout.readline() == "ready\n"
    for one in found:
        one.stdin.write("\n")
        one.stdin.flush()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("others", [(BEGIN, BEGIN), (BY_MLFLOW,)], ids=["ours", "MLflow's"])
def test_processes_that_make_one_store_at_once_all_use_it(tmp_path, others):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    said = [one.communicate() for one in started(BEGIN, *others, uri=uri)]
    client = connect(uri)
    runs = client.search_runs([client.get_experiment_by_name("same").experiment_id])
    if others == (BEGIN, BEGIN):
        assert len(runs) == 3, said
        assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db"}
    else:  # MLflow's own process may meet a store that is whole already, and no more
        assert len(runs) in (1, 2), said


@pytest.mark.slow
def test_a_store_whose_maker_is_killed_is_whole_or_not_there(tmp_path):
    path = tmp_path / "mlflow.db"
    for delay in (0.1, 0.4, 0.7, 1.0):
        (maker,) = started(BEGIN, uri=f"sqlite:///{path}")
        time.sleep(delay)
        maker.kill()
        maker.communicate()
        assert not path.exists() or not is_half_made(path)
    connect(f"sqlite:///{path}").create_experiment("after")
    assert [one.name for one in tmp_path.iterdir() if "part" in one.name] == []


@pytest.mark.parametrize(
    "left", ["DROP TABLE experiments", "DELETE FROM experiments", "DELETE FROM alembic_version"]
)
def test_a_store_that_was_left_half_made_says_how_to_mend_it(
    tmp_path, tracking_store, monkeypatch, left
):
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.1)
    path = tmp_path / "mlflow.db"
    shutil.copy(tracking_store.removeprefix("sqlite:///"), path)
    with closing(sqlite3.connect(path)) as database:
        if "alembic" not in left:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                database.execute(f"DELETE FROM {table}")
        database.execute(left)
        database.commit()
    why = rf"half-made: .* No run is in it\. Delete it, and start again: rm {path}"
    if "alembic" in left:  # it may have runs
        why = "mlflow db upgrade"
    with pytest.raises(TrackingError, match=why):
        connect(f"sqlite:///{path}")


def test_a_half_made_store_that_another_process_completes_is_waited_for(tmp_path, tracking_store):
    path, whole = tmp_path / "mlflow.db", Path(tracking_store.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE metrics (key TEXT)")
    assert is_half_made(path)
    done = threading.Timer(0.5, lambda: path.write_bytes(whole.read_bytes()))
    done.start()
    assert connect(f"sqlite:///{path}").search_experiments()
    done.join()


@pytest.mark.parametrize("tables", [["runs"], ["metrics"], ["alembic_version", "trials"]])
def test_another_programs_database_stays_as_it_is(tmp_path, monkeypatch, tables):
    """That of Optuna has a table alembic_version, too."""
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.1)
    path = tmp_path / "mine.db"
    with closing(sqlite3.connect(path)) as database:
        for table in tables:
            database.execute(f"CREATE TABLE {table} (version_num TEXT)")
            database.execute(f"INSERT INTO {table} VALUES ('v3.2.0.a')")
        database.commit()
    before = path.read_bytes()
    with pytest.raises(TrackingError, match=r"another program's database.* name another") as caught:
        connect(f"sqlite:///{path}")
    assert "rm " not in str(caught.value)
    assert path.read_bytes() == before


def test_a_store_without_experiments_keeps_its_registered_models(tmp_path, tracking_store):
    """As `mlflow gc` leaves it: MLflow makes the first experiment anew."""
    path = tmp_path / "mlflow.db"
    shutil.copy(tracking_store.removeprefix("sqlite:///"), path)
    MlflowClient(f"sqlite:///{path}").create_registered_model("kept")
    with closing(sqlite3.connect(path)) as database:
        for (table,) in database.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE 'experiment%' AND type = 'table'"
        ).fetchall():
            database.execute(f"DELETE FROM {table}")
        database.commit()
    uri = f"sqlite:///{tmp_path / 'gc.db'}"  # MLflow keeps the other one open
    path.rename(tmp_path / "gc.db")
    client = connect(uri)
    assert client.get_registered_model("kept").name == "kept"
    assert [one.name for one in client.search_experiments()] == ["Default"]


@pytest.mark.parametrize("made_meanwhile", [False, True])
def test_a_file_system_without_hard_links(tmp_path, monkeypatch, made_meanwhile):
    path = tmp_path / "mlflow.db"

    def refuse(source, target):
        if made_meanwhile:
            shutil.copy(source, target)
            with closing(sqlite3.connect(target)) as database:
                database.execute("UPDATE experiments SET name = 'theirs'")
                database.commit()
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(client_module.os, "link", refuse)
    found = connect(f"sqlite:///{path}").get_experiment("0")
    assert found.name == ("theirs" if made_meanwhile else "Default")
    assert [one.name for one in tmp_path.iterdir()] == ["mlflow.db"]


def test_an_empty_file_becomes_a_store(tmp_path):
    (tmp_path / "mlflow.db").touch()
    assert connect(f"sqlite:///{tmp_path / 'mlflow.db'}").search_experiments()


# --- A server that wants a login ------------------------------------------------------------------

LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


class Answers(BaseHTTPRequestHandler):
    """Answers all requests with the server's `status`; 302 leads to a page."""

    def do_GET(self) -> None:
        is_page = self.server.status == 200 or self.path == "/login"
        self.send_response(200 if is_page else self.server.status)
        self.send_header("Location", "/login")
        self.end_headers()
        answer = b"You are not authenticated."
        if self.server.is_json:
            said = {401: {"message": "Unauthorized"}, 403: {"error": {"reason": "access denied"}}}
            answer = json.dumps(said[self.server.status]).encode()
        self.wfile.write(b"<html>Log in</html>" if is_page else answer)

    do_POST = do_GET  # noqa: N815 - the library's names

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def answers():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (401, f"The server wants a login: set {LOGIN}; a login or token may have run out."),
        (403, f"The server doesn't allow that to this login: is it the right one ({LOGIN})?"),
        (200, "perhaps the login page of a proxy: is MLFLOW_TRACKING_URI right? A login is given"),
        (302, f"A login is given by {LOGIN}."),
    ],
)
@pytest.mark.parametrize("is_json", [False, True], ids=["text", "JSON of a gateway"])
def test_a_server_that_wants_a_login_says_how_it_is_given(answers, status, why, is_json):
    if is_json and status not in (401, 403):
        pytest.skip("pages of HTML")
    answers.status, answers.is_json = status, is_json
    uri = f"http://127.0.0.1:{answers.server_port}"
    with pytest.raises(TrackingError, match=re.escape(why)) as caught:
        connect(uri)
    assert not is_away(caught.value), "it isn't tried again for an hour"
    answered = MlflowClient(uri)
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_TOKEN"):
        RetryPolicy(limit_s=60.0).client(answered).get_run("0" * 32)
    if status in (401, 403):
        artifacts = f"{uri}/api/2.0/mlflow-artifacts/artifacts/0"
        with pytest.raises(TrackingError, match="MLFLOW_TRACKING_TOKEN"):
            read_artifacts(answered, [(artifacts, "configuration.json")])
