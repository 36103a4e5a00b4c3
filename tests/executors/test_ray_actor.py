"""The actor's part, without Ray."""

import pickle
import threading
import time

import pytest

from ecg_mlflow.executors import ray_actor
from ecg_mlflow.executors.base import Job, Outcome, OutcomeState
from ecg_mlflow.executors.ray_actor import JobActor, read_folder, write_folder


@pytest.fixture
def actor(monkeypatch):
    monkeypatch.setenv("ECG_MLFLOW_DEVICE", "")
    monkeypatch.syspath_prepend(str(__file__).rpartition("/")[0])
    return JobActor("jobs:do", None)


def outcome_of(actor):
    """Fetch reports until the last one."""
    while True:
        last = pickle.loads(actor.next_reports()[-1])
        if isinstance(last, Outcome):
            return last


def test_messages_are_for_the_current_job_alone(actor):
    actor.begin(Job("a", b"echo"))
    actor.deliver([pickle.dumps({"i": 0})])
    outcome_of(actor)
    actor.deliver([pickle.dumps({"i": 1})])
    actor.begin(Job("a", b"read"))
    messages = [{"i": 2}, {"i": 3, "last": True}]
    for message in messages:
        actor.deliver([pickle.dumps(message)])
    assert outcome_of(actor).value == messages


def test_quick_reports_travel_together(actor, monkeypatch):
    monkeypatch.setattr(ray_actor, "_GATHER", 1)
    actor.begin(Job("a", b"tick"))  # every 10 ms
    assert sum(len(actor.next_reports()) for _ in range(2)) > 10
    actor.stop()
    outcome_of(actor)


def test_a_job_waits_when_the_driver_does_not_fetch(actor, monkeypatch):
    monkeypatch.setattr(ray_actor, "_OUTBOX_LIMIT", 1_000_000)
    actor.begin(Job("a", b"flood"))
    while len(actor._outbox) < 4:  # of 300 kB
        time.sleep(0.01)
    time.sleep(0.5)
    assert len(actor._outbox) == 4
    actor.stop()
    assert outcome_of(actor).state is OutcomeState.CANCELLED


def test_it_says_where_its_threads_are(actor):
    actor.begin(Job("a", b"sleep"))
    while "in sleep" not in actor.stacks():
        time.sleep(0.01)


# --- Folders that travel, with a list as the store between --------------------------------------


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.bin").write_bytes(bytes(range(25)))
    (folder / "empty").touch()
    (folder / "deep" / "er" / "b").write_bytes(b"b")
    return folder


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_arrives_whole_in_chunks_of_bounded_size(here, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_actor, "CHUNK", 10)
    store = []
    files = read_folder(here, lambda chunk: store.append(chunk) or len(store) - 1)
    assert [len(chunk) for chunk in store] == [10, 10, 5, 1]
    write_folder(tmp_path / "h", files, store.__getitem__)
    assert contents(tmp_path / "h") == contents(here)


def test_a_transfer_that_fails_leaves_no_folder_and_the_next_one_starts_anew(here, tmp_path):
    def fail(chunk):
        raise OSError("the disk is full")

    files = read_folder(here, bytes)
    with pytest.raises(OSError, match="the disk is full"):
        write_folder(tmp_path / "h", files, fail)
    assert not (tmp_path / "h").exists()
    left = tmp_path / ".h.0123.part"  # of a worker that was killed
    left.mkdir()
    write_folder(tmp_path / "h", files, bytes)
    assert contents(tmp_path / "h") == contents(here)
    assert not left.exists()


def test_two_workers_of_a_node_write_a_folder_once(here, tmp_path):
    fetched = []
    files = read_folder(here, bytes)
    gate = threading.Barrier(4)

    def receive():
        gate.wait()
        write_folder(tmp_path / "h", files, lambda chunk: fetched.append(chunk) or chunk)

    threads = [threading.Thread(target=receive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 2  # the files that are not empty
    assert contents(tmp_path / "h") == contents(here)
