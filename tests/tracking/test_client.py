from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from servers import free_port

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.client import absolute_uri, connect, environment


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
    with pytest.raises(TrackingError, match=f"open the tracking store {uri}: .*{why}.* another"):
        connect(uri)
    assert [one.name for one in tmp_path.iterdir()] == ["notes.txt"]
    assert notes.read_text() == text


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
