"""A small file server with ranges that can be told to misbehave."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class FileServer:
    """Serves `files` by name; the other attributes say how.

    Attributes
    ----------
    cuts
        After how many bytes the next answers for a ``.zip`` file break off, one entry per answer.
    ranges, tell_length
        Whether `Range` is honoured, and whether answers have a Content-Length.
    status
        Errors by name of the file.
    asked
        (name, Range header or None) of each request that came.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.ranges = self.tell_length = True
        self.status: dict[str, int] = {}
        self.asked: list[tuple[str, str | None]] = []

    def publish(self, name: str, content: bytes) -> str:
        """Serve a file and list its checksum, as PhysioNet does; returns the checksum."""
        self.files[name] = content
        others = {n: c for n, c in self.files.items() if n != "SHA256SUMS.txt"}
        lines = [f"{hashlib.sha256(c).hexdigest()} {n}\n" for n, c in others.items()]
        self.files["SHA256SUMS.txt"] = "".join(lines).encode()
        return hashlib.sha256(content).hexdigest()

    def requests_for(self, name: str) -> list[str | None]:
        return [asked for asked_name, asked in self.asked if asked_name == name]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        files: FileServer = self.server.files  # type: ignore[attr-defined]
        name, asked = self.path.rsplit("/", 1)[-1], self.headers.get("Range")
        files.asked.append((name, asked))
        content = files.files.get(name)
        if content is None or name in files.status:
            self.send_error(files.status.get(name, 404))
            return
        partial = asked is not None and files.ranges
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if partial else 0
        body = content[start:]
        self.send_response((206 if body else 416) if partial else 200)
        if files.tell_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = files.cuts.pop(0) if name.endswith(".zip") and files.cuts else len(body)
        with suppress(ConnectionError):  # the client may hang up first
            self.wfile.write(body[:cut])

    def log_message(self, *_: object) -> None:
        """Keep the tests' output free of the server's log."""


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A running server on a free port of this machine, reached without a proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.files = FileServer(f"http://127.0.0.1:{http.server_port}/files")  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield http.files  # type: ignore[attr-defined]
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
