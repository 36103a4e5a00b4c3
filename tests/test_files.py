from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.files import (
    cache_root,
    checkpoint_path,
    locked,
    move_folder,
    scratch_folder,
    write_whole,
)
from ecg_mlflow.records import packed_path


def test_the_environment_says_where(cache, monkeypatch):
    assert cache_root() == cache
    monkeypatch.setenv("ECG_MLFLOW_CACHE", "~/elsewhere")
    assert cache_root() == Path.home() / "elsewhere"
    monkeypatch.delenv("ECG_MLFLOW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_root() == Path("/xdg/ecg_mlflow")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "ecg_mlflow"


def test_one_at_a_time_holds_the_lock(tmp_path):
    inside, order = threading.Event(), []

    def second():
        inside.wait()
        with locked(tmp_path / "thing"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with locked(tmp_path / "thing"):
        inside.set()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import os, pathlib, sys; from ecg_mlflow.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "thing")])
    assert killed.returncode == -9
    with locked(tmp_path / "thing"):
        pass


def test_scratch_is_removed_whatever_happens_and_after_a_kill_by_the_next(tmp_path):
    for left in (".thing.abc.part", ".other.abc.part"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "file").touch()
    with suppress(RuntimeError), scratch_folder(tmp_path, "thing") as scratch:
        assert list(scratch.iterdir()) == []
        (scratch / "file").touch()
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == [".other.abc.part"]


def test_a_folder_is_moved_whole(tmp_path):
    with scratch_folder(tmp_path, "thing") as scratch:
        (scratch / "sub").mkdir()
        (scratch / "sub/file").write_text("text")
        move_folder(scratch, tmp_path / "new/thing")
    assert (tmp_path / "new/thing/sub/file").read_text() == "text"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    write_whole(tmp_path / "new/file", b"one")

    def no_space(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        write_whole(tmp_path / "new/file", b"two")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    assert (tmp_path / "new/file").read_bytes() == b"one"


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "../x", "a/b", "a\\b", "a\0", "x" * 129, "ü"]
)
def test_a_name_from_a_store_that_could_lead_elsewhere_is_no_file_name(name):
    with pytest.raises(TrackingError, match="can't be a file's name"):
        checkpoint_path(name)
    with pytest.raises(TrackingError, match="can't be a file's name"):
        packed_path(name)
    assert checkpoint_path("0" * 32).name == f"{'0' * 32}.npz"
