import errno
import hashlib
import io
import os
import threading
import zipfile
from pathlib import Path

import pytest

from ecg_mlflow.errors import DownloadError, EcgMlflowError, StorageFullError
from ecg_mlflow.records import download
from ecg_mlflow.records.catalogue import ARCHIVES, Archive
from ecg_mlflow.records.download import fetch_archive, fetch_file
from ecg_mlflow.records.synthetic import write_demo

pytestmark = pytest.mark.server

CONTENT = bytes(range(256)) * 8192  # 2 MiB, several pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REVISED = "D00001,A\nD00002,N\nD00003,~\n"
BY_HAND = r"By hand: download .*training2017\.zip in a browser, unpack it, save .*REFERENCE-v3\.csv"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(download, "_PAUSE_S", 0.0)


@pytest.fixture
def server(file_server, archive):
    file_server.publish("data.zip", CONTENT)
    file_server.publish("REFERENCE-v3.csv", REVISED.encode())
    file_server.publish("training2017.zip", archive)
    return file_server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "downloads" / "data.zip"


@pytest.fixture
def fetch(server, target):
    def call(sha256=SHA256, **options):
        return fetch_file(f"{server.base}/data.zip", target, sha256, **options).read_bytes()

    return call


def left_over(folder):
    """Everything but lock files."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def part_of(target, sha256=SHA256):
    return target.with_name(f"data.zip.{sha256[:8]}.part")


@pytest.mark.parametrize("tell_length", [True, False])
def test_a_file_comes_with_progress(fetch, server, target, tell_length):
    server.tell_length = tell_length
    seen = []
    assert fetch(on_progress=lambda *progress: seen.append(progress)) == CONTENT
    assert left_over(target.parent) == ["data.zip"]
    assert [here for here, _ in seen] == sorted(here for here, _ in seen)
    assert len(seen) > 3
    assert seen[-1] == (len(CONTENT), len(CONTENT) if tell_length else 0)


def test_a_right_file_is_not_fetched_again(fetch, server, target):
    assert fetch() == fetch(sha256=SHA256.upper()) == CONTENT
    target.write_bytes(b"spoiled")
    assert fetch() == CONTENT
    assert server.requests_for("data.zip") == [None, None]


def test_a_broken_connection_is_resumed_where_it_broke(fetch, server):
    server.cuts = [300_000] * 6  # progress between breaks resets the patience
    assert fetch(attempts=1) == CONTENT
    first, *ranges = server.requests_for("data.zip")
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in ranges]
    assert first is None
    assert len(starts) == 6
    assert 0 < starts[0] <= 300_000
    assert starts == sorted(set(starts))


def test_the_next_call_continues_after_an_interruption(fetch, server, target):
    def interrupt(done, total):
        if done > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(on_progress=interrupt)
    assert not target.exists()
    kept = part_of(target).stat().st_size
    assert kept > 1_000_000
    assert fetch() == CONTENT
    assert server.requests_for("data.zip") == [None, f"bytes={kept}-"]


def test_a_connection_that_keeps_breaking_is_given_up_and_the_part_kept(fetch, server, target):
    server.cuts = [500_000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"broke off.* bytes are kept in .*data\.zip.*\.part"):
        fetch(attempts=3)
    assert part_of(target).stat().st_size > 0
    assert fetch() == CONTENT


@pytest.mark.parametrize("change", ["another content", "no ranges", "all bytes are here"])
def test_parts_that_can_not_be_continued(fetch, server, target, change):
    server.cuts, sha256, content = [500_000, 0], SHA256, CONTENT
    with pytest.raises(DownloadError):
        fetch(attempts=1)
    if change == "another content":
        content = CONTENT[::-1]
        sha256 = server.publish("data.zip", content)
    elif change == "no ranges":
        server.ranges = False
    else:
        part_of(target).write_bytes(CONTENT)
    assert fetch(sha256) == content


def test_a_wrong_checksum_deletes_what_came(fetch, target):
    expected = f"sha256 {SHA256} was received, {'0' * 64} was expected"
    with pytest.raises(DownloadError, match=expected):
        fetch(sha256="0" * 64)
    assert left_over(target.parent) == []


def test_a_disk_that_fills_up_keeps_the_part(fetch, target, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFullError, match="no space left on the disk of"):
            fetch()
    assert left_over(target.parent) == [part_of(target).name]
    assert fetch() == CONTENT


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three records in a zip of the Challenge's form."""
    folder = write_demo(tmp_path_factory.mktemp("zip") / "training2017", 3, seed=0)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            file.write(path, f"training2017/{path.name}")
    return content.getvalue()


