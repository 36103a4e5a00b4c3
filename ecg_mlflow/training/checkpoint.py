"""Save and load a training's state in one file, completely or not at all."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import CheckpointError
from ecg_mlflow.files import written_aside

#: Raise it when the meaning of a checkpoint's content changes.
VERSION = 2
_STATE = "state"


@dataclass(frozen=True)
class Checkpoint:
    """The state from which an interrupted training continues with the same results.

    Attributes
    ----------
    state
        Plain values: numbers, text, lists and dicts of them.
    arrays
        Arrays of numbers by name, of any shape.
    """

    state: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]

    def part(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays whose names begin with ``prefix/``, by the rest of their names."""
        start = f"{prefix}/"
        return {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint at `path`.

    The file is written aside, synced and renamed, so that `path` always holds a complete
    checkpoint, the old one or the new one.

    Raises
    ------
    StorageError
        If the disk is full; the old checkpoint stays.
    """
    text = json.dumps({**checkpoint.state, "version": VERSION})
    state = np.frombuffer(text.encode(), dtype=np.uint8)
    with written_aside(path) as file:
        np.savez(file, allow_pickle=False, **{_STATE: state, **checkpoint.arrays})


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None if it doesn't exist.

    Raises
    ------
    CheckpointError
        If it is damaged (each array has a checksum) or was written by another version.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        state = json.loads(arrays.pop(_STATE).tobytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: {error}") from error
    if state.pop("version", None) != VERSION:
        raise CheckpointError(f"the checkpoint {path} was written by another version")
    return Checkpoint(state, arrays)
