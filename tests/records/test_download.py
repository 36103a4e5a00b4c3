import errno
import hashlib
import io
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from ecg_mlflow.errors import DownloadError, StorageError
from ecg_mlflow.records import download
from ecg_mlflow.records.catalogue import ARCHIVES, Archive
from ecg_mlflow.records.download import fetch_archive, fetch_data_set, fetch_file
from ecg_mlflow.records.named_sets import Named, data_sets
from ecg_mlflow.records.synthetic import write_demo

pytestmark = pytest.mark.server

CONTENT = bytes(range(256)) * 8192  # 2 MiB, several pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REVISED = "D00001,A\nD00002,N\nD00003,~\n"
BY_HAND = r"By hand: download .*training2017\.zip in a browser, unpack it, save .*REFERENCE-v3\.csv"


class FileServer(ThreadingHTTPServer):
    """Serves `files` by name, with ranges; the other attributes say how it misbehaves."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.base, self.files = f"http://127.0.0.1:{self.server_port}/files", {}
        self.cuts = []  # after how many bytes the next answers for .zip and .dat break off
        self.ranges = self.tell_length = True
        self.status = {}  # errors by name
        self.asked = []  # name and Range header of each request

    def publish(self, name, content):
        """Serve a file and list its checksum, as PhysioNet does."""
        self.files[name] = content
        others = {n: c for n, c in self.files.items() if n != "SHA256SUMS.txt"}
        lines = [f"{hashlib.sha256(c).hexdigest()} {n}\n" for n, c in others.items()]
        self.files["SHA256SUMS.txt"] = "".join(lines).encode()

    def requests_for(self, name):
        return [asked for asked_name, asked in self.asked if asked_name == name]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, unquote(self.path.removeprefix("/files/"))
        asked, content = self.headers.get("Range"), server.files.get(name)
        server.asked.append((name, asked))
        if content is None or name in server.status:
            self.send_error(server.status.get(name, 404))
            return
        partial = asked is not None and server.ranges
        body = content[int(asked.strip("bytes=-")) :] if partial else content
        self.send_response((206 if body else 416) if partial else 200)
        if server.tell_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cuts.pop(0) if name.endswith((".zip", ".dat")) and server.cuts else len(body)
        with suppress(ConnectionError):  # the client may hang up first
            self.wfile.write(body[:cut])

    def log_message(self, *_):
        """Keep the tests' output free of the server's log."""


@pytest.fixture
def server(archive, monkeypatch):
    """A running server on a free port of this machine, reached without a proxy or pauses."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "_PAUSE_S", 0.0)
    with FileServer() as http, ThreadPoolExecutor(1) as thread:
        thread.submit(http.serve_forever, poll_interval=0.02)
        http.publish("data.zip", CONTENT)
        http.publish("REFERENCE-v3.csv", REVISED.encode())
        http.publish("training2017.zip", archive)
        yield http
        http.shutdown()


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


def part_of(target):
    return target.with_name(f"data.zip.{SHA256[:8]}.part")


@pytest.mark.parametrize("tell_length", [True, False])
def test_a_file_comes_with_progress(fetch, server, target, tell_length):
    server.tell_length = tell_length
    seen = []
    assert fetch(on_progress=lambda *progress: seen.append(progress)) == CONTENT
    assert left_over(target.parent) == ["data.zip"]
    assert [here for here, _ in seen] == sorted(here for here, _ in seen)
    assert len(seen) > 3
    assert seen[-1] == (len(CONTENT), len(CONTENT) if tell_length else 0)


def test_a_right_file_is_not_fetched_again_and_a_wrong_one_deleted(fetch, server, target):
    assert fetch() == fetch(sha256=SHA256.upper()) == CONTENT
    target.write_bytes(b"spoiled")
    assert fetch() == CONTENT
    assert server.requests_for("data.zip") == [None, None]
    expected = f"sha256 {SHA256} was received, {'0' * 64} was expected"
    with pytest.raises(DownloadError, match=expected):
        fetch(sha256="0" * 64)
    assert left_over(target.parent) == ["data.zip"]


def test_a_broken_connection_is_resumed_where_it_broke(fetch, server):
    server.cuts = [300_000] * 6  # progress between breaks resets the patience
    assert fetch(attempts=1) == CONTENT
    first, *ranges = server.requests_for("data.zip")
    starts = [int(asked.strip("bytes=-")) for asked in ranges]
    assert (first, len(starts)) == (None, 6)
    assert 0 < starts[0] <= 300_000
    assert starts == sorted(set(starts))


