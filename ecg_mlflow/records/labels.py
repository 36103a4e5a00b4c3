"""Read the records' labels, patients and groups from CSV files, or from their headers.

The comments ``#Dx: 164889003,59118001``, ``#Age`` and ``#Sex`` of WFDB headers have the form of
CinC 2020 and 2021 (https://physionet.org/content/challenge-2021/1.0.3/), with or without a blank.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ecg_mlflow.errors import DataNotFoundError, few
from ecg_mlflow.files import is_special
from ecg_mlflow.records.formats import FORMATS
from ecg_mlflow.records.record import BadRecord

DEFAULT_NAME = "REFERENCE.csv"
_DEFAULT_PATTERN = "REFERENCE*.csv"
_RECORD, _LABEL, _PATIENT = "record", "label", "patient"
#: Other data sets' names for the patient column. Ignoring it would divide patients' records.
_LIKE_PATIENT = {
    *("patients", "patientid", "patientname", "patientnumber", "patientno", "patientnr", "patid"),
    *("subject", "subjects", "subjectid", "subjectno", "subj", "subjid", "participant"),
    *(
        "participants",
        "participantid",
        "person",
        "personid",
        "pid",
        "ptid",
        "mrn",
        "case",
        "caseid",
    ),
}
#: Separators of a table without commas in its first line.
_SEPARATORS = ";\t"
_DIAGNOSES = "dx"
#: Comments that describe groups of records, with the names of their columns.
_GROUPS = {"age": "Age", "sex": "Sex"}
_UNKNOWN = frozenset({"", "unknown", "nan", "n/a", "none"})


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
    problems
        Unusable lines; `BadRecord.path` is ``file:line``.
    """

    by_id: dict[str, str]
    patients: dict[str, str]
    sha256: str
    problems: tuple[BadRecord, ...]


def read_labels(*files: Path) -> Labels:
    """Read label files: one ``record,label`` per line, or the columns that a header names.

    They are UTF-8, or UTF-16 with its mark, separated by commas, semicolons or tabs. A record may
    be named by its file, with folders and ending (``dir/A1.mat``).

    A first line with the names ``record`` and ``label``, in any order, is a header. A column
    ``patient`` then names the record's patient, with an empty cell for an unknown one; other
    columns are ignored. A record may occur twice with the same label; with two labels or two
    patients it is unusable. Equal patient names mean one patient, also across files.

    Parameters
    ----------
    files
        They are read as one; each is with or without a header.

    Raises
    ------
    DataNotFoundError
        If a file can't be read, isn't text, or has an ambiguous header.
    """
    content = hashlib.sha256()
    #: Values and the places of their lines, by column and record.
    known: dict[str, dict[str, tuple[str, str]]] = {_LABEL: {}, _PATIENT: {}}
    problems: list[BadRecord] = []
    ambiguous: set[str] = set()
    for file in files:
        data, lines = _rows(file)
        content.update(hashlib.sha256(data).digest())
        header = _header(lines, file)
        names = header or [_RECORD, _LABEL]
        for number, row in lines[1:] if header else lines:
            where = f"{file}:{number}"
            cells = dict(zip(names, row, strict=False))
            record = cells[_RECORD] = _record_name(cells.get(_RECORD, ""))
            if fault := _fault(cells, row, names):
                problems.append(
                    BadRecord(record, where, f"malformed line in the label file: {fault}")
                )
                continue
            for column, values in known.items():
                value = cells.get(column, "")
                first, place = values.setdefault(record, (value, where)) if value else ("", "")
                if first != value:
                    reason = f"two {column}s: {value!r} here, {first!r} in {place}"
                    problems.append(BadRecord(record, where, reason))
                    ambiguous.add(record)
                    break
    by_id, patients = (
        {record: value for record, (value, _) in values.items() if record not in ambiguous}
        for values in known.values()
    )
    return Labels(by_id, patients, content.hexdigest(), tuple(problems))


