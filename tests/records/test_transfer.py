import errno
import hashlib
import os
import shutil
from collections import namedtuple

import pytest

from ecg_mlflow.errors import DownloadError, EcgMlflowError
from ecg_mlflow.records.transfer import fetch_file, fetch_text

pytestmark = pytest.mark.server

CONTENT = bytes(range(256)) * 8192  # 2 MiB, several pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(file_server):
    file_server.publish("data.bin", CONTENT)
    return file_server.url("data.bin")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "downloads" / "data.bin"


def left_over(target):
    return sorted(path.name for path in target.parent.iterdir())


def fetch(url, target, sha256=SHA256, **options):
    return fetch_file(url, target, sha256, **({"pause_s": 0.0} | options))


def test_a_whole_file_comes_with_progress(url, target):
    seen = []
    assert fetch(url, target, on_progress=lambda done, total: seen.append((done, total))) == target
    assert target.read_bytes() == CONTENT
    assert left_over(target) == ["data.bin"]
    done = [here for here, _ in seen]
    assert done == sorted(done)
    assert len(done) > 3
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_what_is_there_and_right_is_not_fetched_again(file_server, url, target):
    fetch(url, target)
    assert fetch(url, target).read_bytes() == CONTENT
    target.write_bytes(b"spoiled")
    assert fetch(url, target).read_bytes() == CONTENT
    assert file_server.requests_for("data.bin") == [None, None]


def test_the_checksum_may_be_in_capitals(url, target):
    assert fetch(url, target, sha256=SHA256.upper()).read_bytes() == CONTENT


def test_a_broken_connection_is_resumed_where_it_broke(file_server, url, target):
    file_server.cuts = [700_000, 300_000]
    assert fetch(url, target).read_bytes() == CONTENT
    ranges = file_server.requests_for("data.bin")
    assert ranges[0] is None
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in ranges[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] <= 700_000
    assert starts[0] < starts[1] <= 1_000_000


def test_the_next_call_goes_on_after_an_interruption(file_server, url, target):
    def interrupt(done, total):
        if done > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(url, target, on_progress=interrupt)
    assert not target.exists()
    kept = (target.parent / "data.bin.part").stat().st_size
    assert kept > 1_000_000
    assert fetch(url, target).read_bytes() == CONTENT
    assert file_server.requests_for("data.bin") == [None, f"bytes={kept}-"]


def test_a_connection_that_keeps_breaking_is_given_up_and_kept(file_server, url, target):
    file_server.cuts = [500_000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"broke off.* bytes are kept in .*data\.bin\.part"):
        fetch(url, target, attempts=3)
    assert (target.parent / "data.bin.part").stat().st_size > 0
    assert fetch(url, target).read_bytes() == CONTENT


def test_progress_between_breaks_resets_the_patience(file_server, url, target):
    file_server.cuts = [300_000] * 6
    assert fetch(url, target, attempts=1).read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_anew(file_server, url, target):
    file_server.cuts = [500_000, 0]
    with pytest.raises(DownloadError):
        fetch(url, target, attempts=1)
    newer = CONTENT[::-1]
    sha256 = file_server.publish("data.bin", newer)
    assert fetch(url, target, sha256).read_bytes() == newer


def test_a_server_without_ranges_starts_over(file_server, url, target):
    file_server.ranges = False
    file_server.cuts = [500_000]
    assert fetch(url, target).read_bytes() == CONTENT


def test_a_server_that_does_not_tell_the_length(file_server, url, target):
    file_server.tell_length = False
    seen = []
    fetch(url, target, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), 0)


def test_all_bytes_were_here_but_the_file_was_not_renamed(file_server, url, target):
    fetch(url, target)
    whole = target.rename(target.with_name("data.bin.part"))
    version = f'{{"version": "\\"{SHA256[:16]}\\""}}'
    whole.with_name("data.bin.part.json").write_text(version)
    assert fetch(url, target).read_bytes() == CONTENT
    assert file_server.requests_for("data.bin")[-1] == f"bytes={len(CONTENT)}-"


def test_more_bytes_than_the_server_has_are_thrown_away(file_server, url, target):
    target.parent.mkdir()
    target.with_name("data.bin.part").write_bytes(CONTENT + b"too much")
    version = f'{{"version": "\\"{SHA256[:16]}\\""}}'
    target.with_name("data.bin.part.json").write_text(version)
    assert fetch(url, target).read_bytes() == CONTENT


def test_a_part_of_unknown_version_is_not_continued(file_server, url, target):
    target.parent.mkdir()
    target.with_name("data.bin.part").write_bytes(b"something else")
    assert fetch(url, target).read_bytes() == CONTENT
    assert file_server.requests_for("data.bin") == [None]


def test_a_wrong_checksum_deletes_what_came(url, target):
    with pytest.raises(
        DownloadError, match=f"sha256 {SHA256} was received, {'0' * 64} was expected"
    ):
        fetch(url, target, sha256="0" * 64)
    assert left_over(target) == []


def test_a_missing_file_says_so(file_server, target):
    with pytest.raises(DownloadError, match="the server answers 404 Not Found"):
        fetch(file_server.url("nothing.bin"), target)
    with pytest.raises(DownloadError, match="the server answers 404 Not Found"):
        fetch_text(file_server.url("nothing.txt"))


def test_an_overloaded_server_says_so(file_server, url, target):
    file_server.status["data.bin"] = 503
    with pytest.raises(DownloadError, match="the server answers 503"):
        fetch(url, target)


def test_an_unreachable_server(target, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DownloadError, match="can't be reached") as caught:
        fetch("http://127.0.0.1:9/data.bin", target, attempts=2)
    assert isinstance(caught.value, EcgMlflowError)
    assert isinstance(caught.value, OSError)
    with pytest.raises(DownloadError, match="can't be reached"):
        fetch_text("http://127.0.0.1:9/list.txt")


def test_no_space_is_noticed_before_the_download(url, target, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1000))
    with pytest.raises(DownloadError, match=r"no space: \d+ bytes are needed .* 1000 are free"):
        fetch(url, target)


def test_a_disk_that_fills_up_is_reported_and_the_part_kept(url, target, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DownloadError, match="No space left"):
            fetch(url, target)
    assert left_over(target) == ["data.bin.part", "data.bin.part.json"]
    assert fetch(url, target).read_bytes() == CONTENT


def test_text_comes_as_text(file_server):
    file_server.publish("list.txt", "Sörnmo\n".encode())
    assert "rnmo" in fetch_text(file_server.url("list.txt"))
