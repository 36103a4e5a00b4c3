"""Read small artifacts of many runs at once, from whatever store they are in."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import tempfile
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import requests
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.client import NO_PROGRESS_BAR, environment
from ecg_mlflow.tracking.retry import store_errors
from ecg_mlflow.tracking.run_data import from_csv_cell

#: A table by its columns: text as lists of str, numbers as float64 arrays.
Table: TypeAlias = dict[str, Any]

#: Columns that are text, even where all of it looks like numbers.
TEXT = ("record", "patient", "label", "prediction")
#: Requests at once: a server answers a handful, and a sqlite store is quicker than that anyway.
N_THREADS = 12


def read_artifacts(
    client: MlflowClient, wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], bytes | None]:
    """Read artifacts.

    Parameters
    ----------
    client
        The store.
    wanted
        The artifact URIs of runs, and paths below them.

    Returns
    -------
    The files' content by URI and path; None where a run has no such artifact.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    paths: dict[str, list[str]] = {}
    for uri, path in dict.fromkeys(wanted):
        paths.setdefault(uri, []).append(path)

    def read(uri: str) -> dict[tuple[str, str], bytes | None]:
        with store_errors(f"read the artifacts in {uri}"):
            repository = get_artifact_repository(uri, tracking_uri=client.tracking_uri)
            found = _read(repository, paths[uri])
        return {(uri, path): found.get(path) for path in paths[uri]}

    with environment(**NO_PROGRESS_BAR), ThreadPoolExecutor(N_THREADS, "artifact-reader") as pool:
        return {key: data for files in pool.map(read, paths) for key, data in files.items()}


def read_tables(
    client: MlflowClient, wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Table | None]:
    """Read CSV artifacts; see `read_artifacts`."""
    files = read_artifacts(client, wanted)
    return {
        key: None if data is None else parse_table(data, "/".join(key))
        for key, data in files.items()
    }


def parse_json(data: bytes | str | None, what: str) -> dict[str, Any]:
    """Read a JSON object from the store; an empty one where there is no text.

    Raises
    ------
    TrackingError
        If it is no such thing; `what` names it.
    """
    with _undamaged(what):
        return dict(json.loads(data or "{}"))


def parse_table(data: bytes, what: str) -> Table:
    """Turn CSV with a header line into columns.

    Raises
    ------
    TrackingError
        If it is no such thing; `what` names it.
    """
    with _undamaged(what):
        return _columns(data)


@contextmanager
def _undamaged(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, IndexError, RecursionError, csv.Error) as error:
        raise TrackingError(
            f"{what} can't be read: {error}. It was changed or damaged in the store"
        ) from error


def _columns(data: bytes) -> Table:
    head, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
    columns = {
        from_csv_cell(name): [from_csv_cell(row[i]) for row in rows] for i, name in enumerate(head)
    }
    return {name: _typed(name, column) for name, column in columns.items()}


def _typed(name: str, column: list[str]) -> list[str] | npt.NDArray[np.float64]:
    if name in TEXT:
        return column
    try:
        return np.array(column, dtype=np.float64)
    except ValueError:
        return column


def _read(repository: Any, paths: Collection[str]) -> dict[str, bytes]:
    """Return those of the files that exist."""
    if isinstance(repository, LocalArtifactRepository):
        places = {path: Path(repository.artifact_dir, path) for path in paths}
        return {path: place.read_bytes() for path, place in places.items() if place.is_file()}
    with tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder:
        if isinstance(repository, HttpArtifactRepository):
            return _requested(repository, paths, Path(folder))
        # Each store raises another error for an artifact that does not exist, and some retry.
        there = {
            item.path
            for folder_path in {posixpath.dirname(path) for path in paths}
            for item in repository.list_artifacts(folder_path or None)
        }
        return {
            path: Path(repository.download_artifacts(path, folder)).read_bytes()
            for path in paths
            if path in there
        }


def _requested(
    repository: HttpArtifactRepository, paths: Collection[str], folder: Path
) -> dict[str, bytes]:
    """Return those of the files that a server has, by one request each.

    MLflow's own way to download asks first whether a path is a folder.
    """
    found = {}
    for number, path in enumerate(paths):
        file = folder / str(number)
        try:
            repository._download_file(path, str(file))  # type: ignore[no-untyped-call]
        except requests.HTTPError as error:
            if error.response is None or error.response.status_code != 404:
                raise
        else:
            found[path] = file.read_bytes()
    return found
