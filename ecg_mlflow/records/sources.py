"""Load the corpus of the data that a user names, from the cache if its files are unchanged."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from ecg_mlflow.errors import BadRecordsError
from ecg_mlflow.files import cache_root, locked, write_whole
from ecg_mlflow.records.corpus import Corpus, Provenance, corpora_folder, packed_path
from ecg_mlflow.records.edf_reader import is_edf, require_edfio
from ecg_mlflow.records.header_comments import (
    have_diagnoses,
    labels_digest,
    read_header_groups,
)
from ecg_mlflow.records.labels import (
    find_label_files,
    has_label_file,
    read_groups,
    read_labels,
)
from ecg_mlflow.records.locating import HEADERS, Found, absolute, find_headers, locate
from ecg_mlflow.records.packing import pack
from ecg_mlflow.records.reading import Reading
from ecg_mlflow.records.record import BadRecord, Progress, bad_records_error

#: Raise it when a change of the code gives another corpus for the same files; older notes are
#: then replaced.
_NOTE_FORM = 2


def load_corpus(
    data: str, labels: str | Path | None = None, on_progress: Progress | None = None
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
        ``cinc2017``, a folder of WFDB records or EDF files, or a glob of these.
    labels
        A CSV of ``record,label``, or with a header that may also name the column ``patient``; or
        ``headers`` for the diagnoses in the headers' ``#Dx`` lines, several separated by commas. By
        default the CSV beside the records, or the headers if there is none.
    on_progress
        Called with (done, total): bytes during the download, then records during packing.

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
    CorpusError
        If the packed corpus is damaged.
    """
    folder, source = locate(data, on_progress)
    found = find_headers(folder)
    given = None if labels is None else str(labels if labels == HEADERS else absolute(labels))
    inputs = _Inputs(str(absolute(folder)), found, _label_files(found, labels), given)
    note = cache_root() / "sources" / f"{inputs.key}.json"
    if corpus := _reopen(note, inputs, source):
        return corpus
    with locked(note):
        # Another process may have packed it while this one waited.
        return _reopen(note, inputs, source) or _build(note, inputs, source, on_progress)


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
    folder, _ = locate(data)
    found = find_headers(folder)
    files = _label_files(found, labels)
    return read_header_groups(found.headers) if files is None else read_groups(files)


def _label_files(found: Found, labels: str | Path | None) -> tuple[Path, ...] | None:
    """Return the label files, or None if the labels come from the records' headers."""
    if labels == HEADERS:
        return None
    if labels is not None:
        return (absolute(labels),)
    folders = tuple(dict.fromkeys(path.parent for path in found.headers))
    if not has_label_file(folders, found.root) and have_diagnoses(found.headers):
        return None
    return find_label_files(folders, found.root)


@dataclass(frozen=True)
class _Inputs:
    """The input of a corpus: the folder or glob, and the files found there."""

    asked: str
    found: Found
    label_files: tuple[Path, ...] | None
    #: The place of the labels that the user gave, if any.
    labels: str | None = None

    @property
    def key(self) -> str:
        """Digest of the folder and label files, which names the note."""
        files = [HEADERS] if self.label_files is None else map(str, self.label_files)
        return hashlib.sha256("\0".join([self.asked, *files]).encode()).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the search."""
        return () if self.found.note is None else (self.found.note,)

    def stamps(self, signal_files: Iterable[str | Path]) -> dict[str, str]:
        """Return size and time of every file found and of `signal_files`, by path."""
        paths = (*self.found.headers, *(self.label_files or ()), *signal_files)
        return {path: _stamp(path) for path in dict.fromkeys(map(str, paths))}


def _build(note: Path, inputs: _Inputs, source: str, on_progress: Progress | None) -> Corpus:
    before = inputs.stamps(())
    labels = None if inputs.label_files is None else read_labels(inputs.label_files)
    if any(is_edf(path) for path in inputs.found.headers):
        require_edfio()
    reading = Reading(inputs.found.headers, labels, on_progress)
    records = reading.good()
    first = next(records, None)
    if first is None:
        raise BadRecordsError(f"no record can be used: {bad_records_error(reading.bad)}")
    patients = {} if labels is None else labels.patients
    corpus = pack(chain([first], records), corpora_folder(), note.stem, patients=patients)
    # The times before reading win: a file that changed meanwhile makes the note outdated at once.
    stamps = inputs.stamps(reading.files) | before
    content = {
        "form": _NOTE_FORM,
        "digest": corpus.digest,
        "labels_sha256": labels.sha256 if labels else labels_digest(reading.in_headers),
        "bad": [asdict(record) for record in reading.bad],
        "files": list(map(str, reading.files)),
        "stamps": _digest(stamps),
    }
    write_whole(note, json.dumps(content).encode())
    return Corpus.open(corpus.path, _provenance(content, inputs, source))


def _reopen(note: Path, inputs: _Inputs, source: str) -> Corpus | None:
    """Open the corpus that was packed before, if all of its files are unchanged."""
    try:
        content = json.loads(note.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if content.get("form") != _NOTE_FORM:
        return None
    if content["stamps"] != _digest(inputs.stamps(content["files"])):
        return None
    path = packed_path(content["digest"])
    if not path.exists():
        return None
    return Corpus.open(path, _provenance(content, inputs, source))


def _provenance(content: dict[str, object], inputs: _Inputs, source: str) -> Provenance:
    bad = content["bad"]
    assert isinstance(bad, list)
    return Provenance(
        source,
        str(content["labels_sha256"]),
        tuple(BadRecord(**record) for record in bad),
        inputs.notes,
        inputs.labels,
    )


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _digest(stamps: dict[str, str]) -> str:
    lines = "\n".join(f"{path} {stamp}" for path, stamp in stamps.items())
    return hashlib.sha256(lines.encode()).hexdigest()
