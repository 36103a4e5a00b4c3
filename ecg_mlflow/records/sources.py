"""Load the corpus of the data that a user names, from the cache if its files are unchanged."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ecg_mlflow.errors import BadRecordsError, CorpusError, RecordError, few
from ecg_mlflow.files import cache_root, locked, write_whole
from ecg_mlflow.records.catalogue import (
    ARCHIVES,
    Found,
    absolute,
    find_records,
    is_demo,
)
from ecg_mlflow.records.corpus import Corpus, Provenance, corpora_folder, packed_path
from ecg_mlflow.records.formats import FORMATS, read_digital
from ecg_mlflow.records.labels import (
    Labels,
    diagnoses,
    find_label_files,
    match_names,
    read_groups,
    read_header_groups,
    read_labels,
)
from ecg_mlflow.records.named_sets import HEADERS
from ecg_mlflow.records.packing import pack
from ecg_mlflow.records.reading import DEFAULT, Reading, Remarks
from ecg_mlflow.records.record import BadRecord, DigitalRecord, Progress, bad_records_error

#: Raise it when a change of the code gives another corpus for the same files; older notes are
#: then replaced.
_NOTE_FORM = 3
_RECORD_NAME = re.compile(r"[-\w]+")

log = logging.getLogger(__name__)


def load_corpus(
    data: str,
    labels: str | Path | None = None,
    on_progress: Progress | None = None,
    *,
    leads: str | Sequence[str] | None = None,
    gaps: str | None = None,
) -> Corpus:
    """Open the corpus of some data, after packing it if that wasn't done before.

    1. Find the headers and the label files.
    2. If they and the signal files have the paths, sizes and times of the last packing, open
       that corpus.
    3. Otherwise read all records, leave out the bad ones (`Corpus.bad` lists them with reasons),
       pack the others, and note the files' sizes and times.

    Parameters
    ----------
    data
        ``demo``, ``demo:<records>``, ``demo:<records>:<seed>``, the same with ``demo12``,
        a folder of recordings (WFDB, EDF, BDF, arrays, files of ECG devices: `formats.FORMATS`), a
        glob of these, or the name of a data set, such as
        ``cinc2017``, or ``ptbxl:super@folder`` for a copy on this machine.
    labels
        A CSV of ``record,label``, or with a header that may also name the column ``patient``; or
        ``headers`` for the diagnoses in the headers' ``#Dx`` lines, several separated by commas. By
        default the CSV beside the records, or the headers if there is none.
    on_progress
        Called with (done, total): bytes during the download, then records during packing.
    leads
        The leads to read, in this order, such as ``II,V5``, by names in any spelling; by default
        all ECG leads. A record that lacks one is a bad record.
    gaps
        ``refuse`` (the default): a record with invalid or missing samples is a bad record. Or
        ``interpolate:0.5``: a line is drawn over gaps of at most so many seconds. Or ``avoid:10``:
        it is cut at its gaps, and each stretch of at least so many seconds is a record of its own,
        named by its first sample (``R1#00250``); those of a record count as one patient.

    Raises
    ------
    DataNotFoundError
        If there are no records or no labels where they were looked for.
    BadRecordsError
        If no record can be used.
    DownloadError
        If the Challenge's data can't be fetched.
    ExtraMissingError
        If there are EDF files and the package that reads them is not installed.
    """
    found = find_records(data, on_progress)
    given = None if labels is None else str(labels if labels == HEADERS else absolute(labels))
    reading = Reading.of(leads, gaps)
    inputs = _Inputs(found, _label_files(found, given or found.labels), given, reading)
    asked = [HEADERS] if inputs.label_files is None else map(str, inputs.label_files)
    # The folder: other versions of the generator make other records under one name.
    place = str(found.root) if data in ARCHIVES or is_demo(data) else found.source
    how = [] if reading == DEFAULT else [repr(reading)]
    key = _sha256("\0".join([place, *asked, *how]))
    note = cache_root() / "sources" / f"{key}.json"
    if corpus := inputs.reopen(note):
        return corpus
    with locked(note):
        # Another process may have packed it while this one waited.
        return inputs.reopen(note) or inputs.build(note, on_progress)


def load_groups(data: str, labels: str | Path | None = None) -> dict[str, dict[str, str]]:
    """Read values that may describe groups of some data's records: age, sex, site.

    Parameters
    ----------
    data, labels
        Same as for `load_corpus`.

    Returns
    -------
    The values by record for each column of the label files, or for ``Age`` and ``Sex`` if the
    labels come from the headers.

    Raises
    ------
    DataNotFoundError
        If there are no records or no labels where they were looked for.
    """
    found = find_records(data)
    files = _label_files(found, labels or found.labels)
    return read_header_groups(found.headers) if files is None else read_groups(files)


def _label_files(found: Found, labels: str | Path | None) -> tuple[Path, ...] | None:
    """Return the label files, or None if the labels come from the records' headers."""
    if labels is None:
        return find_label_files(found.headers, found.root)
    return None if labels == HEADERS else (absolute(labels),)


@dataclass(frozen=True)
class _Inputs:
    """The files of a corpus; the note of a packed one has their sizes and times."""

    found: Found
    label_files: tuple[Path, ...] | None
    #: The place of the labels that the user gave, if any.
    labels: str | None
    reading: Reading

    def build(self, note: Path, on_progress: Progress | None) -> Corpus:
        """Read and pack the records, and write the note."""
        # From before reading: a file that changes meanwhile makes the note outdated.
        before = self._stamps(())
        formats = ((path, FORMATS[path.suffix.lower()]) for path in self.found.headers)
        files = [str(file) for path, form in formats for file in form.files(path)]
        stamps = _digest(self._stamps(files) | before)
        labels, absent = None, list[str]()
        if self.label_files is not None:
            stems = {header.stem for header in self.found.headers}
            labels, absent = match_names(read_labels(*self.label_files), stems)
        bad: list[BadRecord] = []
        remarks = Remarks()
        patients = {} if labels is None else dict(labels.patients)
        records = self._usable(labels, patients, bad, remarks, on_progress)
        first = next(records, None)
        if first is None:
            raise BadRecordsError(f"no record can be used: {bad_records_error(bad)}")
        corpus = pack(chain([first], records), corpora_folder(), note.stem, patients=patients)
        # Of labels from headers, that of the lines ``record<tab>label``, sorted by record name.
        lines = "".join(map("{}\t{}\n".format, corpus.ids, corpus.labels))
        content = {
            "form": _NOTE_FORM,
            "digest": corpus.digest,
            "labels_sha256": labels.sha256 if labels else _sha256(lines),
            "bad": [asdict(record) for record in bad],
            "notes": [*self._absent(absent), *remarks.notes()],
            "files": files,
            "stamps": stamps,
        }
        write_whole(note, json.dumps(content).encode())
        return self._open(content)

    def _absent(self, names: Sequence[str]) -> list[str]:
        """Note which records the label files name that are not here, unless a part was chosen."""
        if not names or glob.has_magic(self.found.source):
            return []
        files = ", ".join(file.name for file in self.label_files or ())
        return [f"{files} names {len(names)} records that are not here: {few(names)}"]

    def _usable(
        self,
        labels: Labels | None,
        patients: dict[str, str],
        bad: list[BadRecord],
        remarks: Remarks,
        on_progress: Progress | None,
    ) -> Iterator[tuple[DigitalRecord, str]]:
        """Yield the usable records with their labels, by name; append every fault to `bad`.

        `remarks` gets what is to be said of those, `patients` those of stretches of records.
        Without `labels`, those are the diagnoses in each record's header.
        """
        by_id: dict[str, list[Path]] = defaultdict(list)
        for header in self.found.headers:
            by_id[header.stem].append(header)
        problems = labels.problems if labels else ()
        # A line without a valid record name may belong to any record.
        bad += [p for p in problems if p.id in by_id or not _RECORD_NAME.fullmatch(p.id)]
        at_fault = {problem.id for problem in problems}
        for name, paths in by_id.items():
            for path in paths if len(paths) > 1 else ():
                # The name is ambiguous in the label file.
                others = ", ".join(str(other) for other in paths if other != path)
                bad.append(BadRecord(name, str(path), f"one id twice: also {others}"))
        where = f"not in {', '.join(file.name for file in self.label_files or ())}"
        single = [paths[0] for paths in by_id.values() if len(paths) == 1]
        for done, path in enumerate(single, start=1):
            try:
                record = read_digital(path, self.reading, keep_invalid=True)
                used = self.reading.usable(record)
            except RecordError as error:
                record, used = None, []
                bad.append(BadRecord(path.stem, str(path), str(error)))
            if labels:
                label = labels.by_id.get(path.stem)
            else:
                label = diagnoses(record.comments) if record else None
            if label is None and path.stem not in at_fault and (record or labels):
                reason = where if labels else "no #Dx in its header"
                bad.append(BadRecord(path.stem, str(path), f"no label: {reason}"))
            if record and label is not None:
                remarks.add(record, used)
                for one in used:
                    if one.id != path.stem:
                        patients[one.id] = patients.get(path.stem, path.stem)
                    yield one, label
            if on_progress:
                on_progress(done, len(single))

    def reopen(self, note: Path) -> Corpus | None:
        """Open the corpus that was packed before, if all of its files are unchanged."""
        try:
            content = json.loads(note.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if content.get("form") != _NOTE_FORM or not packed_path(content["digest"]).exists():
            return None
        if content["stamps"] != _digest(self._stamps(content["files"])):
            return None
        try:
            return self._open(content)
        except CorpusError as error:
            log.warning("%s. They are packed again", error)
            note.unlink(missing_ok=True)
            return None

    def _open(self, content: dict[str, Any]) -> Corpus:
        provenance = Provenance(
            self.found.source,
            content["labels_sha256"],
            tuple(BadRecord(**record) for record in content["bad"]),
            (*filter(None, [self.found.note]), *content["notes"]),
            self.labels,
            self.reading,
        )
        return Corpus.open(packed_path(content["digest"]), provenance)

    def _stamps(self, files: Iterable[str]) -> dict[str, str]:
        """Return size and time of every file found and of `files`, by path."""
        paths = (*self.found.headers, *(self.label_files or ()), *files)
        return {path: _stamp(path) for path in map(str, paths)}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(stamps: dict[str, str]) -> str:
    return _sha256("\n".join(f"{path} {stamp}" for path, stamp in stamps.items()))


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"
