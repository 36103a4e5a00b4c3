"""Download a file over HTTP, with progress, resuming and a checksum.

The bytes go to `<name>.part` beside the target. A small `<name>.part.json` holds the server's
version of the file (ETag or Last-Modified), which is sent back as `If-Range`: a file that changed
meanwhile is downloaded again from its beginning.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import requests

from ecg_mlflow.errors import DownloadError
from ecg_mlflow.records.record import Progress

_CHUNK_BYTES = 1 << 14  # a connection that breaks loses the chunk in transit
_TIMEOUT_S = (10.0, 60.0)  # to connect, and between two pieces of the response
_SPARE_BYTES = 16 << 20


def fetch_text(url: str) -> str:
    """Return a small text file.

    Raises
    ------
    DownloadError
        If the server can't be reached or answers with an error.
    """
    try:
        answer = requests.get(url, timeout=_TIMEOUT_S)
    except requests.RequestException as error:
        raise DownloadError(f"{url}: {_cause(error)}") from error
    if answer.status_code != requests.codes.ok:
        raise DownloadError(f"{url}: the server answers {answer.status_code} {answer.reason}")
    return answer.text


def fetch_file(
    url: str,
    target: Path,
    sha256: str,
    on_progress: Progress | None = None,
    attempts: int = 5,
    pause_s: float = 2.0,
) -> Path:
    """Download a file with a known SHA-256; continue an earlier incomplete download.

    An existing target with the right checksum is used as it is.

    Parameters
    ----------
    url
        Address of the file.
    target
        Path of the file; it appears only when it is complete and right.
    sha256
        Hexadecimal.
    on_progress
        Called with the bytes received so far and in total (0 if the server doesn't tell).
    attempts
        Number of successive connections without new bytes after which this gives up.
    pause_s
        Pause before the next attempt.

    Raises
    ------
    DownloadError
        If the server can't be reached or answers with an error, the connection keeps breaking,
        the disk is full or the checksum is wrong.
    """
    if target.exists() and _sha256(target) == sha256.lower():
        return target
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _size(part)
        try:
            _continue(url, part, on_progress)
            break
        except requests.RequestException as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures >= attempts:
                raise DownloadError(
                    f"{url}: {_cause(error)}; {_size(part)} bytes are kept in {part}, where the "
                    "next call continues"
                ) from error
            time.sleep(pause_s)
        except OSError as error:
            raise DownloadError(f"{url}: can't write {part}: {error.strerror or error}") from error
    found = _sha256(part)
    if found != sha256.lower():
        _forget(part)
        raise DownloadError(
            f"{url}: the checksum is wrong: sha256 {found} was received, {sha256.lower()} was "
            "expected. The connection damaged the file, or the server has another version of it; "
            "the download was deleted"
        )
    part.replace(target)
    _forget(part)
    return target


def _continue(url: str, part: Path, on_progress: Progress | None) -> None:
    """Append the missing bytes to `part`, or start again if the server can't continue."""
    here, version = _size(part), _version(part)
    headers = {"Accept-Encoding": "identity"}  # a range counts the bytes of the file as it is
    if here and version:
        headers |= {"Range": f"bytes={here}-", "If-Range": version}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            if answer.headers.get("Content-Range") == f"bytes */{here}":
                return  # the last call stopped between the last byte and the renaming
            _forget(part)
            raise requests.ConnectionError("the server has fewer bytes than were received already")
        if answer.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise DownloadError(f"{url}: the server answers {answer.status_code} {answer.reason}")
        continued = answer.status_code == requests.codes.partial_content
        if not continued:
            here = 0
        length = answer.headers.get("Content-Length")
        total = here + int(length) if length is not None else 0
        _check_space(part, max(0, total - here))
        mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        # A weak ETag doesn't identify the bytes of a file.
        _note(part).write_text(json.dumps({"version": "" if mark.startswith("W/") else mark}))
        with part.open("ab" if continued else "wb") as file:
            for chunk in answer.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                here += len(chunk)
                if on_progress is not None:
                    on_progress(here, total)
            file.flush()
            os.fsync(file.fileno())
    if total and here != total:
        raise requests.ConnectionError(f"{here} of {total} bytes were received")


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed + _SPARE_BYTES:
        raise DownloadError(
            f"no space: {needed + _SPARE_BYTES} bytes are needed on the disk of {part.parent}, "
            f"{free} are free"
        )


def _cause(error: requests.RequestException) -> str:
    """Return the cause of an error in plain words; requests' own messages nest several layers."""
    if isinstance(error, requests.Timeout):
        return "the server does not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return f"no secure connection: {error}"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy does not let the connection through: {error}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"the connection broke off: {error}"
    if isinstance(error, requests.ConnectionError):
        return f"the server can't be reached or the connection broke off: {error}"
    return str(error)


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _version(part: Path) -> str:
    """Return the server's version of the file that `part` holds the beginning of, or ''."""
    try:
        return str(json.loads(_note(part).read_text())["version"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
