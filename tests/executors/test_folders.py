"""Folders on their way to where they are needed, with a dict as the store between."""

import threading

import pytest

from ecg_mlflow.executors import folders


@pytest.fixture
def there(tmp_path, monkeypatch):
    """The folder of a content hash on the receiving side."""
    monkeypatch.setenv("JOBS_CACHE", str(tmp_path / "there"))
    monkeypatch.syspath_prepend(str(__file__).rpartition("/")[0])
    return tmp_path / "there" / "folders"


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.bin").write_bytes(bytes(range(25)))
    (folder / "empty").touch()
    (folder / "deep" / "er" / "b").write_bytes(b"b")
    return folder


class Store(list):
    def put(self, chunk):
        self.append(chunk)
        return len(self) - 1


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_arrives_whole_in_chunks_of_bounded_size(here, there, monkeypatch):
    monkeypatch.setattr(folders, "CHUNK", 10)
    store = Store()
    files = folders.read_folder(here, store.put)
    assert [len(chunk) for chunk in store] == [10, 10, 5, 1]
    assert folders.find_missing("jobs:place", ["h", "i"]) == ("h", "i")
    folders.write_folder("jobs:place", "h", files, store.__getitem__)
    assert folders.find_missing("jobs:place", ["h", "i"]) == ("i",)
    assert contents(there / "h") == contents(here)


def test_a_folder_that_is_there_is_trusted(here, there):
    (there / "h").mkdir(parents=True)
    (there / "h" / "mine").touch()
    folders.write_folder("jobs:place", "h", folders.read_folder(here, bytes), bytes)
    assert [path.name for path in (there / "h").iterdir()] == ["mine"]


def test_a_transfer_that_fails_leaves_no_folder_and_the_next_one_starts_anew(here, there):
    def fail(chunk):
        raise OSError("the disk is full")

    files = folders.read_folder(here, bytes)
    with pytest.raises(OSError, match="the disk is full"):
        folders.write_folder("jobs:place", "h", files, fail)
    assert folders.find_missing("jobs:place", ["h"])
    left = there / ".h.0123.part"  # of a worker that was killed
    left.mkdir()
    folders.write_folder("jobs:place", "h", files, bytes)
    assert contents(there / "h") == contents(here)
    assert not left.exists()


def test_a_folder_that_is_gone_does_not_travel_as_an_empty_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="is missing"):
        folders.read_folder(tmp_path / "gone", bytes)


def test_two_workers_of_a_node_write_a_folder_once(here, there):
    fetched = []
    files = folders.read_folder(here, bytes)
    gate = threading.Barrier(4)

    def receive():
        gate.wait()
        folders.write_folder("jobs:place", "h", files, lambda c: fetched.append(c) or c)

    threads = [threading.Thread(target=receive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 2  # the files that are not empty
    assert contents(there / "h") == contents(here)
