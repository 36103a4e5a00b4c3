"""Reach an MLflow store, or say within seconds why it can't be reached.

MLflow itself retries a refused connection for minutes (seven tries with back-off over HTTP, ten
for a database), which looks like a hang. Here every kind of store is tried once, cheaply and with
a deadline, before MLflow opens it.

MLflow makes the tables of a new sqlite store in many steps: two processes disturb each other, and a
killed one leaves a part. So a new store is made aside here, and put into its place whole.

All calls of the client that `connect` returns raise `TrackingError`, and are repeated while the
store is away if a `RetryPolicy` says so.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import sqlalchemy
from mlflow import MlflowClient

from ecg_mlflow.errors import StorageError, TrackingError
from ecg_mlflow.files import cache_root, locked, scratch_folder
from ecg_mlflow.tracking.retry import RetryPolicy, store_errors

DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
HTTP_TRIES = 3
#: Seconds to wait for another process that makes a store.
PATIENCE_S = 20.0
#: What every store of MLflow has.
_FIRST_TABLES = frozenset({"alembic_version", "experiments", "metrics", "runs"})
#: For `environment`: MLflow's bars would run through others.
NO_PROGRESS_BAR = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


def connect(
    uri: str | None = None, *, base_dir: str | Path | None = None, timeout_s: float = 15.0
) -> MlflowClient:
    """Open an MLflow tracking store, creating it where it is a sqlite file that isn't there yet.

    Whatever the client's calls meet in the store is a `TrackingError`.

    Parameters
    ----------
    uri
        Tracking URI; by default MLflow's own choice (MLFLOW_TRACKING_URI, else ``mlflow.db``).
    base_dir
        The folder that a relative sqlite path starts from; by default the current one. The
        client's ``tracking_uri`` is absolute, so another process can open the same store.
    timeout_s
        Seconds after which a server that doesn't answer counts as unreachable.

    Raises
    ------
    TrackingError
        The store is unreachable, refused by MLflow, unreadable or of another schema version.
    """
    uri = absolute_uri(uri or mlflow.get_tracking_uri(), base_dir or Path.cwd())
    scheme = _scheme(uri)
    with store_errors(f"open the tracking store {_without_password(uri)}", hint=_hint(uri)):
        if scheme == "sqlite":
            _prepare_sqlite(uri)
        elif scheme in DATABASE_PORTS:
            _check_database(uri, timeout_s)
        # Only for the first call: a server that restarts later deserves MLflow's own retries.
        with environment(
            MLFLOW_HTTP_REQUEST_MAX_RETRIES=str(HTTP_TRIES - 1),
            MLFLOW_HTTP_REQUEST_TIMEOUT=str(max(1, int(timeout_s / HTTP_TRIES))),
            MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR="1",
        ):
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
    return RetryPolicy(limit_s=0.0).client(client)


def absolute_uri(uri: str, base_dir: str | Path) -> str:
    """Return the URI with a relative sqlite path made absolute; others as they came.

    Examples
    --------
    >>> absolute_uri("sqlite:///mlflow.db", "/home/me/study")
    'sqlite:////home/me/study/mlflow.db'
    """
    path = sqlite_path(uri)
    if path is None:
        return uri
    head, _, tail = uri.partition("://")
    query = f"?{tail.partition('?')[2]}" if "?" in tail else ""
    # SQLAlchemy decodes the path. Only what it must not take for something else stays encoded:
    # MLflow makes the folder without decoding, beside "my dir" an empty "my%20dir".
    place = (Path(base_dir).absolute() / path).as_posix()
    return f"{head}:///{place.replace('%', '%25').replace('?', '%3F')}{query}"


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables for the block: MLflow reads its settings there at each call."""
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


