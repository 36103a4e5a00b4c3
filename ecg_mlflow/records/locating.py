"""Find the recordings that a user names: ``demo``, ``cinc2017``, or a path."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.files import cache_root, locked
from ecg_mlflow.records.edf_reader import is_edf
from ecg_mlflow.records.record import BadRecord, Progress

#: Default number of records of each synthetic corpus.
DEMO_RECORDS = {"demo": 400, "demo12": 200}
DEMO_SEED = 0
#: Given as the place of labels: use the headers' diagnoses even if there is a label file.
HEADERS = "headers"
_WHAT = {"demo": "made-up records", "demo12": "made-up records of 12 leads"}


def is_demo(data: str) -> bool:
    """Return whether the recordings are synthetic: ``demo``, ``demo12``, or these with a number."""
    return data.partition(":")[0] in DEMO_RECORDS


def demo_source(source: str) -> str | None:
    """Return the ``data=`` that makes a corpus's synthetic records again; else None."""
    match = re.match(r"(demo|demo12): (\d+) made-up records.*, seed (\d+)", source)
    return None if match is None else ":".join(match.groups())


def asked_for(source: str) -> str:
    """Return the ``data=`` that loads the recordings of a corpus again.

    Parameters
    ----------
    source
        `ecg_mlflow.records.Corpus.source`: a path, or words that begin with the name of the data.
    """
    return demo_source(source) or ("cinc2017" if source.startswith("cinc2017:") else source)


def locate(data: str, on_progress: Progress | None = None) -> tuple[str | Path, str]:
    """Bring the data to this machine; return its place, and its name for people.

    Raises
    ------
    DataNotFoundError
        If the name of synthetic records can't be read.
    DownloadError
        If the Challenge's data can't be fetched.
    """
    if data == "cinc2017":
        # Imported here, because data from files needs no HTTP client.
        from ecg_mlflow.records.download import fetch_cinc2017

        folder = fetch_cinc2017(cache_root(), on_progress=on_progress)
        return folder, "cinc2017: PhysioNet/CinC Challenge 2017"
    if not is_demo(data):
        return data, str(absolute(data))
    asked = re.fullmatch(r"(\w+)(?::(\d+)(?::(\d+))?)?", data)
    if asked is None:
        raise DataNotFoundError(
            f"data={data!r}: the demo corpora are written demo, demo:<records> or "
            "demo:<records>:<seed>, such as demo:100:7; likewise demo12."
        )
    name = asked[1]
    return _make(name, int(asked[2] or DEMO_RECORDS[name]), int(asked[3] or DEMO_SEED))


def absolute(path: str | Path) -> Path:
    """Return an absolute path; ``~`` is the home folder."""
    return Path(path).expanduser().absolute()


def _make(name: str, n_records: int, seed: int) -> tuple[Path, str]:
    from ecg_mlflow.records import synthetic

    folder = cache_root() / name / f"{n_records}-{seed}-{_code_digest(synthetic)}"
    with locked(folder):
        if not folder.exists():
            write = synthetic.write_demo if name == "demo" else synthetic.write_demo12
            write(folder, n_records, seed)
    return folder, f"{name}: {n_records} {_WHAT[name]}, seed {seed}"


def _code_digest(package: ModuleType) -> str:
    """Return the digest of the generator's code, since another generator makes other records."""
    code = sorted(Path(package.__path__[0]).glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in code)).hexdigest()[:12]


def located(text: str, folders: Sequence[Path]) -> str:
    """Prefix a relative path or glob with the first folder where it exists; keep other words."""
    if text in ("cinc2017", HEADERS) or is_demo(text) or Path(text).is_absolute():
        return text
    for folder in folders:
        if any(folder.glob(text)) if set(text) & set("*?[") else (folder / text).exists():
            return str(folder / text)
    return text


