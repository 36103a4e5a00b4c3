"""Read one EDF, EDF+ or BDF file with the edfio package; errors name the fault of a bad file.

Formats: https://www.edfplus.info/specs/edf.html, edfplus.html and bdf.html. The formats don't mark
invalid samples; `_missing` says which are taken for such.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import ExtraMissingError, RecordError
from ecg_mlflow.files import is_special
from ecg_mlflow.records.leads import (
    Channel,
    choose_channels,
    lead_name,
    other_channels,
    units_per_millivolt,
)
from ecg_mlflow.records.record import DigitalRecord

if TYPE_CHECKING:
    from edfio import BdfSignal, EdfSignal

#: Where the header has the numbers of data records and signals, and the seconds of a data record.
_N_DATA_RECORDS, _SECONDS, _N_SIGNALS = slice(236, 244), slice(244, 252), slice(252, 256)
#: Bytes of a signal's header, and those in front of its samples per data record.
_A_SIGNAL, _IN_FRONT = 256, 216
#: Signals that hold annotations; their first in each data record is its onset in s.
_ANNOTATIONS, _ONSET = (b"EDF Annotations", b"BDF Annotations"), re.compile(rb"^([+-][0-9.]+)\x14")
#: How much longer than its samples a recording with gaps may be: an onset may be anything.
_LONGEST = 1000
#: Bytes by which a file may be longer than its samples.
_PADDING = 4


def read_edf(path: Path, leads: Sequence[str] = ()) -> DigitalRecord:
    """Read a record as stored in its EDF or BDF file.

    The leads are the signals whose labels name an ECG or one of its leads; without such a label,
    all voltages that are not named otherwise. Annotations are ignored. What is missing becomes NaN
    in mV: gaps between data records (EDF+D), samples outside the range that the header declares,
    and fill values: the lowest value, if it is farther below all others than these lie apart.

    Parameters
    ----------
    path
        The ``.edf`` or ``.bdf`` file.
    leads
        The leads to read, see `choose_channels`.

    Raises
    ------
    RecordError
        If the file is broken, or has another size than its header describes, or its leads
        have different sampling frequencies, no scale, or a unit that is not a voltage.
    ExtraMissingError
        If edfio is not installed.
    """
    try:
        import edfio
    except ImportError as error:
        raise ExtraMissingError(
            "EDF files are read by the package edfio, which is not installed: "
            "pip install 'ecg_mlflow[edf]'"
        ) from error
    if is_special(path):
        raise RecordError(f"unreadable EDF file: {path.name} is no regular file")
    seconds = None
    is_bdf = path.suffix.lower() == ".bdf"
    try:
        with path.open("rb") as file:
            head = file.read(_N_SIGNALS.stop)
            declared = _number("number of data records", head[_N_DATA_RECORDS])
            seconds = _number("duration of a data record", head[_SECONDS])
            n_signals = int(_number("number of signals", head[_N_SIGNALS]))
            header = file.read(_A_SIGNAL * n_signals)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # edfio warns of truncation only, and corrects itself
            read: Any = edfio.read_bdf if is_bdf else edfio.read_edf
            # A micro sign in UTF-8 becomes two characters, which are known.
            edf = read(path, header_encoding="latin-1")
        if edf.num_data_records < declared:
            raise RecordError(
                f"truncated EDF file: it has {edf.num_data_records} whole data records, its header "
                f"requires {declared:g}"
            )
        ends = header[_IN_FRONT * n_signals :]
        widths = [int(ends[8 * i : 8 * i + 8]) * (3 if is_bdf else 2) for i in range(n_signals)]
        expected = edf.bytes_in_header_record + declared * sum(widths)
        if declared >= 0 and (size := path.stat().st_size) > expected + _PADDING:
            raise RecordError(
                f"oversized EDF file: it has {size} bytes, its header requires {expected:g}"
            )
        record = _record(path, edf.signals, leads)
        if edf.is_continuous:
            return record
        names = [header[16 * i : 16 * i + 16].strip() for i in range(n_signals)]
        clock = next(i for i, name in enumerate(names) if name in _ANNOTATIONS)
        data = np.fromfile(path, np.uint8, offset=edf.bytes_in_header_record)
        records = data[: edf.num_data_records * sum(widths)].reshape(-1, sum(widths))
        marks = records[:, sum(widths[:clock]) : sum(widths[: clock + 1])]
        return _with_gaps(record, [float(_ONSET.findall(one.tobytes())[0]) for one in marks])
    except RecordError:
        raise
    except Exception as error:  # whatever edfio comes upon in a damaged file
        why = str(error) or type(error).__name__
        if seconds is not None and seconds <= 0:  # for annotations alone it may be 0
            why = f"its data records last {seconds:g} s"
        raise RecordError(f"unreadable EDF file: {why}") from error


def _number(name: str, text: bytes) -> float:
    """Read a number of the header."""
    if not re.fullmatch(rb" *[+-]?[0-9]+(\.[0-9]*)? *", text):
        met = text.decode("latin-1").strip()
        raise RecordError(f"unreadable EDF file: its header says {met!r} for the {name}")
    return float(text)


def _record(
    path: Path, signals: Sequence[EdfSignal | BdfSignal], leads: Sequence[str]
) -> DigitalRecord:
    """Check and convert the signals; edfio reads their samples here."""
    if not signals:
        raise RecordError("no signals: the EDF file holds annotations only")
    channels = [
        Channel(one.label.strip(), one.physical_dimension.strip(), one.sampling_frequency)
        for one in signals
    ]
    chosen = choose_channels(channels, leads, named_only=True)
    fs = channels[chosen[0]].fs
    if not 0 < fs < float("inf"):
        raise RecordError(f"no sampling frequency: the header gives {fs:g} Hz")
    names = tuple(leads) or tuple(lead_name(channels[i].name) for i in chosen)
    taken = [signals[i] for i in chosen]
    scales = np.array([_scale(lead, one) for lead, one in zip(names, taken, strict=True)])
    digital: npt.NDArray[Any] = np.stack([one.digital for one in taken], axis=1)
    if not len(digital):
        raise RecordError("no samples: the EDF file has no data records")
    missing = np.stack([_missing(one) for one in taken], axis=1)
    ignored = other_channels(channels, chosen)
    if digital.dtype == np.int16 and not missing.any():
        gain, baseline = scales.astype(np.float32).T
        return DigitalRecord(path.stem, fs, names, digital, gain, baseline, ignored=ignored)
    signal = ((digital - scales[:, 1]) / scales[:, 0]).astype(np.float32)
    signal[missing] = np.nan
    return replace(DigitalRecord.from_millivolts(path.stem, signal, fs, names), ignored=ignored)


def _with_gaps(record: DigitalRecord, onsets: Sequence[float]) -> DigitalRecord:
    """Put the data records of a discontinuous file where they begin, in s; between them is NaN."""
    n_samples = len(record.samples) // len(onsets)
    starts = np.rint((np.array(onsets) - onsets[0]) * record.fs).astype(np.int64)
    total = int(starts[-1]) + n_samples
    if (np.diff(starts) < n_samples).any() or total > _LONGEST * len(record.samples):
        raise RecordError(
            f"data records out of order: {len(onsets)} of {n_samples / record.fs:g} s each, "
            f"from {onsets[0]:g} to {onsets[-1]:g} s"
        )
    signal = np.full((total, len(record.leads)), np.nan, np.float32)
    for start, part in zip(starts, np.split(record.millivolts(), len(onsets)), strict=True):
        signal[start : start + n_samples] = part
    whole = DigitalRecord.from_millivolts(record.id, signal, record.fs, record.leads)
    return replace(whole, ignored=record.ignored)


def _missing(signal: EdfSignal | BdfSignal) -> npt.NDArray[np.bool_]:
    """Return which samples are outside the declared range, or fill values."""
    samples = signal.digital
    low, high = sorted(signal.digital_range)
    missing = (samples < low) | (samples > high)
    lowest = samples.min()
    others = samples[samples > lowest]
    if lowest == low and len(others):
        below, above = int(others.min()), int(others.max())
        if below - int(lowest) > above - below > 0:
            missing |= samples == lowest
    return missing


def _scale(lead: str, signal: EdfSignal | BdfSignal) -> tuple[float, float]:
    """Return a lead's units per mV, and its value at 0 mV, which may be a fraction."""
    per_millivolt = units_per_millivolt(lead, signal.physical_dimension)
    low, high = signal.physical_min, signal.physical_max
    steps = signal.digital_max - signal.digital_min
    if high == low or not steps:
        raise RecordError(
            f"no scale: lead {lead!r} has the physical range {low:g} to {high:g} for the digital "
            f"range {signal.digital_min} to {signal.digital_max}"
        )
    per_unit = steps / (high - low)
    return per_unit * per_millivolt, signal.digital_min - low * per_unit
