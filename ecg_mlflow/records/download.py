"""Download the training set of the PhysioNet/Computing in Cardiology Challenge 2017, once.

8,528 single-lead recordings of 9 to 61 s at 300 Hz; open access. Cite Clifford et al., "AF
classification from a short single lead ECG recording", CinC 2017,
doi:10.22489/CinC.2017.065-469, and Goldberger et al., Circulation 101(23), 2000.

The Challenge revised the labels after the archive was made; their third version,
`REFERENCE-v3.csv`, is published beside the archive and is used here.
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
from ecg_mlflow.records.record import Progress
from ecg_mlflow.records.transfer import fetch_file, fetch_text

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
    """Return the folder of the Challenge's training records; download it if it is missing.

    Steps: (1) an existing folder is used as it is, since only complete folders get this name;
    (2) checksums are read from the server's `SHA256SUMS.txt`; (3) the revised labels and the
    archive are downloaded, from where an earlier call stopped, and checked; (4) the archive is
    unpacked into a scratch folder, the revised labels become `REFERENCE.csv` (the archive's own
    `REFERENCE-zip.csv`), and the folder is renamed to its final name. A lock lets one process at a
    time do this.

    Parameters
    ----------
    cache_root
        The records are put into its folder `cinc2017`.
    on_progress
        Called with the bytes of the archive received so far and in total (0 if the server does
        not tell the total).
    url
        Address of the zip, for a mirror; the other files are expected beside it.
    checksums
        SHA-256 in hexadecimal by file name, instead of the server's list.

    Returns
    -------
    The folder that holds the `.hea` files.

    Raises
    ------
    DownloadError
        If the download fails; the message says why and how to download by hand.
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
    """Return the SHA-256 by file name from the server's list.

    The checksums detect damage in transit; only the server's certificate protects against forgery.
    """
    lines = fetch_text(list_url).splitlines()
    found = (re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(?:\./)?(\S+)\s*", line) for line in lines)
    return {entry[2]: entry[1] for entry in found if entry}


def _unpack(archive: Path, labels: Path, target: Path) -> None:
    """Unpack beside the target and rename, so that the target is always complete."""
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
    """Return the folder itself or the first subfolder that holds headers; None without any."""
    headers = sorted(folder.glob("*.hea")) or sorted(folder.glob("*/*.hea"))
    return headers[0].parent if headers else None


def _name(url: str) -> str:
    return Path(urlsplit(url).path).name


def _by_hand(url: str) -> str:
    return (
        f"By hand: download {url} in a browser, unpack it, save {urljoin(url, REVISED_LABELS)} as "
        f"{_LABELS} in the same folder, and pass -P data=<the folder that holds the .hea files>"
    )
