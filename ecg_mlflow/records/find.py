"""Finds the records that a folder or a glob names: WFDB headers, and EDF files."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records.edf_reader import is_edf
from ecg_mlflow.records.record import BadRecord


@dataclass(frozen=True)
class Found:
    """The headers found.

    Attributes
    ----------
    headers
        Absolute paths of the ``.hea`` and ``.edf`` files, sorted by record name, then by path.
    root
        The folder asked for, or the part of the glob before its first wildcard.
    note
        What the user should know about the search, or None.
    """

    headers: tuple[Path, ...]
    root: Path
    note: str | None = None


def find_headers(data: str | Path) -> Found:
    """Find the records that a folder or a glob names.

    A folder stands for the headers and EDF files in it, or, where it has none, for those one level
    below. A glob (``**`` included) stands for those that it matches. An EDF file beside a header of
    the same name is the same recording in another form, and is passed over.

    Parameters
    ----------
    data
        A folder, or a glob such as ``data/*/A*.hea``; ``~`` is the home folder.

    Raises
    ------
    DataNotFoundError
        If there is no such folder, or no header where one was looked for.
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


def split_twins(headers: Iterable[Path]) -> tuple[tuple[Path, ...], tuple[BadRecord, ...]]:
    """Part the headers whose record name stands once from those that share one.

    Which of several recordings a name in the label file means can't be known, so all of them
    are bad.
    """
    by_id: dict[str, list[Path]] = defaultdict(list)
    for header in headers:
        by_id[header.stem].append(header)
    single = tuple(paths[0] for paths in by_id.values() if len(paths) == 1)
    twins = tuple(
        BadRecord(name, str(path), f"one id twice: also {', '.join(map(str, others))}")
        for name, paths in by_id.items()
        for path in paths
        if (others := [other for other in paths if other != path])
    )
    return single, twins


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
    """Sort what was found, without EDF files that a header stands beside."""
    described = {path.with_suffix("") for path in records if not is_edf(path)}
    kept = [path for path in records if not is_edf(path) or path.with_suffix("") not in described]
    if len(kept) < len(records):
        more = f"passed over {len(records) - len(kept)} EDF files beside headers of their names"
        note = more if note is None else f"{note}; {more}"
    return Found(_sorted(kept), root, note)


def _sorted(headers: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(headers, key=lambda path: (path.stem, str(path))))


def _fixed_part(pattern: str) -> Path:
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])
