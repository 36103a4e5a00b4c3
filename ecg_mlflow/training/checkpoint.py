"""A training's state in one file, whole or not at all."""

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

#: To be raised when a checkpoint's content means something else than before.
VERSION = 2
_STATE = "state"


@dataclass(frozen=True)
class Checkpoint:
    """What a training needs to go on as if nothing had happened.

    Attributes
    ----------
    state
        Plain values: numbers, text, lists and dicts of them.
    arrays
        Arrays by name, of any shape; no Python objects in them.
    """

    state: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]

    def part(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays whose names begin with ``prefix/``, without that."""
        start = f"{prefix}/"
        return {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one at `path`.

    The file is written aside, synced and renamed: whatever happens meanwhile, the old one or the
    new one stands there, whole.

    Raises
    ------
    StorageFullError
        If there is no room; the old one stays.
    """
    text = json.dumps({**checkpoint.state, "version": VERSION})
    state = np.frombuffer(text.encode(), dtype=np.uint8)
    with written_aside(path) as file:
        np.savez(file, allow_pickle=False, **{_STATE: state, **checkpoint.arrays})


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None if there is none.

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
