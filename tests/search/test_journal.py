from __future__ import annotations

import errno
import os

import optuna
import pytest

from ecg_mlflow.errors import SearchError, StorageFullError
from ecg_mlflow.search.journal import open_journal
from ecg_mlflow.search.quiet import quiet


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "search.log"


def search(path, n=1):
    """Go on with a search for some trials; return how many there are."""
    with quiet():
        study = optuna.create_study(storage=open_journal(path), study_name="s", load_if_exists=True)
        for _ in range(n):
            trial = study.ask()
            study.tell(trial, trial.suggest_float("x", 0, 1))
        return len(study.trials)


def test_a_journal_is_begun_and_gone_on_with(path):
    assert search(path, 2) == 2
    assert search(path) == 3
    assert [file.name for file in path.parent.iterdir()] == ["search.log"]


def test_half_a_line_at_the_end_is_no_obstacle(path):
    search(path, 3)
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for size in range(ends[-4], len(data) + 1):
        path.write_bytes(data[:size])
        open_journal(path)
        assert path.stat().st_size == max(end for end in ends if end <= size)
        if size % 7 and not {size - 1, size, size + 1} & {*ends}:
            continue  # to go on with each of them takes long
        # The last trial is created by the third line from the end.
        n = 3 if size >= ends[-3] else 2
        assert search(path) == n + 1
        assert search(path) == n + 2


def test_half_a_line_alone_is_no_obstacle(path):
    search(path, 0)
    first = path.read_bytes().splitlines()[0]
    for size in range(len(first) + 1):
        path.write_bytes(first[:size])
        assert search(path) == 1


def test_a_lock_that_a_killed_process_left_is_not_waited_for(path):
    search(path)
    lock = path.parent / "search.log.lock"
    lock.symlink_to(path)
    assert search(path) == 2
    assert lock.is_symlink(), "Optuna's own lock would be waited for, and broken after 30 s"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda lines: [*lines[:3], b"???", *lines[3:]],
            r"line 4 is no step of a search: b'\?\?\?'",
        ),
        (lambda lines: [*lines, b"\xff\xff"], "no step of a search"),
        (lambda lines: [*lines[:3], lines[3][:20], *lines[4:]], "line 4 is no step"),
        (lambda lines: [*lines[:3], b"[1]", *lines[3:]], "line 4 is no step"),
        (lambda lines: [*lines[:3], b"", *lines[3:]], "line 4 is no step"),
        (lambda lines: [*lines, b'{"op_code":77,"worker_id":"x"}'], "Optuna can't follow it"),
        (lambda lines: [*lines, b'{"op_code":4,"worker_id":"x"}'], "Optuna can't follow it"),
        (lambda lines: [*lines, b'{"op_code":4,"study_id":"x"}'], "Optuna can't follow it"),
    ],
)
def test_a_damaged_journal_is_refused_and_left_alone(path, spoil, message):
    search(path, 3)
    data = b"".join(line + b"\n" for line in spoil(path.read_bytes().splitlines()))
    path.write_bytes(data)
    with pytest.raises(SearchError, match=message) as caught:
        open_journal(path)
    assert f"the journal {path} of this search is damaged" in str(caught.value)
    assert "Move it away and start again" in str(caught.value)
    assert path.read_bytes() == data


@pytest.mark.parametrize("data", [b"model weights", b"\x00\x01" * 50, b'{"op_code":1}\nmore'])
def test_what_is_no_journal_is_left_alone(path, data):
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(SearchError, match="damaged"):
        open_journal(path)
    assert path.read_bytes() == data


def test_a_full_disk_leaves_a_whole_journal(path, monkeypatch):
    search(path, 2)
    before = path.read_bytes()
    storage = open_journal(path)
    sync = os.fsync

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with quiet(), pytest.raises(StorageFullError, match="no space left"):
        optuna.load_study(study_name="s", storage=storage).ask()
    assert path.read_bytes() == before
    monkeypatch.setattr(os, "fsync", sync)
    with quiet():
        study = optuna.load_study(study_name="s", storage=storage)
        study.tell(study.ask(), 0.5)
    assert search(path) == 4