def described(base):
    return Archive("the Challenge", f"{base}/training2017.zip", "REFERENCE-v3.csv")


@pytest.fixture
def fetch_records(server, tmp_path):
    def call(**options):
        return fetch_archive("cinc2017", described(server.base), tmp_path, **options)

    return call


def test_the_challenge_comes_from_physionet():
    assert ARCHIVES["cinc2017"].url.startswith("https://physionet.org/files/challenge-2017/1.0.0/")


def test_records_come_once_with_the_revised_labels(fetch_records, server, tmp_path, archive):
    seen = []
    threads = [
        threading.Thread(
            target=lambda: fetch_records(on_progress=lambda *progress: seen.append(progress))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folder = fetch_records()
    assert folder == tmp_path / "cinc2017" / "training2017"
    assert len(list(folder.glob("*.hea"))) == len(list(folder.glob("*.mat"))) == 3
    assert (folder / "REFERENCE.csv").read_text() == REVISED
    assert (folder / "REFERENCE-zip.csv").read_text() != REVISED
    assert left_over(tmp_path) == ["cinc2017"]
    assert len(server.requests_for("training2017.zip")) == 1
    assert seen[-1] == (len(archive), len(archive))


def test_a_later_call_continues_where_an_earlier_one_gave_up(
    fetch_records, server, archive, tmp_path
):
    server.cuts = [len(archive) // 2, 0, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match="are kept in"):
        fetch_records()
    assert not (tmp_path / "cinc2017").exists()
    server.cuts = []
    fetch_records()
    assert server.requests_for("training2017.zip")[-1].startswith("bytes=")


def flipped(archive):
    """The same zip with one byte of a record's compressed data turned over."""
    middle = len(archive) // 2
    return archive[:middle] + bytes([archive[middle] ^ 0xFF]) + archive[middle + 1 :]


def without_records(archive):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("training2017/README.txt", "nothing here")
    return content.getvalue()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flipped, r"can't be unpacked and was deleted"),
        (lambda archive: archive[: len(archive) // 2], r"can't be unpacked and was deleted"),
        (without_records, r"can't be .*holds no \.hea file"),
    ],
)
def test_a_damaged_zip_is_deleted(fetch_records, server, archive, damage, message, tmp_path):
    server.publish("training2017.zip", damage(archive))
    with pytest.raises(DownloadError, match=rf"{message}.*{BY_HAND}"):
        fetch_records()
    assert left_over(tmp_path) == ["downloads"]
    assert left_over(tmp_path / "downloads") == ["REFERENCE-v3.csv"]
    server.publish("training2017.zip", archive)
    assert (fetch_records() / "D00001.hea").exists()


@pytest.mark.parametrize(
    ("name", "status", "content", "message"),
    [
        ("SHA256SUMS.txt", 404, None, "SHA256SUMS.txt: the server answers 404 Not Found"),
        ("REFERENCE-v3.csv", 404, None, "REFERENCE-v3.csv: the server answers 404"),
        ("training2017.zip", 503, None, "training2017.zip: the server answers 503"),
        ("training2017.zip", None, b"damaged on the way", "checksum is wrong"),
        ("SHA256SUMS.txt", None, b"-", r"no checksum for training2017\.zip, REFERENCE-v3\.csv"),
    ],
)
def test_a_server_that_fails(fetch_records, server, tmp_path, name, status, content, message):
    if status:
        server.status[name] = status
    else:
        server.files[name] = content
    with pytest.raises(DownloadError, match=rf"{message}.*{BY_HAND}"):
        fetch_records()
    assert not (tmp_path / "cinc2017").exists()


def test_an_unreachable_server(tmp_path, file_server):
    with pytest.raises(DownloadError, match=rf"can't be reached.*{BY_HAND}") as caught:
        fetch_archive("cinc2017", described("http://127.0.0.1:9"), tmp_path)
    assert isinstance(caught.value, EcgMlflowError)
    assert isinstance(caught.value, OSError)
    with pytest.raises(DownloadError, match="can't be reached"):
        fetch_file("http://127.0.0.1:9/data.zip", tmp_path / "data.zip", SHA256, attempts=2)


def test_places_that_can_not_be_used(server, tmp_path):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "cinc2017").mkdir()
    for cache, message in (
        (tmp_path / "file", "can't write to .*file"),
        (tmp_path, r"cinc2017 holds no \.hea file; delete it"),
    ):
        with pytest.raises(DownloadError, match=rf"{message}.*{BY_HAND}"):
            fetch_archive("cinc2017", described(server.base), Path(cache))
