"""Bring data sets that have a name to this machine: the demo corpora, and published archives."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.files import cache_root, locked
from ecg_mlflow.records.record import Progress

#: Default number of records of each synthetic corpus.
DEMO_RECORDS = {"demo": 400, "demo12": 200}
DEMO_SEED = 0
_WHAT = {"demo": "made-up records", "demo12": "made-up records of 12 leads"}
#: Given as the place of labels: use the headers' diagnoses even if there is a label file.
HEADERS = "headers"


@dataclass(frozen=True)
class Archive:
    """A published data set: a zip of records, with a label file and a list of checksums beside it.

    Attributes
    ----------
    title
        What people call it.
    url
        Address of the zip.
    labels
        Name of the label file beside the zip, which goes before the zip's own.
    """

    title: str
    url: str
    labels: str


#: The CinC Challenge of 2017: 8,528 single-lead recordings of 9 to 61 s at 300 Hz; open access.
#: Cite Clifford et al., "AF classification from a short single lead ECG recording", CinC 2017,
#: doi:10.22489/CinC.2017.065-469, and Goldberger et al., Circulation 101(23), 2000. The labels were
#: revised after the zip was made; the third version is published beside it.
ARCHIVES = {
    "cinc2017": Archive(
        title="PhysioNet/CinC Challenge 2017",
        url="https://physionet.org/files/challenge-2017/1.0.0/training2017.zip",
        labels="REFERENCE-v3.csv",
    ),
}


def locate(data: str, on_progress: Progress | None = None) -> tuple[str | Path, str]:
    """Bring the data to this machine; return its place, and its name for people.

    Raises
    ------
    DataNotFoundError
        If the name of synthetic records can't be read.
    DownloadError
        If an archive can't be fetched.
    """
    if data in ARCHIVES:
        # Imported here, because data from files needs no HTTP client.
        from ecg_mlflow.records import download

        folder = download.fetch_archive(data, ARCHIVES[data], cache_root(), on_progress)
        return folder, f"{data}: {ARCHIVES[data].title}"
    return _make_demo(data) if is_demo(data) else (data, str(absolute(data)))


def _make_demo(data: str) -> tuple[Path, str]:
    """Write synthetic records into the cache, once."""
    from ecg_mlflow.records import synthetic

    asked = re.fullmatch(r"(\w+)(?::(\d+)(?::(\d+))?)?", data)
    if asked is None:
        raise DataNotFoundError(
            f"data={data!r}: the demo corpora are written demo, demo:<records> or "
            "demo:<records>:<seed>, such as demo:100:7; likewise demo12."
        )
    name = asked[1]
    n_records, seed = int(asked[2] or DEMO_RECORDS[name]), int(asked[3] or DEMO_SEED)
    # Another version of the generator makes other records.
    code = b"".join(file.read_bytes() for file in sorted(Path(synthetic.__path__[0]).glob("*.py")))
    digest = hashlib.sha256(code).hexdigest()[:12]
    folder = cache_root() / name / f"{n_records}-{seed}-{digest}"
    with locked(folder):
        if not folder.exists():
            synthetic.write_demo(folder, n_records, seed, kind=name)
    return folder, f"{name}: {n_records} {_WHAT[name]}, seed {seed}"


def is_demo(data: str) -> bool:
    """Return whether the recordings are synthetic: ``demo``, ``demo12``, or these with a number."""
    return data.partition(":")[0] in DEMO_RECORDS


def asked_for(source: str) -> str:
    """Return the ``data=`` that loads the recordings of a corpus again.

    Parameters
    ----------
    source
        `ecg_mlflow.records.Corpus.source`: a path, or words that begin with the name of the data.
    """
    if made := re.match(r"(demo|demo12): (\d+) made-up records.*, seed (\d+)", source):
        return ":".join(made.groups())
    name = source.partition(": ")[0]
    return name if name in ARCHIVES else source


def absolute(path: str | Path) -> Path:
    """Return an absolute path; ``~`` is the home folder."""
    return Path(path).expanduser().absolute()


def located(text: str, folders: Sequence[Path]) -> str:
    """Prefix a relative path or glob with the first folder where it exists; keep other words."""
    if text in (*ARCHIVES, HEADERS) or is_demo(text) or Path(text).is_absolute():
        return text
    for folder in folders:
        if any(folder.glob(text)) if set(text) & set("*?[") else (folder / text).exists():
            return str(folder / text)
    return text
