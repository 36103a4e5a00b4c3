"""The training set of the PhysioNet/Computing in Cardiology Challenge 2017, fetched once.

8,528 single-lead recordings of 9 to 61 s at 300 Hz; open access. Cite Clifford et al., "AF
classification from a short single lead ECG recording", CinC 2017,
doi:10.22489/CinC.2017.065-469, and Goldberger et al., Circulation 101(23), 2000.

The labels in the archive are not the last ones: the Challenge revised them, and its third
version, `REFERENCE-v3.csv`, lies beside the archive.
"""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from ecg_mlflow.errors import DownloadError, StorageFullError
from ecg_mlflow.files import locked, move_folder, scratch_folder
from ecg_mlflow.records.transfer import Progress, fetch_file, fetch_text

TRAINING_ZIP_URL = "https://physionet.org/files/challenge-2017/1.0.0/training2017.zip"
REVISED_LABELS = "REFERENCE-v3.csv"
CHECKSUMS = "SHA256SUMS.txt"  # PhysioNet's name for the list beside the files

_LABELS = "REFERENCE.csv"
_LABELS_OF_ZIP = "REFERENCE-zip.csv"


def fetch_cinc2017(
    cache_root: str | Path,
    on_progress: Progress | None = None,
    *,
    url: str = TRAINING_ZIP_URL,
    checksums: Mapping[str, str] | None = None,
) -> Path:
    """The folder with the Challenge's training records, downloaded if it is not there yet.

    Steps: (1) a folder that is there is taken as it is, since only whole ones are ever put there;
    (2) checksums are looked up in the server's `SHA256SUMS.txt`; (3) the revised labels and the
    archive are fetched, resumed where an earlier call broke off, and checked; (4) the archive is
    unpacked aside, gets the revised labels as `REFERENCE.csv` (its own become
    `REFERENCE-zip.csv`), and is renamed into place. A lock keeps two processes from doing this
    at once.

    Parameters
    ----------
    cache_root
        The records come to lie in its folder `cinc2017`.
    on_progress
        Called with the archive's bytes that are here and the bytes in all (0 if the server
        doesn't say).
    url
        Address of the zip, for a mirror; the other files are looked for beside it.
    checksums
        SHA-256 in hexadecimal by file name, in place of the list that the server publishes.

    Returns
    -------
    The folder that holds the `.hea` files.

    Raises
    ------
    DownloadError
        Whatever goes wrong; the message says why and what to do by hand.
    """
    root = Path(cache_root)
    target = root / "cinc2017"
    try:
        if not target.exists():
            with locked(target):
                if not target.exists():
                    _fetch(root / "downloads", target, on_progress, url, checksums)
        folder = _records_folder(target)
        if folder is None:
            raise DownloadError(f"{target} holds no .hea file; delete it and run again")
        return folder
    except DownloadError as error:
        raise DownloadError(f"{error}. {_by_hand(url)}") from error
    except StorageFullError:
        raise
    except OSError as error:
        raise DownloadError(f"can't write to {root}: {error}. {_by_hand(url)}") from error


def _fetch(
    downloads: Path,
    target: Path,
    on_progress: Progress | None,
    url: str,
    checksums: Mapping[str, str] | None,
) -> None:
    labels_url, list_url = urljoin(url, REVISED_LABELS), urljoin(url, CHECKSUMS)
    archive, labels = downloads / _name(url), downloads / REVISED_LABELS
    known = _published(list_url) if checksums is None else checksums
    missing = [name for name in (archive.name, labels.name) if name not in known]
    if missing:
        where = list_url if checksums is None else "the checksums given"
        raise DownloadError(f"{where}: no checksum for {', '.join(missing)}")
    fetch_file(labels_url, labels, known[labels.name])
    fetch_file(url, archive, known[archive.name], on_progress)
    _unpack(archive, labels, target)
    shutil.rmtree(downloads)


def _published(list_url: str) -> dict[str, str]:
    """SHA-256 by file name from the server's list.

    That guards against damage on the way; against forgery only the server's certificate does.
    """
    lines = fetch_text(list_url).splitlines()
    found = (re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(?:\./)?(\S+)\s*", line) for line in lines)
    return {entry[2]: entry[1] for entry in found if entry}


def _unpack(archive: Path, labels: Path, target: Path) -> None:
    """Unpack beside the target and rename, so that half a folder is never taken for a whole."""
    try:
        with (
            scratch_folder(target.parent, target.name) as aside,
            zipfile.ZipFile(archive) as file,
        ):
            needed = sum(entry.file_size for entry in file.infolist())
            free = shutil.disk_usage(aside).free
            if free < needed:
                raise DownloadError(
                    f"no space: {archive.name} unpacks to {needed} bytes, {free} are free on the "
                    f"disk of {target.parent}; the archive is kept in {archive}"
                )
            file.extractall(aside)
            folder = _records_folder(aside)
            if folder is None:
                raise zipfile.BadZipFile("it holds no .hea file")
            if (folder / _LABELS).exists():
                (folder / _LABELS).rename(folder / _LABELS_OF_ZIP)
            shutil.copyfile(labels, folder / _LABELS)
            move_folder(aside, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        archive.unlink()
        raise DownloadError(f"{archive.name} can't be unpacked and was deleted: {error}") from error


def _records_folder(folder: Path) -> Path | None:
    """The folder itself or the one below it that holds headers, if any."""
    headers = sorted(folder.glob("*.hea")) or sorted(folder.glob("*/*.hea"))
    return headers[0].parent if headers else None


def _name(url: str) -> str:
    return Path(urlsplit(url).path).name


def _by_hand(url: str) -> str:
    return (
        f"By hand: download {url} in a browser, unpack it, save {urljoin(url, REVISED_LABELS)} as "
        f"{_LABELS} in the same folder, and pass -P data=<the folder that holds the .hea files>"
    )
