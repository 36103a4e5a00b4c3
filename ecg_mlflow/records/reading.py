"""Read all records of a selection once, and separate the good from the bad."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records.edf_reader import is_edf, read_edf_digital
from ecg_mlflow.records.header_comments import diagnoses
from ecg_mlflow.records.labels import Labels
from ecg_mlflow.records.locating import split_duplicates
from ecg_mlflow.records.record import BadRecord, DigitalRecord, Progress, Record
from ecg_mlflow.records.wfdb_header import wfdb_files
from ecg_mlflow.records.wfdb_reader import read_wfdb_digital

_RECORD_NAME = re.compile(r"[-\w]+")


class Reading:
    """One pass over all records.

    Parameters
    ----------
    headers
        Sorted by record name.
    labels
        The content of the label files; None uses the diagnoses in each record's header.
    on_progress
        Called with (records done, records in total).

    Attributes
    ----------
    bad
        Every fault of every record, complete when `good` is exhausted.
    files
        Every file of the records, likewise.
    in_headers
        The label of each record with a label in its header, likewise; empty with label files.
    """

    def __init__(
        self, headers: tuple[Path, ...], labels: Labels | None, on_progress: Progress | None
    ) -> None:
        self._headers = headers
        self._labels = labels
        self._on_progress = on_progress
        self._at_fault = {problem.id for problem in labels.problems} if labels else set()
        self.bad: list[BadRecord] = []
        self.files: list[Path] = []
        self.in_headers: dict[str, str] = {}

    def good(self) -> Iterator[tuple[DigitalRecord, str]]:
        """Yield the usable records with their labels, by name; complete the attributes."""
        single, duplicates = split_duplicates(self._headers)
        self.bad.extend(duplicates)
        if self._labels is not None:
            self.bad.extend(self._problems(self._labels))
        for done, path in enumerate(single, start=1):
            label = self._label_in_files(path)
            try:
                record = read_digital(path)
            except RecordError as error:
                self.bad.append(BadRecord(path.stem, str(path), str(error)))
                self.files.extend(files_of(path))
            else:
                self.files.extend(record.files)
                label = label or self._label_in_header(path, record)
                if label is not None:
                    yield record, label
            if self._on_progress:
                self._on_progress(done, len(single))

    def _problems(self, labels: Labels) -> Iterator[BadRecord]:
        asked = {path.stem for path in self._headers}
        for problem in labels.problems:
            # A line without a valid record name may belong to any record.
            if problem.id in asked or not _RECORD_NAME.fullmatch(problem.id):
                yield problem

    def _label_in_files(self, path: Path) -> str | None:
        if self._labels is None:
            return None
        label = self._labels.by_id.get(path.stem)
        if label is None and path.stem not in self._at_fault:
            files = ", ".join(file.name for file in self._labels.paths)
            self.bad.append(BadRecord(path.stem, str(path), f"no label: not in {files}"))
        return label

    def _label_in_header(self, path: Path, record: DigitalRecord) -> str | None:
        if self._labels is not None:
            return None
        label = diagnoses(record.comments)
        if label is None:
            where = "EDF files name no diagnoses" if is_edf(path) else "no #Dx in its header"
            self.bad.append(BadRecord(path.stem, str(path), f"no label: {where}"))
        else:
            self.in_headers[path.stem] = label
        return label


def read_digital(path: str | Path, *, keep_invalid: bool = False) -> DigitalRecord:
    """Read a record as stored in its files.

    Parameters
    ----------
    path
        The ``.hea`` file of a WFDB record (see `wfdb_reader.read_wfdb_digital`), or an ``.edf``
        file (see `edf_reader.read_edf_digital`).
    keep_invalid
        Whether samples that WFDB marks as invalid become NaN in mV; otherwise they are an error.

    Raises
    ------
    RecordError
        If the record can't be used; the message says why.
    ExtraMissingError
        If it is an EDF file and the package edfio is not installed.
    """
    path = Path(path)
    if is_edf(path):
        return read_edf_digital(path)
    return read_wfdb_digital(path, keep_invalid=keep_invalid)


def read_record(path: str | Path, label: str | None = None) -> Record:
    """Read a record in mV; see `read_digital` for what it raises."""
    digital = read_digital(path)
    return Record(digital.id, digital.millivolts(), digital.fs, digital.leads, label)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files of a record, as far as its header can be read."""
    return (path,) if is_edf(path) else wfdb_files(path)