@pytest.mark.parametrize("then", ["continue", "another content", "no ranges", "all are here"])
def test_a_connection_that_keeps_breaking_is_given_up_and_the_part_kept(
    fetch, server, target, then
):
    server.cuts, sha256, content = [500_000, 0, 0], SHA256, CONTENT
    with pytest.raises(DownloadError, match=r"bytes are kept in .*data\.zip.*\.part"):
        fetch(attempts=2)
    assert not target.exists()
    kept = part_of(target).stat().st_size
    assert kept > 100_000
    if then == "another content":
        content = CONTENT[::-1]
        sha256 = hashlib.sha256(content).hexdigest()
        server.publish("data.zip", content)
    elif then == "no ranges":
        server.ranges = False
    elif then == "all are here":
        part_of(target).write_bytes(CONTENT)
    seen = []
    assert fetch(sha256, on_progress=lambda *progress: seen.append(progress)) == content
    assert then == "all are here" or seen[-1] == (len(content), len(content))
    asked = server.requests_for("data.zip")[-1]
    start = {"another content": None, "all are here": f"bytes={len(CONTENT)}-"}
    assert asked == start.get(then, f"bytes={kept}-")


def test_a_disk_that_fills_up_keeps_the_part(fetch, target, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space left on the disk of"):
            fetch()
    assert left_over(target.parent) == [part_of(target).name]
    assert fetch() == CONTENT


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three records in a zip of the Challenge's form."""
    folder = tmp_path_factory.mktemp("zip")
    write_demo(folder / "records" / "training2017", 3, seed=0)
    return Path(shutil.make_archive(folder / "made", "zip", folder / "records")).read_bytes()


@pytest.fixture
def fetch_records(server, tmp_path):
    def call(cache=tmp_path, base=server.base, **options):
        archive = Archive("the Challenge", f"{base}/training2017.zip", "REFERENCE-v3.csv")
        return fetch_archive("cinc2017", archive, cache, **options)

    return call


def test_records_come_once_with_the_revised_labels(fetch_records, server, tmp_path, archive):
    seen = []

    def fetch():
        return fetch_records(on_progress=lambda *progress: seen.append(progress))

    server.cuts = [len(archive) // 2]
    with ThreadPoolExecutor(3) as pool:
        [folder] = {each.result() for each in [pool.submit(fetch) for _ in range(3)]}
    assert folder == tmp_path / "cinc2017" / "training2017"
    assert len(list(folder.glob("*.hea"))) == len(list(folder.glob("*.mat"))) == 3
    assert (folder / "REFERENCE.csv").read_text() == REVISED
    assert (folder / "REFERENCE-zip.csv").read_text() != REVISED
    assert left_over(tmp_path) == ["cinc2017"]
    first, second = server.requests_for("training2017.zip")
    assert (first, second.startswith("bytes=")) == (None, True)
    assert ARCHIVES["cinc2017"].url.startswith("https://physionet.org/files/challenge-2017/1.0.0/")
    assert seen[-1] == (len(archive), len(archive))


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
    ("name", "fault", "message"),
    [
        ("SHA256SUMS.txt", 404, "SHA256SUMS.txt: 404 Client Error: Not Found"),
        ("REFERENCE-v3.csv", 404, "REFERENCE-v3.csv: 404 Client Error"),
        ("training2017.zip", 503, "training2017.zip: 503 Server Error"),
        ("training2017.zip", b"damaged on the way", "checksum is wrong"),
        ("SHA256SUMS.txt", b"-", r"no checksum for training2017\.zip, REFERENCE-v3\.csv"),
        ("training2017.zip", flipped, "can't be unpacked and was deleted"),
        ("training2017.zip", lambda archive: archive[:900], "can't be unpacked and was deleted"),
        ("training2017.zip", without_records, r"can't be .*holds no \.hea file"),
    ],
)
def test_faults_of_the_server(fetch_records, server, tmp_path, archive, name, fault, message):
    if isinstance(fault, int):
        server.status[name] = fault
    elif isinstance(fault, bytes):
        server.files[name] = fault
    else:
        server.publish(name, fault(archive))
    with pytest.raises(DownloadError, match=rf"{message}.*{BY_HAND}"):
        fetch_records()
    assert not (tmp_path / "cinc2017").exists()
    if callable(fault):
        assert left_over(tmp_path / "downloads") == ["REFERENCE-v3.csv"]
        server.publish(name, archive)
        assert (fetch_records() / "D00001.hea").exists()


def test_places_that_can_not_be_used(fetch_records, tmp_path):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "cinc2017").mkdir()
    for options, message in (
        ({"cache": tmp_path / "new", "base": "http://127.0.0.1:9"}, "Connection refused"),
        ({}, r"cinc2017 holds no \.hea file; delete it"),
    ):
        with pytest.raises(DownloadError, match=rf"{message}.*{BY_HAND}"):
            fetch_records(**options)
    with pytest.raises(StorageError, match=f"can't write in {tmp_path / 'file'}"):
        fetch_records(cache=tmp_path / "file")
    with pytest.raises(DownloadError, match="Connection refused"):
        fetch_file("http://127.0.0.1:9/data.zip", tmp_path / "data.zip", SHA256, attempts=2)


