"""A report's files: artifacts of a run, and a folder of the user's own beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_mlflow.files import write_output
from ecg_mlflow.tracking.client import store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: The page of every report.
PAGE = "report.html"


def log_report(
    client: MlflowClient,
    run_id: str,
    folder: str,
    files: Mapping[str, str | bytes],
    output: Path | None,
) -> str:
    """Write a report's files, and return where its page is.

    Parameters
    ----------
    client, run_id, folder
        The run, and the folder of its artifacts.
    files
        Their contents, by their names.
    output
        A folder on this machine that gets a copy of all; None for none.

    Raises
    ------
    TrackingError, StorageFullError
        If the store, or the folder, doesn't take it.
    """
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as scratch:
        for place in [Path(scratch), *([output] if output else [])]:
            for name, content in files.items():
                write_output(
                    place / name, content.encode() if isinstance(content, str) else content
                )
        with store_errors(f"write {folder} of run {run_id}"):
            client.log_artifacts(run_id, scratch, folder)
    return str(output / PAGE) if output else f"artifact {folder}/{PAGE} of run {run_id}"
