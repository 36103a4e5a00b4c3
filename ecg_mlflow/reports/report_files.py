"""A report's files: artifacts of a run, and a folder of the user's own beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_mlflow.errors import StorageFullError
from ecg_mlflow.files import write_whole
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.run_log import Column, csv_text

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class ReportFiles:
    """Where a report is written to.

    Attributes
    ----------
    client, run_id, folder
        The run, and the folder of its artifacts.
    output
        A folder on this machine that gets a copy of all; None for none.
    """

    client: MlflowClient
    run_id: str
    folder: str
    output: Path | None = None

    def table(self, name: str, columns: Mapping[str, Column]) -> None:
        """Write a CSV."""
        self.text(name, csv_text(columns))

    def text(self, name: str, text: str) -> None:
        """Write a text file."""
        self.binary(name, text.encode())

    def binary(self, name: str, data: bytes) -> None:
        """Write any file.

        Raises
        ------
        TrackingError, StorageFullError
            If the store, or the folder, doesn't take it.
        """
        if self.output is not None:
            target = self.output / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                write_whole(target, data)
            except OSError as error:
                raise StorageFullError(f"can't write {target}: {error}") from error
        import tempfile

        place = Path(self.folder, name)
        with (
            store_errors(f"write {place} of run {self.run_id}"),
            tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as scratch,
        ):
            file = Path(scratch, place.name)
            file.write_bytes(data)
            self.client.log_artifact(self.run_id, str(file), str(place.parent))

    def where(self, name: str) -> str:
        """Say where a file is to be found."""
        if self.output is not None:
            return str(self.output / name)
        return f"artifact {self.folder}/{name} of run {self.run_id}"
