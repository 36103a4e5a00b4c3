"""Read one WFDB record with the wfdb package; errors name the fault of a bad record.

Header and signal formats: https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm.
Checksums and initial values are ignored: those of the CinC 2017 Challenge are known to be wrong.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import RecordError
from ecg_mlflow.files import is_special
from ecg_mlflow.records.record import DigitalRecord, units_per_millivolt
from ecg_mlflow.records.wfdb_header import GAP, SignalLine, WfdbHeader, read_header

_INT16 = np.iinfo(np.int16)
# float32 represents integers exactly up to here.
_EXACT_IN_FLOAT32 = 2**24


@functools.cache
def import_wfdb() -> ModuleType:
    """Import wfdb at first use: with pandas it takes half a second."""
    with warnings.catch_warnings():
        # wfdb 4.3 builds its tables with pandas calls that pandas 3 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        import wfdb
    return wfdb  # type: ignore[no-any-return, unused-ignore]


def read_wfdb(path: Path) -> DigitalRecord:
    """Read a record as stored in its files.

    Leads with several samples per frame are read at their own, higher sampling frequency. A gain
    of 0, or a missing one, means 200 units per mV, as WFDB defines. Samples that WFDB marks as
    invalid, and gaps between segments, become NaN in mV. Segments are joined in mV.

    Parameters
    ----------
    path
        The ``.hea`` file.

    Raises
    ------
    RecordError
        If the header is broken or names another record, a signal file is missing, truncated
        or unreadable, the record has no samples, its leads have different sampling frequencies,
        its segments have different leads, or a lead isn't a voltage.
    """
    header = _own_header(path)
    return _read_signals(path, header) if header.segments is None else _join(path, header)


def wfdb_files(path: Path) -> tuple[Path, ...]:
    """Return a header and the files that it names, those of its segments included.

    They may be missing; what is wrong with the header is of no concern here.
    """
    found = [path]
    with suppress(RecordError):
        header = read_header(path)
        found += [path.parent / one.file for one in header.signals]
        for name, _ in header.segments or ():
            segment = path.parent / f"{name}.hea"
            found.append(segment)
            with suppress(RecordError):
                found += [path.parent / one.file for one in read_header(segment).signals]
    return tuple(file for file in dict.fromkeys(found) if file.stem != GAP)


def _own_header(path: Path) -> WfdbHeader:
    """Read a record's header, and check that it is the record's."""
    header = read_header(path)
    # Some data sets write the signal file's name there.
    if path.stem not in (header.name, Path(header.name).stem):
        raise RecordError(f"header of another record: it names {header.name!r}")
    return header


def _read_signals(path: Path, header: WfdbHeader, *, in_millivolts: bool = False) -> DigitalRecord:
    """Read, check and convert a record of one segment; invalid samples become NaN."""
    signals = header.signals
    per_frame = _check_signal_files(path, header)
    leads = _lead_names(header)
    digital = np.stack(_decode(path, header), axis=1)
    marks = import_wfdb().io._signal.INVALID_SAMPLE_VALUE
    missing = digital == [marks.get(one.fmt) or _INT16.min - 1 for one in signals]
    per_mv = list(map(units_per_millivolt, leads, [one.units for one in signals]))
    gain = np.array([one.gain for one in signals]) * np.array(per_mv)
    baseline = np.array([one.baseline for one in signals], np.float64)
    as_stored = (
        not in_millivolts
        and not missing.any()
        and digital.min() >= _INT16.min
        and digital.max() <= _INT16.max
        and np.abs(baseline).max() <= _EXACT_IN_FLOAT32
    )
    samples: Any = digital.astype(np.int16)
    if not as_stored:
        samples = ((digital - baseline) / gain).astype(np.float32)
        samples[missing] = np.nan
        gain, baseline = np.ones_like(gain), np.zeros_like(baseline)
    scale = gain.astype(np.float32), baseline.astype(np.float32)
    fs = header.fs * per_frame
    return DigitalRecord(path.stem, fs, leads, samples, *scale, header.comments)


def _join(path: Path, header: WfdbHeader) -> DigitalRecord:
    """Join the segments that a header lists, in mV; gaps and leads that a segment lacks are NaN."""
    segments = header.segments or ()
    parts: dict[str, DigitalRecord] = {}
    leads: tuple[str, ...] = ()
    fs, per_frame = header.fs, 1
    for name, length in segments:
        if name == GAP:
            continue
        file = path.parent / f"{name}.hea"
        inner = _own_header(file)
        if inner.segments is not None:
            raise RecordError(f"broken header: its segment {name} has segments itself")
        if not length:  # the layout lists the leads of all segments
            leads = _lead_names(inner)
            continue
        part = _read_signals(file, inner, in_millivolts=True)
        if not parts:
            leads, fs, per_frame = leads or part.leads, part.fs, round(part.fs / header.fs)
        n_samples = length * per_frame
        if (len(part.samples), part.fs) != (n_samples, fs) or not {*part.leads} <= {*leads}:
            raise RecordError(
                f"segment unlike its record: {name} has {len(part.samples)} samples at "
                f"{part.fs:g} Hz of leads {', '.join(part.leads)}; expected are {n_samples} "
                f"at {fs:g} Hz of {', '.join(leads)}"
            )
        parts[name] = part
    lengths = [length * per_frame for _, length in segments]
    if not parts:
        raise RecordError("no samples: the record's segments have none")
    signal = np.full((sum(lengths), len(leads)), np.nan, np.float32)
    for (name, _), end in zip(segments, np.cumsum(lengths), strict=True):
        if name in parts:
            part = parts[name]
            same = part.leads == leads
            columns = slice(None) if same else [leads.index(lead) for lead in part.leads]
            signal[end - len(part.samples) : end, columns] = part.samples
    joined = DigitalRecord.from_millivolts(path.stem, signal, fs, leads)
    return replace(joined, comments=header.comments)


def _decode(path: Path, header: WfdbHeader) -> Sequence[npt.NDArray[np.integer[Any]]]:
    """Let wfdb decode the signal files of a header; one array for each signal.

    Its own reader of headers isn't asked: that passes over what it doesn't understand.
    """
    signals = header.signals
    names = [one.file for one in signals]
    first = signals[0]
    try:
        decoder = import_wfdb().io._signal
        n_frames = header.n_frames
        if n_frames is None:
            a_frame = sum(one.per_frame for one in signals if one.file == first.file)
            n_frames = decoder._infer_sig_len(
                first.file, first.fmt, a_frame, first.offset, str(path.parent), None
            )
        found: Sequence[npt.NDArray[np.integer[Any]]] = decoder._rd_segment(
            file_name=names,
            dir_name=str(path.parent),
            pn_dir=None,
            fmt=[one.fmt for one in signals],
            n_sig=len(signals),
            sig_len=n_frames,
            byte_offset=[one.offset for one in signals],
            samps_per_frame=[one.per_frame for one in signals],
            skew=[one.skew for one in signals],
            init_value=[one.initial for one in signals],
            sampfrom=0,
            sampto=n_frames,
            channels=list(range(len(signals))),
            ignore_skew=False,
        )
    except Exception as error:  # whatever a decoder comes upon in a damaged file
        raise RecordError(
            f"unreadable signal file: {names[0]}: {str(error) or type(error).__name__}"
        ) from error
    return found


def _check_signal_files(path: Path, header: WfdbHeader) -> int:
    """Check that the signal files are what the header describes; return the samples per frame.

    Raises
    ------
    RecordError
        If they aren't.
    """
    per_frame = sorted({one.per_frame for one in header.signals})
    if len(per_frame) > 1:
        rates = ", ".join(f"{header.fs * number:g} Hz" for number in per_frame)
        raise RecordError(f"leads of different sampling frequencies: {rates}")
    if header.n_frames == 0:
        raise RecordError("no samples: the record's length is 0")
    by_file: dict[str, list[SignalLine]] = {}
    for one in header.signals:
        by_file.setdefault(one.file, []).append(one)
    widths = import_wfdb().io._signal.BYTES_PER_SAMPLE
    for name, signals in by_file.items():
        file = path.parent / name
        if is_special(file):
            raise RecordError(f"unreadable signal file: {name} is no regular file")
        if not file.exists():
            raise RecordError(f"missing signal file: {name}")
        size = file.stat().st_size
        if not size:
            raise RecordError(f"no samples: {name} is empty")
        # The length may be left to the file's size; compressed formats have no fixed width.
        width = widths.get(signals[0].fmt) or 0
        n_samples = (header.n_frames or 0) * per_frame[0] * len(signals)
        expected = signals[0].offset + math.ceil(n_samples * width)
        if size < expected and header.n_frames:
            raise RecordError(
                f"truncated signal file: {name} has {size} bytes, the header requires {expected}"
            )
    return per_frame[0]


def _lead_names(header: WfdbHeader) -> tuple[str, ...]:
    """Return the leads' names; an unnamed lead gets its number from 1."""
    return tuple(one.description or f"lead {i + 1}" for i, one in enumerate(header.signals))
