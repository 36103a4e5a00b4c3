"""Reads all records of a selection once, and parts the good from the bad."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records.find import split_twins
from ecg_mlflow.records.labels import Labels
from ecg_mlflow.records.record import BadRecord, DigitalRecord
from ecg_mlflow.records.wfdb_header import files_of
from ecg_mlflow.records.wfdb_reader import read_digital

Progress = Callable[[int, int], None]
_RECORD_NAME = re.compile(r"[-\w]+")


class Reading:
    """One pass over all records.

    Parameters
    ----------
    headers
        Sorted by record name.
    labels
        What the label files say.
    on_progress
        Called with (records done, records in all).

    Attributes
    ----------
    bad
        Every fault of every record, complete when `good` has come to its end.
    files
        Every file that was read or should have been, likewise.
    """

    def __init__(
        self, headers: tuple[Path, ...], labels: Labels, on_progress: Progress | None
    ) -> None:
        self._headers = headers
        self._labels = labels
        self._on_progress = on_progress
        self.bad: list[BadRecord] = []
        self.files: list[Path] = []

    def good(self) -> Iterator[tuple[DigitalRecord, str]]:
        """Yield the usable records by name; `bad` and `files` are complete afterwards."""
        single, twins = split_twins(self._headers)
        self.bad.extend(twins)
        asked = {path.stem for path in self._headers}
        at_fault = {problem.id for problem in self._labels.problems}
        self.bad.extend(
            problem
            for problem in self._labels.problems
            # A line whose first column is no record name may belong to any record.
            if problem.id in asked or not _RECORD_NAME.fullmatch(problem.id)
        )
        for done, path in enumerate(single, start=1):
            label = self._labels.by_id.get(path.stem)
            if label is None and path.stem not in at_fault:
                files = ", ".join(file.name for file in self._labels.paths)
                self.bad.append(BadRecord(path.stem, str(path), f"no label: not in {files}"))
            try:
                record = read_digital(path)
            except RecordError as error:
                self.bad.append(BadRecord(path.stem, str(path), str(error)))
                self.files.extend(files_of(path))
            else:
                self.files.extend(record.files)
                if label is not None:
                    yield record, label
            if self._on_progress:
                self._on_progress(done, len(single))
