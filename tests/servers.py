"""Servers for tests, on free ports of this machine: PostgreSQL, MLflow on it, and of models."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from waiting import wait_for

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.client import connect

#: Of a tracking server: the jobs of its own, that nothing here asks for, take five more processes.
NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Postgres:
    """A PostgreSQL server with a new, empty database, as Debian's package ``postgresql`` has it.

    It refuses to run as root: root starts it as ``postgres``, or else as ``nobody``.
    """

    def __init__(self) -> None:
        pytest.importorskip("psycopg2", reason="no PostgreSQL without psycopg2-binary")
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            pytest.skip("no PostgreSQL: /usr/lib/postgresql is Debian's package postgresql")
        self._programs = found[-1].parent
        # Not in pytest's folders, which are closed to other users.
        self.folder = Path(tempfile.mkdtemp(prefix="ecg-mlflow-postgres-"))
        self._user = None
        if os.geteuid() == 0:
            users = {one.pw_name for one in pwd.getpwall()}
            self._user = next((one for one in ("postgres", "nobody") if one in users), None)
            if self._user is None:
                pytest.skip("PostgreSQL doesn't run as root, and there's no postgres or nobody")
            shutil.chown(self.folder, self._user)
        self._port = free_port()
        self._at = ("-h", "127.0.0.1", "-p", str(self._port))
        self._process: subprocess.Popen[bytes] | None = None
        self._call("initdb", "-D", "data", "-A", "trust", "-U", "mlflow", "--no-sync")
        self.start()
        self._call("createdb", *self._at, "-U", "mlflow", "mlflow")

    @property
    def uri(self) -> str:
        # SQLAlchemy 2.1 takes psycopg 3 where the driver is not named.
        return f"postgresql+psycopg2://mlflow@127.0.0.1:{self._port}/mlflow"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        program = str(self._programs / "postgres")
        options = ("-D", "data", "-k", str(self.folder), "-c", "fsync=off")
        with (self.folder / "log").open("ab") as log:
            self._process = process = subprocess.Popen(
                [program, *self._at, *options],
                user=self._user,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ready = [str(self._programs / "pg_isready"), "-q", *self._at]

        def is_ready() -> bool:
            assert process.poll() is None, (self.folder / "log").read_text()
            return subprocess.run(ready, check=False).returncode == 0

        wait_for(is_ready)

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(
            command, user=self._user, cwd=self.folder, stdout=subprocess.DEVNULL, check=True
        )


class MlflowServer:
    """An MLflow tracking server that keeps the artifacts too, and can be killed.

    `group_file` holds the number of its process group, for who wants to kill it.
    """

    def __init__(self, store_uri: str, folder: Path, workers: int = 1) -> None:
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        self.folder = folder
        self.group_file = folder / "server.group"
        self.n_starts = 0
        self._command = [
            *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store_uri),
            *("--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", str(workers)),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start it, and don't wait until it answers."""
        with self._lock:
            environment = {**os.environ, **NO_JOBS}
            self._process = _started(self._command, self.folder, environment)
            self.group_file.write_text(str(self._process.pid))
            self.n_starts += 1

    def wait_until_up(self) -> None:
        def is_up() -> bool:
            with suppress(TrackingError):
                connect(self.uri, timeout_s=3)
                return True
            return False

        wait_for(is_up)

    def kill(self) -> None:
        """End it, and the processes that answer for it, with SIGKILL."""
        with self._lock:
            if self._process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    @contextmanager
    def running(self) -> Iterator[MlflowServer]:
        """Start it, and give it once it answers."""
        self.start()
        try:
            self.wait_until_up()
            yield self
        finally:
            self.kill()

    @contextmanager
    def kept_up(self, away_s: float) -> Iterator[None]:
        """Start it again whenever it has died, so many seconds later."""
        done = threading.Event()

        def keep() -> None:
            while not done.wait(0.1):
                if self._process is not None and self._process.poll() is not None:
                    self.kill()  # what is left of its group
                    if not done.wait(away_s):
                        self.start()

        keeper = threading.Thread(target=keep, name="server-keeper")
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()


@contextmanager
def model_server(
    python: Path, model: str, folder: Path, environment: dict[str, str]
) -> Iterator[str]:
    """Serve a model as ``mlflow models serve`` does; give the address for recordings.

    `python` is the interpreter of an environment with the model's requirements.
    """
    port = free_port()
    command = [
        *(str(python), "-m", "mlflow", "models", "serve", "-m", model),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]
    # The server calls uvicorn by its name.
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    server = _started(command, folder, {**environment, "PATH": path})

    def is_up() -> bool:
        assert server.poll() is None, (folder / "server.log").read_text()
        url = f"http://127.0.0.1:{port}/ping"
        with suppress(requests.RequestException), requests.get(url, timeout=5) as answer:
            return answer.ok
        return False

    try:
        wait_for(is_up)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=200)


def _started(
    command: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True
        )
