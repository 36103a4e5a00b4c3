"""A small file server with ranges that can be told to misbehave."""

from __future__ import annotations

import hashlib
import re
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
        After how many bytes the next answers for a file break off, one entry per answer.
    ranges
        Whether `Range` is honoured.
    tell_length
        Whether the answer has a Content-Length.
    asked
        (name, Range header or None) of each request that came.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.ranges = True
        self.tell_length = True
        self.status: dict[str, int] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.base = ""

    def url(self, name: str) -> str:
        return f"{self.base}/files/{name}"

    def publish(self, name: str, content: bytes) -> str:
        """Serve a file and list its checksum, as PhysioNet does; returns the checksum."""
        self.files[name] = content
        others = {n: c for n, c in self.files.items() if n != "SHA256SUMS.txt"}
        lines = [f"{hashlib.sha256(c).hexdigest()} {n}\n" for n, c in others.items()]
        self.files["SHA256SUMS.txt"] = "".join(lines).encode()
        return hashlib.sha256(content).hexdigest()

    def requests_for(self, name: str) -> list[str | None]:
        return [asked for asked_name, asked in self.asked if asked_name == name]


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            asked = self.headers.get("Range")
            server.asked.append((name, asked))
            content = server.files.get(name)
            if content is None or name in server.status:
                self.send_error(server.status.get(name, 404))
                return
            version = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            start, status = 0, 200
            same = self.headers.get("If-Range", version) == version
            if asked and server.ranges and same:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                status = 206
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.end_headers()
                    return
            body = content[start:]
            self.send_response(status)
            self.send_header("ETag", version)
            if server.tell_length:
                self.send_header("Content-Length", str(len(body)))
            if status == 206:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.end_headers()
            cut = len(body)
            if not name.endswith((".txt", ".csv")) and server.cuts:
                cut = server.cuts.pop(0)
            with suppress(ConnectionError):  # the client may hang up first
                self.wfile.write(body[:cut])

        def log_message(self, *_: object) -> None:
            """Keep the tests' output free of the server's log."""

    return Handler


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A running server on a free port of this machine, reached without a proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = FileServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.base = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
