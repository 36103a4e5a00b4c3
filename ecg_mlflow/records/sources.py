"""From what a user calls their data to a packed corpus, quickly when nothing has changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from ecg_mlflow.errors import BadRecordsError, DataNotFoundError
from ecg_mlflow.files import cache_root, locked, write_whole
from ecg_mlflow.records.corpus import Corpus, Provenance, corpora_folder, packed_path
from ecg_mlflow.records.find import Found, find_headers
from ecg_mlflow.records.labels import find_label_files, read_labels
from ecg_mlflow.records.packing import pack
from ecg_mlflow.records.reading import Progress, Reading
from ecg_mlflow.records.record import BadRecord, bad_records_error

DEMO_RECORDS = 400
DEMO_SEED = 0
#: To be raised when the same files come to mean another corpus; older notes are then made anew.
_NOTE_FORM = 2


def load_corpus(
    data: str, labels: str | Path | None = None, on_progress: Progress | None = None
) -> Corpus:
    """Open the corpus of some data, packing it first where that wasn't done before.

    1. Find the headers and the label files.
    2. If they and the signal files have the paths, sizes and times of the last packing, open
       what was packed then.
    3. Else read all records, leave out the bad ones (`Corpus.bad` says which and why), pack
       the others, and note the files' sizes and times.

    Parameters
    ----------
    data
        ``demo``, ``demo:<records>``, ``demo:<records>:<seed>``, ``cinc2017``, a folder of WFDB
        records, or a glob of their headers.
    labels
        A CSV of ``record,label``, or with a header that may also name the column ``patient``; by
        default the one beside the records.
    on_progress
        Called with (done, total): bytes while downloading, then records while packing.

    Raises
    ------
    DataNotFoundError
        If there are no records or no labels where they were looked for.
    BadRecordsError
        If not one of the records can be used.
    DownloadError
        If the Challenge's data can't be fetched.
    CorpusError
        If what was packed before is damaged.
    """
    folder, source = _locate(data, on_progress)
    found = find_headers(folder)
    label_files = (
        (_absolute(labels),)
        if labels is not None
        else find_label_files(dict.fromkeys(path.parent for path in found.headers), found.root)
    )
    inputs = _Inputs(str(_absolute(folder)), found, label_files)
    note = cache_root() / "sources" / f"{inputs.key}.json"
    if corpus := _reopen(note, inputs, source):
        return corpus
    with locked(note):
        # Another process may have packed it while this one waited.
        return _reopen(note, inputs, source) or _build(note, inputs, source, on_progress)


@dataclass(frozen=True)
class _Inputs:
    """What a corpus is asked of: the folder or glob, and what was found there."""

    asked: str
    found: Found
    label_files: tuple[Path, ...]

    @property
    def key(self) -> str:
        """Digest of the question: what a note is filed under."""
        return hashlib.sha256(
            "\0".join([self.asked, *map(str, self.label_files)]).encode()
        ).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the search."""
        return () if self.found.note is None else (self.found.note,)

    def stamps(self, signal_files: Iterable[str | Path]) -> dict[str, str]:
        """Size and time of every file found and of `signal_files`, by path."""
        paths = (*self.found.headers, *self.label_files, *signal_files)
        return {path: _stamp(path) for path in dict.fromkeys(map(str, paths))}


def _locate(data: str, on_progress: Progress | None) -> tuple[str | Path, str]:
    """Make sure that the data is on this machine; return where, and what to call it."""
    # Data from files needs neither the HTTP client nor scipy.signal, which these bring along.
    if data == "cinc2017":
        from ecg_mlflow.records.download import fetch_cinc2017

        folder = fetch_cinc2017(cache_root(), on_progress=on_progress)
        return folder, "cinc2017: PhysioNet/CinC Challenge 2017"
    if data != "demo" and not data.startswith("demo:"):
        return data, str(_absolute(data))
    asked = re.fullmatch(r"demo(?::(\d+)(?::(\d+))?)?", data)
    if asked is None:
        raise DataNotFoundError(
            f"data={data!r}: the demo corpus is written demo, demo:<records> or "
            "demo:<records>:<seed>, such as demo:100:7."
        )
    from ecg_mlflow.records import demo

    n_records, seed = int(asked[1] or DEMO_RECORDS), int(asked[2] or DEMO_SEED)
    folder = cache_root() / "demo" / f"{n_records}-{seed}-{_code_digest(Path(demo.__file__))}"
    with locked(folder):
        if not folder.exists():
            demo.write_demo(folder, n_records, seed)
    return folder, f"demo: {n_records} made-up records, seed {seed}"


def _code_digest(module: Path) -> str:
    """Digest of the demo generator's code: another generator makes other records."""
    code = [module, *sorted((module.parent / "synthetic").glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in code)).hexdigest()[:12]


def _build(note: Path, inputs: _Inputs, source: str, on_progress: Progress | None) -> Corpus:
    before = inputs.stamps(())
    labels = read_labels(inputs.label_files)
    reading = Reading(inputs.found.headers, labels, on_progress)
    records = reading.good()
    first = next(records, None)
    if first is None:
        raise BadRecordsError(f"not one record can be used: {bad_records_error(reading.bad)}")
    corpus = pack(chain([first], records), corpora_folder(), note.stem, patients=labels.patients)
    # A header or label file that changed while it was read makes the note stale at once.
    stamps = inputs.stamps(reading.files) | before
    content = {
        "form": _NOTE_FORM,
        "digest": corpus.digest,
        "labels_sha256": labels.sha256,
        "bad": [asdict(record) for record in reading.bad],
        "files": list(map(str, reading.files)),
        "stamps": _digest(stamps),
    }
    write_whole(note, json.dumps(content).encode())
    return Corpus.open(corpus.path, _provenance(content, inputs, source))


def _reopen(note: Path, inputs: _Inputs, source: str) -> Corpus | None:
    """Open what was packed before, if none of its files has changed since."""
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


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()