def match_names(labels: Labels, records: Collection[str]) -> tuple[Labels, list[str]]:
    """Give labels the names of their records: a number may lack its leading zeros.

    Returns
    -------
    The labels, and the names that are none of the records'.
    """
    numbers: dict[str, list[str]] = {}
    for record in records:
        if record.isdecimal():
            numbers.setdefault(record.lstrip("0"), []).append(record)
    names, absent = dict[str, str](), []
    for name in labels.by_id:
        same = numbers.get(name.lstrip("0"), []) if name.isdecimal() else []
        if name in records:
            names[name] = name
        elif len(same) == 1 and same[0] not in labels.by_id:
            names[name] = same[0]
        else:
            absent.append(name)
    by_id = {names[name]: label for name, label in labels.by_id.items() if name in names}
    patients = {names[name]: one for name, one in labels.patients.items() if name in names}
    return replace(labels, by_id=by_id, patients=patients), absent


def _record_name(cell: str) -> str:
    """Return a record's name, which may be given as the path of one of its files."""
    name = cell.replace("\\", "/").rpartition("/")[2]
    stem, _, ending = name.rpartition(".")
    return stem if stem and f".{ending.lower()}" in (".dat", *FORMATS) else name


def _header(lines: list[tuple[int, list[str]]], file: Path) -> list[str] | None:
    """Read the columns from the first line of a file; None if it is not a header.

    Raises
    ------
    DataNotFoundError
        If the lines are of other columns, a name occurs twice, or a column seems to hold patients
        under another name.
    """
    if not lines:
        return None
    number, row = lines[0]
    where, names = f"{file}:{number}", [cell.casefold() for cell in row]
    if not {_RECORD, _LABEL} <= set(names):
        if len(row) > 2 and all(len(each) == len(row) for _, each in lines[:3]):
            raise DataNotFoundError(
                f"{where}: no header of {_RECORD},{_LABEL}: it has {few(row)}. Call the column of "
                f"the records' names {_RECORD!r} and that of their labels {_LABEL!r}"
            )
        return None
    what = f"{where}: the header of the label file has the column"
    for name in (_RECORD, _LABEL, _PATIENT):
        if names.count(name) > 1:
            raise DataNotFoundError(
                f"{what} {name!r} {names.count(name)} times: {','.join(row)}. Keep one of them."
            )
    for cell in row if _PATIENT not in names else ():
        if "".join(filter(str.isalpha, cell.casefold())) in _LIKE_PATIENT:
            raise DataNotFoundError(
                f"{what} {cell!r}, but patients are read from a column {_PATIENT!r} only. Rename "
                "it, so that the records of one patient stay in one part of a split, or remove it."
            )
    return names


def _fault(cells: dict[str, str], row: list[str], names: list[str]) -> str | None:
    """Return why a line can't be used, or None."""
    if len(row) != len(names):
        return f"{len(row)} columns, not {','.join(names)}"
    if not cells[_RECORD]:
        return "an empty record name"
    return None if cells[_LABEL] else "an empty label"


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
        rows = [row for _, row in _rows(path)[1]]
        names = [cell.casefold() for cell in rows[0]] if rows else []
        if _RECORD not in names:
            continue
        record = names.index(_RECORD)
        for row in rows[1:]:
            for column, cell in zip(rows[0], row, strict=False):
                own = column.casefold() in ("", _RECORD, _LABEL, _PATIENT)
                if cell and not own and len(row) > record:
                    found.setdefault(column, {})[_record_name(row[record])] = cell
    return found


