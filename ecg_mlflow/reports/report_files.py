"""A report's files: artifacts of a run, and a folder of the user's own beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_mlflow.files import write_output
from ecg_mlflow.tracking.client import store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: The page of every report.
PAGE = "report.html"


@contextmanager
def report_folder(
    client: MlflowClient, run_id: str, folder: str, output: Path | None
) -> Iterator[Path]:
    """Give an empty folder to write a report into; it is logged when the block ends well.

    Parameters
    ----------
    client, run_id, folder
        The run, and the folder of its artifacts.
    output
        A folder on this machine that gets a copy of all; None for none.

    Raises
    ------
    TrackingError, StorageFullError
        If the store, or the folder, doesn't take it.
    """
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as scratch:
        yield Path(scratch)
        if output is not None:
            for file in sorted(Path(scratch).rglob("*")):
                if file.is_file():
                    write_output(output / file.relative_to(scratch), file.read_bytes())
        with store_errors(f"write {folder} of run {run_id}"):
            client.log_artifacts(run_id, scratch, folder)


def page_location(run_id: str, folder: str, output: Path | None) -> str:
    """Say where the page of a report is."""
    return str(output / PAGE) if output else f"artifact {folder}/{PAGE} of run {run_id}"