# --- Data sets, file by file ----------------------------------------------------------------------

TREE = {
    "ptbxl_database.csv": b"ecg_id",
    "records100/00000/00001_lr.hea": b"header",
    "records100/00000/00001_lr.dat": CONTENT,
    "records100/00000/00002 lr.hea": b"a blank in its name",
    "records500/00000/00001_hr.hea": b"of the other frequency",
}


@pytest.fixture
def fetch_tree(server, tmp_path):
    server.files.clear()
    for name, content in TREE.items():
        server.publish(name, content)
    served = replace(data_sets()["ptbxl"], files=f"{server.base}/")

    def call(*choices, data_set=served, **options):
        return fetch_data_set(Named(data_set, choices, None), tmp_path, **options)

    return call


def test_a_data_set_comes_with_the_files_that_it_needs(fetch_tree, server, tmp_path):
    server.cuts = [len(CONTENT) // 2]
    seen = []
    folder = fetch_tree("super", on_progress=lambda *progress: seen.append(progress))
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    assert {name: path.read_bytes() for name, path in found.items()} == {
        name: content for name, content in TREE.items() if "records500" not in name
    }
    assert seen == [(i + 1, len(found)) for i in range(len(found))]
    first, second = server.requests_for("records100/00000/00001_lr.dat")
    assert (first, second) == (None, f"bytes={len(CONTENT) // 2}-")
    server.asked.clear()
    assert fetch_tree("sub") == folder
    assert not server.asked, "it is there"
    assert (fetch_tree("500") / "records500/00000/00001_hr.hea").exists()
    assert left_over(tmp_path / "data_sets") == ["ptbxl-100", "ptbxl-500"]


def test_what_was_fetched_of_a_data_set_is_not_fetched_again(fetch_tree, server, tmp_path):
    server.status["ptbxl_database.csv"] = 404
    with pytest.raises(DownloadError, match=r"database.csv: 404 .* By hand: .*ptb-xl.*data=ptbxl@"):
        fetch_tree()
    assert not (tmp_path / "data_sets" / "ptbxl-100").exists()
    kept = left_over(tmp_path / "downloads" / "ptbxl-100" / "records100" / "00000")
    server.status.clear()
    server.asked.clear()
    fetch_tree()
    asked = {name.rpartition("/")[2] for name, _ in server.asked}
    assert "ptbxl_database.csv" in asked
    assert not asked & set(kept)


def test_data_sets_that_are_not_downloaded(fetch_tree, server):
    for name, why in (("mimic-iv-ecg", "credentialed access"), ("code15", "no server that publis")):
        with pytest.raises(DownloadError, match=rf"{why}.* By hand: .*data={name}@<the folder"):
            fetch_tree(data_set=data_sets()[name])
    with pytest.raises(DownloadError, match="lists no file in elsewhere/"):
        fetch_tree(
            data_set=replace(data_sets()["georgia"], files=f"{server.base}/", folder="elsewhere/")
        )
    server.files["SHA256SUMS.txt"] = f"{SHA256} ../evil.hea\n".encode()
    with pytest.raises(DownloadError, match=r"'\.\./evil\.hea' is no path below"):
        fetch_tree()
