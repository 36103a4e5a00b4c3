"""Reads the records' labels from headerless ``record,label`` files."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records.record import BadRecord

DEFAULT_NAME = "REFERENCE.csv"
_DEFAULT_PATTERN = "REFERENCE*.csv"


@dataclass(frozen=True)
class Labels:
    """The labels of one or several label files.

    Attributes
    ----------
    by_id
        Label of each record that has exactly one.
    sha256
        Hex digest over the files' bytes.
    paths
        The files, in the order read.
    problems
        Lines that can't be used; `BadRecord.path` is ``file:line``.
    """

    by_id: dict[str, str]
    sha256: str
    paths: tuple[Path, ...]
    problems: tuple[BadRecord, ...]


def read_labels(paths: str | Path | Sequence[Path]) -> Labels:
    """Read label files: UTF-8, no header, one ``record,label`` a line.

    A record that stands twice with one label is fine; with two labels it has none.

    Parameters
    ----------
    paths
        One file, or several that are read as one.

    Raises
    ------
    DataNotFoundError
        If a file can't be read, or isn't text.
    """
    files = (Path(paths),) if isinstance(paths, str | Path) else tuple(paths)
    by_id: dict[str, str] = {}
    first_line: dict[str, str] = {}
    ambiguous: set[str] = set()
    problems: list[BadRecord] = []
    content = hashlib.sha256()
    for file in files:
        data = _bytes_of(file)
        content.update(hashlib.sha256(data).digest())
        for line, row in _rows(file, data):
            where = f"{file}:{line}"
            record = row[0].strip()
            if len(row) != 2:
                reason = f"malformed line in the label file: {len(row)} columns, not record,label"
                problems.append(BadRecord(record, where, reason))
            elif not record or not row[1].strip():
                empty = "label" if record else "record name"
                reason = f"malformed line in the label file: an empty {empty}"
                problems.append(BadRecord(record, where, reason))
            elif by_id.setdefault(record, row[1].strip()) != row[1].strip():
                ambiguous.add(record)
                reason = f"two labels: {row[1].strip()!r} here, {by_id[record]!r} in "
                problems.append(BadRecord(record, where, reason + first_line[record]))
            else:
                first_line.setdefault(record, where)
    for record in ambiguous:
        del by_id[record]
    return Labels(by_id, content.hexdigest(), files, tuple(problems))


def find_label_files(folders: Iterable[Path], root: Path) -> tuple[Path, ...]:
    """Find the label file beside the records, or above them in `root`.

    Parameters
    ----------
    folders
        Folders that hold the records.
    root
        Folder that was asked for; it serves the folders below it that have no label file.

    Returns
    -------
    tuple of Path
        ``REFERENCE.csv``, else the only ``REFERENCE*.csv``, of each folder.

    Raises
    ------
    DataNotFoundError
        If a folder has no label file, or several and none is called ``REFERENCE.csv``.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        places = list(dict.fromkeys((folder, root)))
        file = next((file for place in places if (file := _label_file(place))), None)
        if file is None:
            raise DataNotFoundError(
                f"no label file: looked for {DEFAULT_NAME} or a single {_DEFAULT_PATTERN} in "
                f"{' and '.join(map(str, places))}. Put a headerless CSV of record,label "
                "there, or name one with labels=<file>."
            )
        found[file] = None
    return tuple(found)


def _label_file(folder: Path) -> Path | None:
    default = folder / DEFAULT_NAME
    if default.is_file():
        return default
    candidates = sorted(folder.glob(_DEFAULT_PATTERN))
    if len(candidates) > 1:
        names = ", ".join(file.name for file in candidates)
        raise DataNotFoundError(
            f"several label files in {folder}: {names}. Choose one with labels=<file>."
        )
    return candidates[0] if candidates else None


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataNotFoundError(f"can't read the label file {file}: {error.strerror}") from error


def _rows(file: Path, data: bytes) -> Iterable[tuple[int, list[str]]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataNotFoundError(
            f"the label file {file} isn't UTF-8 text: {error.reason} at byte {error.start}. "
            "Give a headerless CSV of record,label."
        ) from error
    reader = csv.reader(text.splitlines())
    return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