def find_label_files(headers: Iterable[Path], root: Path) -> tuple[Path, ...] | None:
    """Find the label files beside the records, or above them in `root`.

    Parameters
    ----------
    headers
        The records' headers.
    root
        The folder that the user gave; its label file is used for folders without one.

    Returns
    -------
    tuple of Path or None
        ``REFERENCE.csv``, else the only ``REFERENCE*.csv``, of each folder; None if no folder has
        one and the headers name diagnoses.

    Raises
    ------
    DataNotFoundError
        If a folder has no label file, or several and none is called ``REFERENCE.csv``.
    """
    headers = tuple(headers)
    folders = dict.fromkeys(path.parent for path in headers)
    found = {folder: _label_file(folder) or _label_file(root) for folder in folders}
    without = [folder for folder, file in found.items() if file is None]
    if without == list(folders) and any(map(diagnoses, map(read_comments, headers))):
        return None
    if without:
        places = list(dict.fromkeys((without[0], root)))
        raise DataNotFoundError(
            f"no label file: searched for {DEFAULT_NAME} or a single {_DEFAULT_PATTERN} in "
            f"{' and '.join(map(str, places))}. Put a CSV of record,label there, name one with "
            "labels=<file>, or use the diagnoses in the headers' #Dx lines with labels=headers."
        )
    return tuple(dict.fromkeys(file for file in found.values() if file is not None))


def _label_file(folder: Path) -> Path | None:
    found = sorted(folder.glob(_DEFAULT_PATTERN))
    if folder / DEFAULT_NAME in found:
        return folder / DEFAULT_NAME
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise DataNotFoundError(
            f"several label files in {folder}: {names}. Choose one with labels=<file>."
        )
    return found[0] if found else None


def _rows(file: Path) -> tuple[bytes, list[tuple[int, list[str]]]]:
    """Return a file's bytes, and its lines that aren't empty with their numbers."""
    if is_special(file):
        raise DataNotFoundError(f"can't read the label file {file}: it is no regular file")
    try:
        data = file.read_bytes()
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except OSError as error:
        raise DataNotFoundError(f"can't read the label file {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataNotFoundError(
            f"the label file {file} isn't UTF-8 text: {error.reason} at byte {error.start}, in "
            f"line {line}. Save it as UTF-8, a CSV of record,label."
        ) from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    other = max(_SEPARATORS, key=first.count)
    separator = other if "," not in first and other in first else ","
    reader = csv.reader(text.splitlines(), delimiter=separator)
    rows = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
    return data, [(number, row) for number, row in rows if any(row)]


def diagnoses(comments: Iterable[str]) -> str | None:
    """Return a record's diagnoses joined by commas, each once, in the order given; or None."""
    given = _fields(comments).get(_DIAGNOSES, "").split(",")
    known = dict.fromkeys(one.strip() for one in given if one.strip().casefold() not in _UNKNOWN)
    return ",".join(known) or None


def read_header_groups(headers: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Read age and sex, for metrics by groups of records.

    Returns
    -------
    The values by record for ``Age`` and ``Sex``, in the form of `labels.read_groups`; missing and
    unknown values are left out.
    """
    found: dict[str, dict[str, str]] = {}
    for header in headers:
        fields = _fields(read_comments(header))
        for name, column in _GROUPS.items():
            value = fields.get(name, "")
            if value.casefold() not in _UNKNOWN:
                found.setdefault(column, {})[header.stem] = value
    return found


def read_comments(header: Path) -> tuple[str, ...]:
    """Return a WFDB header's comments without their ``#``; none if it can't be read.

    Reading the record reports what is wrong with such a header.
    """
    data = b""
    with suppress(OSError):
        data = header.read_bytes() if header.suffix == ".hea" else b""
    lines = map(str.strip, data.decode("utf-8", errors="replace").splitlines())
    return tuple(line.strip(" \t#") for line in lines if line.startswith("#"))


def _fields(comments: Iterable[str]) -> dict[str, str]:
    """Read ``name: value`` comments; if a name occurs twice, the first one counts."""
    fields: dict[str, str] = {}
    for name, colon, value in (comment.partition(":") for comment in comments):
        if colon:
            fields.setdefault(name.strip().casefold(), value.strip())
    return fields