@dataclass(frozen=True)
class Found:
    """The headers that a search found.

    Attributes
    ----------
    headers
        Absolute paths of the ``.hea`` and ``.edf`` files, sorted by record name, then by path.
    root
        The folder that the user gave, or the part of the glob before its first wildcard.
    note
        A note for the user about the search, or None.
    """

    headers: tuple[Path, ...]
    root: Path
    note: str | None = None


def find_headers(data: str | Path) -> Found:
    """Find the records that a folder or a glob names.

    A folder means the headers and EDF files in it or, if it has none, those one level below. A glob
    (``**`` included) means those that it matches. An EDF file beside a header of the same name is
    the same recording in another format, and is ignored.

    Parameters
    ----------
    data
        A folder, or a glob such as ``data/*/A*.hea``; ``~`` is the home folder.

    Raises
    ------
    DataNotFoundError
        If the folder doesn't exist, or no header is found.
    """
    asked = os.path.abspath(os.path.expanduser(data))
    folder = Path(asked)
    if folder.is_dir():
        return _in_folder(folder)
    if not glob.has_magic(asked):
        what = "is a file" if folder.exists() else "doesn't exist"
        raise DataNotFoundError(
            f"{asked} {what}. Give a folder of WFDB records or EDF files, a glob such as "
            "'folder/*.hea', 'demo', 'demo12' or 'cinc2017'."
        )
    matches = [Path(match) for match in glob.glob(asked, recursive=True)]
    headers = [match for match in matches if _is_record(match)]
    if not headers:
        raise DataNotFoundError(
            f"the glob {asked} matches {len(matches)} files, none of them a header; "
            "write a pattern for .hea or .edf files, such as 'folder/A*.hea'."
        )
    return _found(headers, _fixed_part(asked))


def split_duplicates(headers: Iterable[Path]) -> tuple[tuple[Path, ...], tuple[BadRecord, ...]]:
    """Separate the headers with a unique record name from those that share one.

    A shared name in the label file is ambiguous, so all recordings of that name are bad.
    """
    by_id: dict[str, list[Path]] = defaultdict(list)
    for header in headers:
        by_id[header.stem].append(header)
    single = tuple(paths[0] for paths in by_id.values() if len(paths) == 1)
    duplicates = tuple(
        BadRecord(name, str(path), f"one id twice: also {', '.join(map(str, others))}")
        for name, paths in by_id.items()
        for path in paths
        if (others := [other for other in paths if other != path])
    )
    return single, duplicates


def _in_folder(folder: Path) -> Found:
    names = (entry.name for entry in os.scandir(folder))
    headers = [folder / name for name in names if name.lower().endswith((".hea", ".edf"))]
    headers = [header for header in headers if _is_record(header)]
    if headers:
        return _found(headers, folder)
    below = [*folder.glob("*/*.hea"), *folder.glob("*/*.[eE][dD][fF]")]
    if not below:
        raise DataNotFoundError(
            f"no WFDB header (*.hea) or EDF file (*.edf) in {folder}, nor one level below. Give "
            "the folder of the records, or a glob such as 'folder/**/*.hea'."
        )
    folders = sorted({header.parent.name for header in below})
    note = f"no header in {folder} itself: took {len(below)} from {', '.join(folders)} below it"
    return _found(below, folder, note)


def _is_record(path: Path) -> bool:
    return path.suffix == ".hea" or is_edf(path)


def _found(records: Sequence[Path], root: Path, note: str | None = None) -> Found:
    """Sort the records found, without EDF files that have a header beside them."""
    described = {path.with_suffix("") for path in records if not is_edf(path)}
    kept = [path for path in records if not is_edf(path) or path.with_suffix("") not in described]
    if len(kept) < len(records):
        more = f"ignored {len(records) - len(kept)} EDF files beside headers of the same name"
        note = more if note is None else f"{note}; {more}"
    return Found(_sorted(kept), root, note)


def _sorted(headers: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(headers, key=lambda path: (path.stem, str(path))))


def _fixed_part(pattern: str) -> Path:
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])
