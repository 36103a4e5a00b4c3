from __future__ import annotations

import errno
import os
import pwd
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from ecg_mlflow import files
from ecg_mlflow.errors import StorageError, TrackingError
from ecg_mlflow.files import (
    cache_root,
    check_writable,
    checkpoint_path,
    locked,
    move_folder,
    scratch_folder,
    write_output,
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


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EROFS, "Read-only file system"),
        (errno.EACCES, "Permission denied"),
        (errno.EPERM, "Operation not permitted"),
    ],
)
def test_a_folder_that_is_not_to_be_written_is_named_with_the_variables_that_move_it(
    tmp_path, monkeypatch, number, why
):
    folder = tmp_path / "cache"

    def refuse(path, *args, **kwargs):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(files.Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=f"can't write in {folder} .{why}") as caught:
        check_writable(folder)
    assert "ECG_MLFLOW_CACHE and ECG_MLFLOW_CHECKPOINTS" in str(caught.value)
    with pytest.raises(StorageError, match=f"can't write in {folder}"), locked(folder / "a"):
        pass
    with pytest.raises(StorageError, match=f"can't write in {folder}"):
        write_whole(folder / "a", b"")
    with pytest.raises(StorageError, match=f"can't write in {folder}"), scratch_folder(folder, "a"):
        pass


def test_an_error_about_another_file_stays_what_it_is(tmp_path):
    (tmp_path / "recording").touch()
    with pytest.raises(NotADirectoryError), scratch_folder(tmp_path / "cache", "a"):
        (tmp_path / "recording" / "header").read_bytes()


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(StorageError, match=f"can't write in {folder} "):
            check_writable(folder)
        with pytest.raises(StorageError, match=rf"can't write {folder}.page: .*Name another file"):
            write_output(folder / "page", b"")


@pytest.mark.parametrize("chosen", ["", "~/cache", "~nobody-of-this-name/cache"])
def test_without_a_home_folder_the_variable_is_named(monkeypatch, chosen):
    def no_such_user(*_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", no_such_user)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ECG_MLFLOW_CACHE", chosen)
    with pytest.raises(StorageError, match=r"no home folder .*variable ECG_MLFLOW_CACHE"):
        cache_root()
