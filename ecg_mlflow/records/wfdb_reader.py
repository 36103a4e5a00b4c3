"""Read one WFDB record, of one segment or several; errors name the fault of a bad record.

Headers: https://physionet.org/physiotools/wag/header-5.htm.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records.leads import (
    Channel,
    choose_channels,
    other_channels,
    units_per_millivolt,
)
from ecg_mlflow.records.record import DigitalRecord
from ecg_mlflow.records.wfdb_header import GAP, SignalLine, WfdbHeader, read_header
from ecg_mlflow.records.wfdb_signals import decode, import_wfdb

_INT16 = np.iinfo(np.int16)
# float32 represents integers exactly up to here.
_EXACT_IN_FLOAT32 = 2**24


def read_wfdb(path: Path, leads: Sequence[str] = ()) -> DigitalRecord:
    """Read a record as stored in its files.

    Leads with several samples per frame are read at their own, higher sampling frequency. A gain
    of 0, or a missing one, means 200 units per mV, as WFDB defines. Samples that WFDB marks as
    invalid, and gaps between segments, become NaN in mV. Skewed signals are cut to their common
    length. Segments are joined in mV.

    Parameters
    ----------
    path
        The ``.hea`` file.
    leads
        The leads to read, see `choose_channels`.

    Raises
    ------
    RecordError
        If the header is broken or names another record, a signal file is missing or unreadable,
        differs from the header in its size or checksum, the record has no samples, no ECG lead or
        not those asked for, or its segments don't fit together.
    """
    header = _own_header(path)
    if header.segments is not None:
        return _join(path, header, leads)
    channels = _channels(header)
    chosen = choose_channels(channels, leads, named_only=False)
    record = _read_signals(path, header, chosen)
    return replace(
        record,
        leads=tuple(leads) or record.leads,
        ignored=other_channels(channels, chosen),
    )


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


def _channels(header: WfdbHeader) -> list[Channel]:
    """Return the channels of a header; an unnamed one gets its number from 1."""
    return [
        Channel(one.description or f"lead {i + 1}", one.units, header.fs * one.per_frame)
        for i, one in enumerate(header.signals)
    ]


def _read_signals(
    path: Path, header: WfdbHeader, chosen: Sequence[int], join: int | None = None
) -> DigitalRecord:
    """Read and convert signals of one frequency; invalid samples become NaN.

    A segment, of which `join` is the length that its record expects, is always in mV.
    """
    signals = [header.signals[i] for i in chosen]
    channels = _channels(header)
    leads = tuple(channels[i].name for i in chosen)
    decoded = decode(path, header)
    if join not in (None, len(decoded[chosen[0]])):
        raise RecordError(
            f"segment unlike its record: {path.stem} has {len(decoded[chosen[0]])} samples of "
            f"leads {', '.join(leads)}; expected are {join}"
        )
    digital = _aligned(signals, [decoded[i] for i in chosen])
    known = import_wfdb().io._signal.INVALID_SAMPLE_VALUE
    marks = [_INT16.min - 1 if (mark := known[one.fmt]) is None else mark for one in signals]
    lowest, highest = digital.min(), digital.max()
    missing = digital == np.array(marks, digital.dtype) if lowest <= max(marks) else None
    per_mv = list(map(units_per_millivolt, leads, [one.units for one in signals]))
    gain = np.array([one.gain for one in signals]) * np.array(per_mv)
    baseline = np.array([one.baseline for one in signals], np.float64)
    as_stored = (
        join is None
        and (missing is None or not missing.any())
        and lowest >= _INT16.min
        and highest <= _INT16.max
        and np.abs(baseline).max() <= _EXACT_IN_FLOAT32
    )
    samples: Any = digital.astype(np.int16, copy=False)
    if not as_stored:
        samples = ((digital - baseline) / gain).astype(np.float32)
        if missing is not None:
            samples[missing] = np.nan
        gain, baseline = np.ones_like(gain), np.zeros_like(baseline)
    scale = gain.astype(np.float32), baseline.astype(np.float32)
    fs = header.fs * signals[0].per_frame
    return DigitalRecord(path.stem, fs, leads, samples, *scale, header.comments)


def _aligned(
    signals: Sequence[SignalLine], samples: Sequence[npt.NDArray[np.integer[Any]]]
) -> npt.NDArray[np.integer[Any]]:
    """Shift skewed signals in time and cut all to the length that they share."""
    starts = [one.skew * one.per_frame for one in signals]
    n_samples = min(map(len, samples)) - max(starts)
    if n_samples < 1:
        raise RecordError(f"no samples: a skew of {max(one.skew for one in signals)} leaves none")
    cut = [one[start : start + n_samples] for one, start in zip(samples, starts, strict=True)]
    return np.stack(cut, axis=1)


def _join(path: Path, header: WfdbHeader, leads: Sequence[str]) -> DigitalRecord:
    """Join the segments that a header lists, in mV; gaps and leads that a segment lacks are NaN."""
    segments = header.segments or ()
    inner = {name: _segment_header(path, name) for name, _ in segments if name != GAP}
    with_samples = {name: inner[name] for name, length in segments if length and name != GAP}
    if not with_samples:
        raise RecordError("no samples: the record's segments have none")
    total = sum(length for _, length in segments)
    if header.n_frames not in (None, total):
        raise RecordError(
            f"broken header: its segments have {total} samples, it declares {header.n_frames}"
        )
    parts = {name: _channels(one) for name, one in with_samples.items()}
    # A first segment without samples is the layout, which lists the channels of all others.
    listed = _channels(inner[segments[0][0]]) if not segments[0][1] else next(iter(parts.values()))
    if len(listed) != header.n_signals:
        found = f"its segments have {len(listed)} signals"
        raise RecordError(f"broken header: {found}, it declares {header.n_signals}")
    known = {one.name: one for channels in [*parts.values()][::-1] for one in channels[::-1]}
    channels = [known.get(one.name, one) for one in listed]
    chosen = choose_channels(channels, leads, named_only=False)
    fs, per_frame = channels[chosen[0]].fs, round(channels[chosen[0]].fs / header.fs)
    names = [channels[i].name for i in chosen]
    signal = np.full((total * per_frame, len(chosen)), np.nan, np.float32)
    end = 0
    for name, length in segments:
        start, end = end, end + length * per_frame
        if name not in parts:
            continue
        columns = _columns(name, parts[name], listed, chosen)
        present = [column for column in columns if column is not None]
        for channel in (parts[name][column] for column in present):
            if channel.fs != fs or per_frame * header.fs != fs:
                raise RecordError(
                    f"segment unlike its record: {name} has {channel}; expected is {fs:g} Hz, a "
                    f"multiple of {header.fs:g} Hz"
                )
        if not present:
            continue
        part = _read_signals(path.parent / f"{name}.hea", inner[name], present, join=end - start)
        signal[start : start + len(part.samples), [c is not None for c in columns]] = part.samples
    joined = DigitalRecord.from_millivolts(path.stem, signal, fs, tuple(leads) or tuple(names))
    ignored = other_channels(channels, chosen)
    return replace(joined, comments=header.comments, ignored=ignored)


def _segment_header(path: Path, name: str) -> WfdbHeader:
    """Read the header of a record's segment."""
    header = _own_header(path.parent / f"{name}.hea")
    if header.segments is not None:
        raise RecordError(f"broken header: its segment {name} has segments itself")
    return header


def _columns(
    segment: str, found: Sequence[Channel], listed: Sequence[Channel], chosen: Sequence[int]
) -> list[int | None]:
    """Return where a segment has the chosen ones of its record's channels, None for one it lacks.

    They are found by their names, as the order may be another one.
    """
    names, expected = [one.name for one in found], [one.name for one in listed]
    if names == expected:
        return list(chosen)
    if not {*names} <= {*expected} or len({*names}) < len(names):
        raise RecordError(
            f"segment unlike its record: {segment} has leads {', '.join(names)}; expected are "
            f"those of {', '.join(expected)}, each once"
        )
    return [names.index(expected[i]) if expected[i] in names else None for i in chosen]
