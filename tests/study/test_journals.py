"""Where the journal of a search is, and how it comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecg_mlflow.study import journals
from ecg_mlflow.study.journals import JournalCopy, fetch_journal, journal_path


class Client:
    """Keeps artifacts in a folder."""

    def __init__(self, folder, uri="sqlite:///x"):
        self.folder, self.tracking_uri, self.copies = folder, uri, 0

    def log_artifact(self, run_id, path, folder):
        self.copies += 1
        target = self.folder / folder
        target.mkdir(parents=True, exist_ok=True)
        (target / path.rpartition("/")[2]).write_bytes(Path(path).read_bytes())

    def list_artifacts(self, run_id, folder):
        found = (self.folder / folder).glob("*") if (self.folder / folder).exists() else ()
        return [type("File", (), {"path": f"{folder}/{one.name}"}) for one in found]

    def download_artifacts(self, run_id, name, folder):
        target = Path(folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((self.folder / name).read_bytes())
        return str(target)


def test_it_lies_beside_a_store_that_is_a_file_and_else_in_the_cache(tmp_path, cache):
    client = Client(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert journal_path(client, "r1") == tmp_path / "searches" / "r1.journal"
    client.tracking_uri = "http://localhost:5000"
    assert journal_path(client, "r1") == cache / "searches" / "r1.journal"


def test_it_is_copied_into_the_parent_run_now_and_then_and_comes_back(tmp_path, monkeypatch):
    client, path = Client(tmp_path / "store"), tmp_path / "here" / "r1.journal"
    copy = JournalCopy(client, "r1", path)
    copy.update(now=True)
    assert client.copies == 0, "a plain grid has none"
    path.parent.mkdir()
    path.write_text("one\n")
    copy.update()
    copy.update()
    assert client.copies == 1
    path.write_text("one\ntwo\n")
    copy.update()
    assert client.copies == 1, "it was copied a moment ago"
    copy.update(now=True)
    assert client.copies == 2
    monkeypatch.setattr(journals, "COPY_S", 0.0)
    path.write_text("one\ntwo\nthree\n")
    copy.update()
    assert client.copies == 3

    path.unlink()
    fetch_journal(client, "r1", path)
    assert path.read_text() == "one\ntwo\nthree\n"
    assert [one.name for one in path.parent.iterdir()] == ["r1.journal"]
    path.write_text("newer\n")
    fetch_journal(client, "r1", path)
    assert path.read_text() == "newer\n", "what is here is never older"


@pytest.mark.parametrize("name", ["r2.journal", "r1.journal.txt"])
def test_nothing_comes_back_of_another_search(tmp_path, name):
    client, path = Client(tmp_path / "store"), tmp_path / "here" / "r1.journal"
    folder = tmp_path / "store" / "search"
    folder.mkdir(parents=True)
    (folder / name).write_text("other")
    fetch_journal(client, "r1", path)
    assert not path.exists()
