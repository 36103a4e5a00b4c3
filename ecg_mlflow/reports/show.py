"""Show one recording: draw it, and describe it and its faults."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecg_mlflow.errors import DataNotFoundError, RecordError
from ecg_mlflow.files import write_output
from ecg_mlflow.records import DigitalRecord, Record, read_digital
from ecg_mlflow.records.catalogue import absolute, find_records
from ecg_mlflow.records.formats import FORMATS, format_of
from ecg_mlflow.records.label_sets import split_label
from ecg_mlflow.records.labels import (
    diagnoses,
    find_label_files,
    match_names,
    read_header_groups,
    read_labels,
)
from ecg_mlflow.records.named_sets import HEADERS
from ecg_mlflow.records.quality import lead_faults
from ecg_mlflow.records.snomed import in_words
from ecg_mlflow.reports.figures import png
from ecg_mlflow.reports.figures.ecg_paper import draw_record
from ecg_mlflow.reports.html import render

_ENDINGS = (*FORMATS, *map(str.upper, FORMATS))


def show_record(
    name: str,
    *,
    data: str | None = None,
    labels: str | None = None,
    start_s: float = 0.0,
    seconds: float | None = None,
    leads: Sequence[str] = (),
    layout: str | None = None,
    out: Path | None = None,
) -> str:
    """Draw a recording into a PNG file, and describe it.

    Parameters
    ----------
    name
        Path of its header or EDF file, with or without the ending; or its name, with `data`.
    data
        A folder, a glob, or a word such as ``demo12``, as for `load_corpus`.
    labels
        A label file, or ``headers``; by default the file beside the record, or its header.
    start_s, seconds
        Where the part that is drawn begins and how long it is, in s; None for all the rest.
    leads
        Names of those that are drawn; empty for all.
    layout
        See `draw_record`.
    out
        The picture; by default the record's name with ``.png`` in the current folder.

    Raises
    ------
    DataNotFoundError
        If there is no such record, or label file.
    RecordError
        If the record can't be read, or has no such part or lead.
    StorageError
        If the picture can't be written.
    ExtraMissingError
        If it is an EDF file, and the package that reads these is not installed.
    """
    path, root, found_labels = find_record(name, data)
    digital = read_digital(path, keep_invalid=True)
    label = _label(path, root, labels or found_labels, digital)
    whole = Record(digital.id, digital.millivolts(), digital.fs, digital.leads, label)
    part = _part(whole, start_s, seconds, leads)
    figure = draw_record(part, start_s=start_s, layout=layout)
    target = out or Path(f"{digital.id}.png")
    write_output(target, png(figure))
    signal, gains = whole.signal, [f"{gain:g}" for gain in digital.gain.tolist()]
    named = read_header_groups([path]).items()
    return render(
        "record.txt",
        record=digital,
        path=path,
        labels=[in_words(one) for one in split_label(label)] if label else [],
        patient=[f"{column} {values[path.stem]}" for column, values in named],
        gains=gains,
        leads_gains=map(" ".join, zip(digital.leads, gains, strict=True)),
        span=(np.nanmin(signal, initial=np.inf), np.nanmax(signal, initial=-np.inf)),
        faults=lead_faults(digital.samples, digital.fs, digital.leads),
        target=target,
    )


def find_record(name: str, data: str | None = None) -> tuple[Path, Path, str | None]:
    """Return the path of a record, the folder where its label file may be, and labels if known.

    Raises
    ------
    DataNotFoundError
        If there is no such record; the message names those that are called alike.
    """
    if data is None:
        path = Path(os.path.normpath(absolute(name)))
        # A signal file means its header.
        tried = [path.with_suffix(".hea")] if path.suffix in (".mat", ".dat") else []
        tried += [path] if format_of(path) else []
        tried += [Path(f"{path}{ending}") for ending in _ENDINGS]
        for file in tried:
            if file.is_file():
                return file, file.parent, None
        raise DataNotFoundError(
            f"no recording {path}: give the path of a header (.hea), an EDF file (.edf) or another "
            f"({', '.join([*FORMATS][2:])}), with or without its ending, or the record's name and "
            "--data FOLDER"
        )
    found = find_records(data)
    paths = [path for path in found.headers if path.stem == name]
    if not paths:
        alike = difflib.get_close_matches(name, [path.stem for path in found.headers])
        raise DataNotFoundError(
            f"no record {name!r} among the {len(found.headers)} of {found.source}; "
            + (f"called alike: {', '.join(alike)}" if alike else f"one is {found.headers[0].stem}")
        )
    if len(paths) > 1:
        raise DataNotFoundError(
            f"several records are called {name!r}: {', '.join(map(str, paths))}. Give the path of "
            "one instead of --data"
        )
    return paths[0], found.root, found.labels


def _label_in(files: Sequence[Path], record: DigitalRecord) -> str | None:
    labels, _ = match_names(read_labels(*files), {record.id})
    return labels.by_id.get(record.id)


def _label(path: Path, root: Path, labels: str | None, record: DigitalRecord) -> str | None:
    if labels == HEADERS:
        return diagnoses(record.comments)
    if labels is not None:
        return _label_in([absolute(labels)], record)
    try:
        files = find_label_files([path], root)
        return _label_in(files, record) if files else diagnoses(record.comments)
    except DataNotFoundError:  # none, ambiguous, or no text: the record is shown all the same
        return None


def _part(record: Record, start_s: float, seconds: float | None, leads: Sequence[str]) -> Record:
    """Cut out the part that is drawn.

    Raises
    ------
    RecordError
        If the record has no such part or lead.
    """
    n_samples = len(record.signal)
    first = round(start_s * record.fs)
    if seconds is not None and not seconds > 0:
        raise RecordError(f"{seconds:g} s of record {record.id} show nothing: give more")
    if first >= n_samples:
        raise RecordError(
            f"record {record.id} is {n_samples / record.fs:.1f} s long; there is nothing to show "
            f"from {start_s:g} s on"
        )
    length = n_samples if seconds is None else max(1, round(seconds * record.fs))
    places = {lead.casefold(): place for place, lead in enumerate(record.leads)}
    if missing := [lead for lead in leads if lead.casefold() not in places]:
        raise RecordError(
            f"record {record.id} has no lead {', '.join(map(repr, missing))}; its leads are "
            f"{', '.join(record.leads)}"
        )
    columns = [places[lead.casefold()] for lead in leads] or list(range(len(record.leads)))
    return replace(
        record,
        signal=record.signal[first : first + length, columns],
        leads=tuple(record.leads[column] for column in columns),
    )
