"""Download a published archive of records, or the files of a data set, once."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import requests

from ecg_mlflow.errors import DownloadError, StorageError
from ecg_mlflow.files import locked, move_folder, scratch_folder, storage_errors
from ecg_mlflow.records.catalogue import Archive
from ecg_mlflow.records.labels import DEFAULT_NAME
from ecg_mlflow.records.named_sets import OPEN, Named
from ecg_mlflow.records.record import Progress

CHECKSUMS = "SHA256SUMS.txt"  # PhysioNet's name for the list beside the files
_LABELS_OF_ZIP = "REFERENCE-zip.csv"
_CHUNK_BYTES = 1 << 14  # a connection that breaks loses the chunk in transit
_TIMEOUT_S = (10.0, 60.0)  # to connect, and between two pieces of the response
_PAUSE_S = 2.0
_CONNECTIONS = 8


def fetch_archive(
    name: str, archive: Archive, cache_root: Path, on_progress: Progress | None = None
) -> Path:
    """Return the folder of an archive's records; download it if it is missing.

    Steps: (1) an existing folder is used as it is, since only complete folders get this name;
    (2) checksums are read from the server's `SHA256SUMS.txt`; (3) the labels and the archive are
    downloaded, from where an earlier call stopped, and checked; (4) the archive is unpacked into a
    scratch folder, the labels become `REFERENCE.csv` (the archive's own `REFERENCE-zip.csv`), and
    the folder is renamed to its final name. A lock lets one process at a time do this.

    Parameters
    ----------
    name
        Name of the folder in the cache.
    archive
        Where the files are.
    cache_root
        The cache.
    on_progress
        Called with the bytes of the archive received so far and in total (0 if the server does
        not tell the total).

    Returns
    -------
    The folder that holds the `.hea` files.

    Raises
    ------
    DownloadError
        If the download fails; the message says why and how to download by hand.
    """
    target = cache_root / name
    labels_url = urljoin(archive.url, archive.labels)
    by_hand = (
        f"By hand: download {archive.url} in a browser, unpack it, save {labels_url} as "
        f"{DEFAULT_NAME} in the same folder, and pass -P data=<the folder of the .hea files>"
    )
    try:
        with locked(target):
            if not target.exists():
                _fetch(archive, cache_root / "downloads", target, on_progress)
        folder = _records_folder(target)
        if folder is None:
            raise DownloadError(f"{target} holds no .hea file; delete it and run again")
    except StorageError:
        raise
    except OSError as error:
        known = isinstance(error, DownloadError)
        reason = str(error) if known else f"can't write to {cache_root}: {error}"
        raise DownloadError(f"{reason}. {by_hand}") from error
    return folder


def fetch_data_set(asked: Named, cache_root: Path, on_progress: Progress | None = None) -> Path:
    """Return the folder of a data set's published files; download those that it needs.

    Steps: (1) an existing folder is used as it is, since only complete folders get this name;
    (2) checksums are read from the server's `SHA256SUMS.txt`; (3) the files are downloaded, several
    at a time, and checked; those that an earlier call downloaded are kept; (4) the folder is
    renamed to its final name. A lock lets one process at a time do this.

    Parameters
    ----------
    asked
        The data set, and which of its files.
    cache_root
        The cache.
    on_progress
        Called with the numbers of files that are complete and in total.

    Raises
    ------
    DownloadError
        If the data set is not open, is not downloaded by this package, or the download fails.
    """
    data_set = asked.data_set
    by_hand = (
        f"By hand: download it from {data_set.page} and pass -P data={asked}@<the folder that it "
        "was unpacked into>"
    )
    if not data_set.files:
        why = "is on no server that publishes checksums"
        if data_set.access != OPEN:
            why = f"needs a permission of its source ({data_set.access} access)"
        raise DownloadError(f"{data_set.name} can't be downloaded here: it {why}. {by_hand}")
    target = cache_root / "data_sets" / "-".join((data_set.name, *asked.folders[:1]))
    try:
        with locked(target):
            if not target.exists():
                _fetch_files(asked, cache_root / "downloads" / target.name, on_progress)
                target.parent.mkdir(parents=True, exist_ok=True)
                move_folder(cache_root / "downloads" / target.name, target)
    except StorageError:
        raise
    except OSError as error:
        known = isinstance(error, DownloadError)
        reason = str(error) if known else f"can't write to {cache_root}: {error}"
        raise DownloadError(f"{reason}. {by_hand}") from error
    return target


def _fetch_files(asked: Named, folder: Path, on_progress: Progress | None) -> None:
    """Download the files that a data set needs, each with its path below the published folder."""
    url = asked.data_set.files
    wanted = {name: one for name, one in _checksums(url).items() if asked.needs(name)}
    if strange := [name for name in wanted if ".." in name.split("/") or name.startswith("/")]:
        raise DownloadError(
            f"{urljoin(url, CHECKSUMS)}: {strange[0]!r} is no path below its folder"
        )
    if not wanted:
        raise DownloadError(f"{urljoin(url, CHECKSUMS)} lists no file in {asked.data_set.folder}")
    with requests.Session() as session, ThreadPoolExecutor(_CONNECTIONS) as pool:
        jobs = [
            pool.submit(
                fetch_file, urljoin(url, quote(name)), folder / name, sha256, session=session
            )
            for name, sha256 in wanted.items()
        ]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                if on_progress is not None:
                    on_progress(done, len(jobs))
        finally:
            pool.shutdown(cancel_futures=True)


def _checksums(url: str) -> dict[str, str]:
    """Read the SHA-256 of the files beside or below an address, by their paths from there.

    They detect damage in transit; only the server's certificate protects from forgery.
    """
    list_url = urljoin(url, CHECKSUMS)
    try:
        answer = requests.get(list_url, timeout=_TIMEOUT_S)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise DownloadError(f"{list_url}: {error}") from error
    found = re.findall(r"(?m)^([0-9a-fA-F]{64})\s+\*?(?:\./)?(\S.*?)\s*$", answer.text)
    return {name: checksum for checksum, name in found}


def _fetch(archive: Archive, downloads: Path, target: Path, on_progress: Progress | None) -> None:
    known = _checksums(archive.url)
    zip_name = Path(urlsplit(archive.url).path).name
    if missing := [name for name in (zip_name, archive.labels) if name not in known]:
        list_url = urljoin(archive.url, CHECKSUMS)
        raise DownloadError(f"{list_url}: no checksum for {', '.join(missing)}")
    labels, records = downloads / archive.labels, downloads / zip_name
    fetch_file(urljoin(archive.url, archive.labels), labels, known[archive.labels])
    fetch_file(archive.url, records, known[zip_name], on_progress)
    _unpack(records, labels, target)
    shutil.rmtree(downloads)


def _unpack(archive: Path, labels: Path, target: Path) -> None:
    """Unpack beside the target and rename, so that the target is always complete."""
    try:
        with (
            scratch_folder(target.parent, target.name) as aside,
            zipfile.ZipFile(archive) as file,
        ):
            file.extractall(aside)
            folder = _records_folder(aside)
            if folder is None:
                raise zipfile.BadZipFile("it holds no .hea file")
            if (folder / DEFAULT_NAME).exists():
                (folder / DEFAULT_NAME).rename(folder / _LABELS_OF_ZIP)
            shutil.copyfile(labels, folder / DEFAULT_NAME)
            move_folder(aside, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        archive.unlink()
        raise DownloadError(f"{archive.name} can't be unpacked and was deleted: {error}") from error


def _records_folder(folder: Path) -> Path | None:
    """Return the folder itself or the first subfolder that holds headers; None without any."""
    headers = sorted(folder.glob("*.hea")) or sorted(folder.glob("*/*.hea"))
    return headers[0].parent if headers else None


def fetch_file(
    url: str,
    target: Path,
    sha256: str,
    on_progress: Progress | None = None,
    attempts: int = 5,
    session: requests.Session | None = None,
) -> Path:
    """Download a file with a known SHA-256; continue an earlier incomplete download.

    The bytes go to ``<name>.<start of the checksum>.part`` beside the target, so that only a
    download of the same content is continued. An existing right target is used as it is.

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
    session
        Connections to the server to use again.

    Raises
    ------
    DownloadError
        If the server can't be reached or answers with an error, the connection keeps breaking,
        or the checksum is wrong.
    StorageError
        If the disk is full.
    """
    expected = sha256.lower()
    if target.exists() and _sha256(target) == expected:
        return target
    part = target.with_name(f"{target.name}.{expected[:8]}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _size(part)
        try:
            with storage_errors(target.parent):
                _continue(url, part, on_progress, session)
            break
        except requests.RequestException as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures >= attempts or isinstance(error, requests.HTTPError):
                raise DownloadError(
                    f"{url}: {error}; {_size(part)} bytes are kept in {part}, where the "
                    "next call continues"
                ) from error
            time.sleep(_PAUSE_S)
    found = _sha256(part)
    if found != expected:
        part.unlink()
        raise DownloadError(
            f"{url}: the checksum is wrong: sha256 {found} was received, {expected} was expected. "
            "The connection damaged the file, or the server has another version of it; the "
            "download was deleted"
        )
    part.replace(target)
    return target


def _continue(
    url: str, part: Path, on_progress: Progress | None, session: requests.Session | None
) -> None:
    """Append the missing bytes to `part`, or start again if the server can't continue."""
    here = _size(part)
    headers = {"Accept-Encoding": "identity"}  # a range counts the bytes of the file as it is
    if here:
        headers["Range"] = f"bytes={here}-"
    get = requests.get if session is None else session.get
    with get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # all bytes are here, or more: the checksum tells
        answer.raise_for_status()
        continued = answer.status_code == requests.codes.partial_content
        if not continued:
            here = 0
        length = answer.headers.get("Content-Length")
        total = here + int(length) if length is not None else 0
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


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
