"""Read small artifacts of many runs at once, from whatever store they are in."""

from __future__ import annotations

import csv
import io
import posixpath
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from ecg_mlflow.tracking.client import environment, store_errors

#: A table by its columns: text as lists of str, numbers as float64 arrays.
Table: TypeAlias = dict[str, Any]

#: Columns that are text, even where all of it looks like numbers.
TEXT = ("record", "patient", "label", "prediction")
#: Requests at once: a server answers a handful, and a sqlite store is quicker than that anyway.
N_THREADS = 12


def read_texts(
    client: MlflowClient, wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], str | None]:
    """Read text artifacts.

    Parameters
    ----------
    client
        The store.
    wanted
        Run ids and paths.

    Returns
    -------
    The texts by run id and path; None where a run has no such artifact.

    Raises
    ------
    TrackingError
        If the store fails, or there is no such run.
    """
    paths: dict[str, list[str]] = {}
    for run_id, path in dict.fromkeys(wanted):
        paths.setdefault(run_id, []).append(path)

    def read(run_id: str) -> dict[tuple[str, str], str | None]:
        with store_errors(f"read artifacts of run {run_id}"):
            place = client.get_run(run_id).info.artifact_uri
            found = _read(place, client.tracking_uri, paths[run_id])
        return {(run_id, path): found.get(path) for path in paths[run_id]}

    with (
        environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"),
        ThreadPoolExecutor(N_THREADS, "artifact-reader") as pool,
    ):
        return {key: text for texts in pool.map(read, paths) for key, text in texts.items()}


def read_text(client: MlflowClient, run_id: str, path: str) -> str | None:
    """Read one text artifact of a run; None where it has none; see `read_texts`."""
    return read_texts(client, [(run_id, path)])[run_id, path]


def read_tables(
    client: MlflowClient, wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Table | None]:
    """Read CSV artifacts; see `read_texts`."""
    texts = read_texts(client, wanted)
    return {key: None if text is None else parse_table(text) for key, text in texts.items()}


def read_table(client: MlflowClient, run_id: str, path: str) -> Table | None:
    """Read one CSV artifact of a run; None where it has none; see `read_texts`."""
    return read_tables(client, [(run_id, path)])[run_id, path]


def fetch_files(
    client: MlflowClient, run_id: str, source: str, ending: str, folder: Path
) -> list[Path]:
    """Copy the artifacts of a run's folder, and of folders in it, that end like this.

    Returns
    -------
    Where they are now: in a folder of this machine, with the folders around them.

    Raises
    ------
    TrackingError
        If the store fails, or there is no such run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        store_errors(f"fetch the files in {source} of run {run_id}"),
        environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"),
    ):
        names, waiting = list[str](), [source]
        while waiting:
            for item in client.list_artifacts(run_id, waiting.pop()):
                (waiting if item.is_dir else names).append(item.path)
        copies = []
        for name in names:
            if name.endswith(ending):
                place = folder / posixpath.dirname(posixpath.relpath(name, source or "."))
                place.mkdir(parents=True, exist_ok=True)
                copies.append(Path(client.download_artifacts(run_id, name, str(place))))
        return copies


def parse_table(text: str) -> Table:
    """Turn CSV with a header line into columns."""
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    columns = {name: [row[i] for row in rows] for i, name in enumerate(head)}
    return {name: _typed(name, column) for name, column in columns.items()}


def _typed(name: str, column: list[str]) -> list[str] | npt.NDArray[np.float64]:
    if name in TEXT:
        return column
    try:
        return np.array(column, dtype=np.float64)
    except ValueError:
        return column


def _read(place: str, tracking_uri: str, paths: Iterable[str]) -> Mapping[str, str]:
    """Return those of the texts that exist."""
    repository: Any = get_artifact_repository(place, tracking_uri=tracking_uri)
    folders = {posixpath.dirname(path) for path in paths}
    # Each store raises another error for an artifact that does not exist, and some retry.
    there = {
        item.path
        for folder in folders
        for item in repository.list_artifacts(folder or None)
        if not item.is_dir
    }
    with tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder:
        return {
            path: Path(repository.download_artifacts(path, folder)).read_text("utf-8")
            for path in paths
            if path in there
        }
