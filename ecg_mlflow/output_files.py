"""Files that a user has named to be written."""

from __future__ import annotations

from pathlib import Path

from ecg_mlflow.errors import StorageFullError
from ecg_mlflow.files import write_whole


def write_output(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; folders that are missing are made.

    Raises
    ------
    StorageFullError
        If it can't be written there.
    """
    try:
        write_whole(path, data)
    except StorageFullError:
        raise
    except OSError as error:
        raise StorageFullError(
            f"can't write {path}: {error.strerror or error}. Name another file or folder"
        ) from error
