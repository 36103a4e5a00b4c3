from __future__ import annotations

import json

import numpy as np
import pytest

from ecg_mlflow.errors import CheckpointError, StorageError
from ecg_mlflow.training import checkpoint
from ecg_mlflow.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

ARRAYS = {
    "network/model/0": np.linspace(0, 1, 7, dtype=np.float32),
    "network/optimizer/0": np.array(3, dtype=np.int64),
    "losses": np.array([0.1, np.nan], dtype=np.float32),
    "empty": np.empty((0, 2)),
}
STATE = {"iteration": 3, "seconds": 0.1 + 0.2, "tests": [[2, {"f1": 1 / 3}]], "none": None}


def test_what_is_read_is_what_was_written_bit_for_bit(tmp_path):
    path = tmp_path / "folder" / "run.npz"
    save_checkpoint(path, Checkpoint(STATE, ARRAYS))
    found = load_checkpoint(path)
    assert found.state == STATE
    assert found.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)
    assert list(found.part("network")) == ["model/0", "optimizer/0"]
    with np.load(path) as file:  # without this package
        assert json.loads(file["state"].tobytes())["iteration"] == 3
    assert load_checkpoint(tmp_path / "another.npz") is None


@pytest.fixture
def path(tmp_path):
    """Give the file of a checkpoint."""
    path = tmp_path / "run.npz"
    arrays = {**ARRAYS, "a": np.random.default_rng(0).normal(size=10_000)}
    save_checkpoint(path, Checkpoint(STATE, arrays))
    return path


@pytest.mark.parametrize(
    ("flipped", "kept"),
    [(0.01, 1), (0.5, 1), (0.95, 1), (None, 0), (None, 0.99)],
)
def test_damage_anywhere_is_seen(path, flipped, kept):
    data = bytearray(path.read_bytes())
    if flipped is not None:
        data[int(len(data) * flipped)] ^= 0x10
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match=r"run\.npz is damaged"):
        load_checkpoint(path)


def test_another_version_is_refused(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", checkpoint.VERSION + 1)
    with pytest.raises(CheckpointError, match="written by another version"):
        load_checkpoint(path)


def test_python_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"[Oo]bject arrays"):
        save_checkpoint(tmp_path / "run.npz", Checkpoint({}, {"a": np.array([{}])}))
    assert list(tmp_path.iterdir()) == []


def test_without_room_the_old_one_stays(path, monkeypatch):
    def full(file, **arrays):
        file.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.np, "savez", full)
    with pytest.raises(StorageError, match=f"no space left on the disk of {path.parent}"):
        save_checkpoint(path, Checkpoint({}, {}))
    assert load_checkpoint(path).state == STATE
    assert list(path.parent.iterdir()) == [path]