def _scheme(uri: str) -> str:
    # "postgresql+psycopg2" names the driver too; a Windows or plain path has no "://".
    return uri.partition("://")[0].partition("+")[0] if "://" in uri else uri.partition(":")[0]


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a sqlite store; None for any other kind of store."""
    if _scheme(uri) != "sqlite":
        return None
    path = unquote(uri.partition("://")[2].partition("?")[0].removeprefix("/"))
    return Path(path) if path and path != ":memory:" else None


def _check_database(uri: str, timeout_s: float) -> None:
    url = sqlalchemy.make_url(uri)
    if url.host:
        port = url.port or DATABASE_PORTS[url.get_backend_name()]
        socket.create_connection((url.host, port), timeout=timeout_s).close()
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _prepare_sqlite(uri: str) -> None:
    """Make a sqlite store that isn't there yet, and refuse one that can't be used."""
    path = sqlite_path(uri)
    if path is None:
        raise TrackingError(
            f"MLflow can't track in {uri!r}: a database in memory is not seen by the worker"
            " processes. Name a file, for example sqlite:///mlflow.db."
        )
    other = "Name another store in MLFLOW_TRACKING_URI, such as sqlite:////home/me/mlflow.db"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_sqlite(path)
        path.open("ab").close()  # a folder, or a file that can't be written, is an error now
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA schema_version")
    except OSError as error:
        met = error.__cause__ if isinstance(error, StorageError) else error
        why = getattr(met, "strerror", None) or met
        raise TrackingError(f"the tracking store {uri} can't be written: {why}. {other}") from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # it is locked, or away
            raise
        raise TrackingError(f"{path} is no database, or a damaged one: {error}. {other}") from error
    until = time.monotonic() + PATIENCE_S
    while _is_half_made(path):
        if time.monotonic() > until:
            raise TrackingError(
                f"the tracking store {uri} was left half-made: a process was killed while it made"
                f" the tables. No run is in it. Delete it, and start again: rm {path}"
            )
        time.sleep(0.2)


def _make_sqlite(path: Path) -> None:
    """Make a new store aside and put it into place whole, unless another process was quicker."""
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    with locked(cache_root() / "stores" / key):
        if path.exists():
            return
        with scratch_folder(path.parent, path.name) as folder:
            aside = folder / "mlflow.db"
            MlflowClient(absolute_uri("sqlite:///mlflow.db", folder)).search_experiments(
                max_results=1
            )
            try:
                os.link(aside, path)
            except OSError:  # a file system without hard links, if nothing is there
                if not path.exists():  # else made by a process that knows nothing of the lock
                    aside.replace(path)


def _is_half_made(path: Path) -> bool:
    """Return whether some of MLflow's tables are there, but nothing in them, not even in others.

    So it is while another process makes them, and stays if that is killed. A whole store can be
    without experiments, too: MLflow makes the first one anew beside models that are registered.

    Raises
    ------
    TrackingError
        The tables are not MLflow's; MLflow would write its own among them before it fails.
    """
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        tables = {name for (name,) in database.execute(query)}
        if not tables & _FIRST_TABLES:
            return False
        filled = tables - {"alembic_version", "workspaces"}  # written to while the tables are made
        quoted = [name.replace('"', '""') for name in sorted(filled, key="experiments".__ne__)]
        if not any(
            database.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone() for name in quoted
        ):
            return True
    if missing := _FIRST_TABLES - tables:
        raise TrackingError(
            f"{path} is no store of MLflow, but another program's database, or a damaged one: it "
            f"has no table {', '.join(sorted(missing))}. Nothing was changed in it; name another "
            "store in MLFLOW_TRACKING_URI, such as sqlite:///mlflow.db"
        )
    return False


def _hint(uri: str) -> str:
    scheme = _scheme(uri)
    if scheme in ("http", "https"):
        return (
            "Is the server running, and is MLFLOW_TRACKING_URI right? Start one with"
            " `mlflow server`, or use a file: MLFLOW_TRACKING_URI=sqlite:///mlflow.db."
        )
    if scheme == "sqlite" or scheme in DATABASE_PORTS:
        return (
            "If the store was made by an older MLflow, back it up and run"
            f" `mlflow db upgrade {_without_password(uri)}`; if by a newer one, install that"
            " MLflow; or name another store in MLFLOW_TRACKING_URI."
        )
    return (
        "Allowed are sqlite:///FILE, a database server (postgresql, mysql, mssql), or"
        " http(s)://HOST:PORT of an MLflow server. For a folder of the old file store, run"
        " `mlflow migrate-filestore`, or set MLFLOW_TRACKING_URI=sqlite:///mlflow.db."
    )


def _without_password(uri: str) -> str:
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri
