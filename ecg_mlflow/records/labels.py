"""Read the records' labels, patients and further columns from CSV files."""

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
        Label of each record with an unambiguous label.
    patients
        Patient of each of these records, if known.
    sha256
        Hex digest of the files' bytes.
    paths
        The files, in the order read.
    problems
        Unusable lines; `BadRecord.path` is ``file:line``.
    """

    by_id: dict[str, str]
    patients: dict[str, str]
    sha256: str
    paths: tuple[Path, ...]
    problems: tuple[BadRecord, ...]


def read_labels(paths: str | Path | Sequence[Path]) -> Labels:
    """Read label files: UTF-8, one ``record,label`` per line, or the columns that a header names.

    A first line with the names ``record`` and ``label``, in any order, is a header. A column
    ``patient`` then names the record's patient, with an empty cell for an unknown one; other
    columns are ignored. A record may occur twice with the same label; with two labels or two
    patients it is unusable. Equal patient names mean one patient, also across files.

    Parameters
    ----------
    paths
        One file, or several that are read as one, each with or without a header.

    Raises
    ------
    DataNotFoundError
        If a file can't be read, isn't text, or has an ambiguous header.
    """
    files = (Path(paths),) if isinstance(paths, str | Path) else tuple(paths)
    content = hashlib.sha256()
    found = _Found()
    for file in files:
        data = _bytes_of(file)
        content.update(hashlib.sha256(data).digest())
        rows = _rows(file, data)
        columns = Columns.of_header(rows[0][1], f"{file}:{rows[0][0]}") if rows else None
        for line, row in rows[1:] if columns else rows:
            found.add(row, columns or Columns(), f"{file}:{line}")
    for record in found.ambiguous:
        del found.by_id[record]
        found.patients.pop(record, None)
    problems = tuple(found.problems)
    return Labels(found.by_id, found.patients, content.hexdigest(), files, problems)


class _Found:
    """The labels, patients and problems of the lines read so far."""

    def __init__(self) -> None:
        self.by_id: dict[str, str] = {}
        self.patients: dict[str, str] = {}
        self.ambiguous: set[str] = set()
        self.problems: list[BadRecord] = []
        self._line_of_label: dict[str, str] = {}
        self._line_of_patient: dict[str, str] = {}

    def add(self, row: list[str], columns: Columns, where: str) -> None:
        """Add a line, or note what is wrong with it."""
        record, label, patient = columns.read(row)
        if fault := columns.fault(row):
            reason = f"malformed line in the label file: {fault}"
        elif (known := self.by_id.setdefault(record, label)) != label:
            self.ambiguous.add(record)
            reason = f"two labels: {label!r} here, {known!r} in {self._line_of_label[record]}"
        elif patient and (known := self.patients.setdefault(record, patient)) != patient:
            self.ambiguous.add(record)
            reason = f"two patients: {patient!r} here, {known!r} in {self._line_of_patient[record]}"
        else:
            self._line_of_label.setdefault(record, where)
            if patient:
                self._line_of_patient.setdefault(record, where)
            return
        self.problems.append(BadRecord(record, where, reason))


def read_groups(paths: Sequence[Path]) -> dict[str, dict[str, str]]:
    """Read the other columns of label files, which may describe groups of records: age, site.

    Parameters
    ----------
    paths
        CSV files; those without a header that names the column ``record`` are ignored.

    Returns
    -------
    The values by record for each column; empty cells are left out.

    Raises
    ------
    DataNotFoundError
        If a file can't be read or isn't text.
    """
    found: dict[str, dict[str, str]] = {}
    for path in paths:
        rows = [[cell.strip() for cell in row] for _, row in _rows(path, _bytes_of(path))]
        names = [cell.casefold() for cell in rows[0]] if rows else []
        if _RECORD not in names:
            continue
        record = names.index(_RECORD)
        for row in rows[1:]:
            for column, cell in zip(rows[0], row, strict=False):
                own = column.casefold() in ("", _RECORD, _LABEL, _PATIENT)
                if cell and not own and len(row) > record:
                    found.setdefault(column, {})[row[record]] = cell
    return found


def find_label_files(folders: Iterable[Path], root: Path) -> tuple[Path, ...]:
    """Find the label file beside the records, or above them in `root`.

    Parameters
    ----------
    folders
        Folders that hold the records.
    root
        The folder that the user gave; its label file is used for folders without one.

    Returns
    -------
    tuple of Path
        ``REFERENCE.csv``, else the only ``REFERENCE*.csv``, of each folder.

    Raises
    ------
    DataNotFoundError
        If a folder has no label file, or several and none is called ``REFERENCE.csv``.
    """
    found = {folder: _label_file_of(folder, root) for folder in folders}
    without = [folder for folder, file in found.items() if file is None]
    if without:
        places = list(dict.fromkeys((without[0], root)))
        raise DataNotFoundError(
            f"no label file: searched for {DEFAULT_NAME} or a single {_DEFAULT_PATTERN} in "
            f"{' and '.join(map(str, places))}. Put a CSV of record,label there, name one with "
            "labels=<file>, or use the diagnoses in the headers' #Dx lines with labels=headers."
        )
    return tuple(dict.fromkeys(file for file in found.values() if file is not None))


def has_label_file(folders: Iterable[Path], root: Path) -> bool:
    """Return whether any of these folders has a label file; see `find_label_files`."""
    return any(_label_file_of(folder, root) is not None for folder in folders)


def _label_file_of(folder: Path, root: Path) -> Path | None:
    places = dict.fromkeys((folder, root))
    return next((file for place in places if (file := _label_file(place))), None)


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


def _rows(file: Path, data: bytes) -> list[tuple[int, list[str]]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataNotFoundError(
            f"the label file {file} isn't UTF-8 text: {error.reason} at byte {error.start}. "
            "Give a CSV of record,label."
        ) from error
    reader = csv.reader(text.splitlines())
    return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]


_RECORD, _LABEL, _PATIENT = "record", "label", "patient"
#: Other data sets' names for the patient column. Ignoring it would divide patients' records.
_LIKE_PATIENT = {"patients", "patientid", "patientname", "patientnumber", "subject", "subjectid"}


@dataclass(frozen=True)
class Columns:
    """The columns of a label file; by default those of a file without a header.

    Attributes
    ----------
    names
        All of them, in order.
    from_header
        Whether they come from a header.
    """

    names: tuple[str, ...] = (_RECORD, _LABEL)
    from_header: bool = False

    @classmethod
    def of_header(cls, row: list[str], where: str) -> Columns | None:
        """Read the columns from the first line of a file; None if it is not a header.

        Parameters
        ----------
        row
            The line's cells. A header has the names ``record`` and ``label``, in any case.
        where
            ``file:line``, for errors.

        Raises
        ------
        DataNotFoundError
            If a name occurs twice, or a column seems to hold patients under another name.
        """
        names = tuple(cell.strip().casefold() for cell in row)
        if not {_RECORD, _LABEL} <= set(names):
            return None
        twice = [name for name in (_RECORD, _LABEL, _PATIENT) if names.count(name) > 1]
        if twice:
            raise DataNotFoundError(
                f"{where}: the header of the label file has the column {twice[0]!r} "
                f"{names.count(twice[0])} times: {','.join(row)}. Keep one of them."
            )
        alike = [
            cell.strip()
            for cell, name in zip(row, names, strict=True)
            if "".join(filter(str.isalpha, name)) in _LIKE_PATIENT
        ]
        if alike and _PATIENT not in names:
            raise DataNotFoundError(
                f"{where}: the header of the label file has the column {alike[0]!r}, but patients "
                f"are read from a column {_PATIENT!r} only. Rename it, so that the records of one "
                "patient stay in one part of a split, or remove it."
            )
        return cls(names, from_header=True)

    def read(self, row: list[str]) -> tuple[str, str, str]:
        """Return a line's record, label and patient, '' for a missing one."""
        cells = dict(zip(self.names, map(str.strip, row), strict=False))
        return cells.get(_RECORD, ""), cells.get(_LABEL, ""), cells.get(_PATIENT, "")

    def fault(self, row: list[str]) -> str | None:
        """Return why a line can't be used, or None."""
        if len(row) != len(self.names):
            if self.from_header:
                return f"{len(row)} columns, but the header has {len(self.names)}"
            hint = f"; a header such as {_RECORD},{_LABEL},{_PATIENT} allows more"
            return f"{len(row)} columns, not record,label" + (hint if len(row) > 2 else "")
        record, label, _ = self.read(row)
        if record and label:
            return None
        return f"an empty {'label' if record else 'record name'}"
