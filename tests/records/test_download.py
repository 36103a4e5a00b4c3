import io
import shutil
import threading
import zipfile
from collections import namedtuple

import pytest

from ecg_mlflow.errors import DownloadError
from ecg_mlflow.records import transfer
from ecg_mlflow.records.download import TRAINING_ZIP_URL, fetch_cinc2017
from ecg_mlflow.records.synthetic import write_demo

pytestmark = pytest.mark.server

REVISED = "D00001,A\nD00002,N\nD00003,~\n"
BY_HAND = r"By hand: download .*training2017\.zip in a browser, unpack it, save .*REFERENCE-v3\.csv"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three records in a zip of the Challenge's form."""
    folder = write_demo(tmp_path_factory.mktemp("zip") / "training2017", 3, seed=0)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            file.write(path, f"training2017/{path.name}")
    return content.getvalue()


@pytest.fixture
def server(file_server, archive):
    file_server.publish("REFERENCE-v3.csv", REVISED.encode())
    file_server.publish("training2017.zip", archive)
    return file_server


@pytest.fixture
def fetch(server, tmp_path):
    def call(**options):
        return fetch_cinc2017(tmp_path, url=server.url("training2017.zip"), **options)

    return call


def left_over(folder):
    """Everything but lock files."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_the_default_is_physionets_archive():
    assert TRAINING_ZIP_URL.startswith("https://physionet.org/files/challenge-2017/1.0.0/")


def test_records_come_with_the_revised_labels(fetch, tmp_path):
    folder = fetch()
    assert folder == tmp_path / "cinc2017" / "training2017"
    assert len(list(folder.glob("*.hea"))) == len(list(folder.glob("*.mat"))) == 3
    assert (folder / "REFERENCE.csv").read_text() == REVISED
    assert (folder / "REFERENCE-zip.csv").read_text() != REVISED
    assert left_over(tmp_path) == ["cinc2017"]


def test_the_second_call_sends_no_request(fetch, server):
    first = fetch()
    asked = len(server.asked)
    assert fetch() == first
    assert len(server.asked) == asked


def test_progress_is_the_archives(fetch, archive):
    seen = []
    fetch(on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(archive), len(archive))
    assert {total for _, total in seen} == {len(archive)}


def test_a_cut_connection_is_resumed(fetch, server, archive):
    server.cuts = [len(archive) // 2]
    assert (fetch() / "D00003.mat").exists()
    first, second = server.requests_for("training2017.zip")
    assert first is None
    assert second.startswith("bytes=")


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(fetch, server, archive, tmp_path):
    server.cuts = [len(archive) // 2, 0, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match="are kept in"):
        fetch()
    assert not (tmp_path / "cinc2017").exists()
    server.cuts = []
    fetch()
    assert server.requests_for("training2017.zip")[-1].startswith("bytes=")


def test_a_wrong_checksum(fetch, server, tmp_path):
    known = {"training2017.zip": "0" * 64, "REFERENCE-v3.csv": "1" * 64}
    with pytest.raises(DownloadError, match=rf"checksum is wrong.*{BY_HAND}"):
        fetch(checksums=known)
    assert left_over(tmp_path) == ["downloads"]
    assert (fetch() / "D00001.hea").exists()


def test_bytes_damaged_on_the_way_are_noticed(fetch, server, archive):
    server.files["training2017.zip"] = archive[:-1] + b"?"
    with pytest.raises(DownloadError, match="checksum is wrong"):
        fetch()


def test_given_checksums_replace_the_servers_list(fetch, server):
    lines = server.files.pop("SHA256SUMS.txt").decode().splitlines()
    known = {name: checksum for checksum, name in (line.split() for line in lines)}
    assert (fetch(checksums=known) / "D00001.hea").exists()
    assert not server.requests_for("SHA256SUMS.txt")


def test_a_list_without_the_archive(fetch, server):
    server.files["SHA256SUMS.txt"] = b"no checksums here\n"
    with pytest.raises(
        DownloadError, match=r"SHA256SUMS\.txt: no checksum for training2017\.zip, REFERENCE-v3"
    ):
        fetch()


@pytest.mark.parametrize("name", ["SHA256SUMS.txt", "REFERENCE-v3.csv", "training2017.zip"])
def test_a_file_that_the_server_does_not_have(fetch, server, name, tmp_path):
    server.status[name] = 404
    with pytest.raises(DownloadError, match=rf"{name}: the server answers 404.*{BY_HAND}"):
        fetch()
    assert not (tmp_path / "cinc2017").exists()


def test_an_unreachable_host(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DownloadError, match=rf"can't be reached.*{BY_HAND}"):
        fetch_cinc2017(tmp_path, url="http://127.0.0.1:9/training2017.zip")


def damaged(archive):
    """The same zip with one byte of a record's compressed data turned over."""
    middle = len(archive) // 2
    return archive[:middle] + bytes([archive[middle] ^ 0xFF]) + archive[middle + 1 :]


@pytest.mark.parametrize("harm", [damaged, lambda archive: archive[: len(archive) // 2]])
def test_a_damaged_zip_is_deleted(fetch, server, archive, harm, tmp_path):
    server.publish("training2017.zip", harm(archive))
    with pytest.raises(DownloadError, match=rf"can't be unpacked and was deleted.*{BY_HAND}"):
        fetch()
    assert left_over(tmp_path) == ["downloads"]
    assert left_over(tmp_path / "downloads") == ["REFERENCE-v3.csv"]
    server.publish("training2017.zip", archive)
    assert (fetch() / "D00001.hea").exists()


def test_a_zip_without_records(fetch, server, tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("training2017/README.txt", "nothing here")
    server.publish("training2017.zip", content.getvalue())
    with pytest.raises(DownloadError, match=r"training2017\.zip can't be .*holds no \.hea file"):
        fetch()
    assert not (tmp_path / "cinc2017").exists()


def test_no_space_to_unpack(fetch, server, monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(transfer, "_check_space", lambda part, needed: None)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1000))
        with pytest.raises(DownloadError, match=rf"no space: .* 1000 are free.*{BY_HAND}"):
            fetch()
    assert not (tmp_path / "cinc2017").exists()
    fetch()
    assert len(server.requests_for("training2017.zip")) == 1


def test_a_cache_that_is_no_folder(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DownloadError, match=rf"can't write to .*cache.*{BY_HAND}"):
        fetch_cinc2017(tmp_path / "cache", url=server.url("training2017.zip"))


def test_a_folder_that_lost_its_records(fetch, tmp_path):
    (tmp_path / "cinc2017").mkdir()
    with pytest.raises(DownloadError, match=r"cinc2017 holds no \.hea file; delete it"):
        fetch()


def test_two_at_once_download_once(fetch, server):
    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests_for("training2017.zip")) == 1
