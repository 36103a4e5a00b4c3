"""Read one WFDB record with the wfdb package; errors name the fault of a bad record.

Header and signal formats: https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm.
Checksums and initial values are ignored: those of the CinC 2017 Challenge are known to be wrong.
"""

from __future__ import annotations

import functools
import math
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ecg_mlflow.errors import RecordError, StorageFullError
from ecg_mlflow.records.record import DigitalRecord, units_per_millivolt

# Exceptions that wfdb raises for broken headers and signal files; RuntimeError comes from
# soundfile, MemoryError from an absurd length in a header.
_WFDB_ERRORS = (
    *(ValueError, LookupError, TypeError, AttributeError, OSError),
    *(RuntimeError, ArithmeticError, MemoryError),
)
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
    StorageFullError
        If wfdb needs a copy of the header, and that can't be written.
    """
    segmented = _is_segmented(header_lines(_header_text(path)))
    return _join_segments(path) if segmented else _read_signals(path)


def wfdb_files(path: Path) -> tuple[Path, ...]:
    """Return a header and the files that it names, those of its segments included.

    They may be missing; what is wrong with the header is of no concern here.
    """
    try:
        lines = header_lines(_header_text(path))
    except RecordError:
        return (path,)
    names = dict.fromkeys(line.split()[0] for line in lines[1:])
    if not _is_segmented(lines):
        return (path, *(path.parent / name for name in names if name != "~"))
    segments = [path.parent / f"{name}.hea" for name in names if name not in ("~", path.stem)]
    return tuple(dict.fromkeys([path, *(file for each in segments for file in wfdb_files(each))]))


def _read_signals(path: Path, *, in_millivolts: bool = False) -> DigitalRecord:
    """Read, check and convert a record of one segment; invalid samples become NaN."""
    read = _read(path)
    leads = _lead_names(read)
    digital = np.stack(read.e_d_signal, axis=1)
    marks = import_wfdb().io._signal.INVALID_SAMPLE_VALUE
    missing = digital == [marks.get(fmt) or _INT16.min - 1 for fmt in read.fmt]
    per_mv = np.array(list(map(units_per_millivolt, leads, read.units)))
    gain, baseline = np.asarray(read.adc_gain) * per_mv, np.asarray(read.baseline, np.float64)
    fs = float(read.fs * (read.samps_per_frame[0] or 1))
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
    return DigitalRecord(path.stem, fs, leads, samples, *scale, tuple(read.comments))


def _join_segments(path: Path) -> DigitalRecord:
    """Join the segments that a header lists, in mV; gaps and leads that a segment lacks are NaN."""
    read = _read(path, signals=False)
    parts: dict[str, DigitalRecord] = {}
    leads: tuple[str, ...] = ()
    fs, per_frame = read.fs, 1
    for name, length in zip(read.seg_name, read.seg_len, strict=True):
        header = path.parent / f"{name}.hea"
        if name != "~" and not length:  # the layout lists the leads of all segments
            leads = _lead_names(_read(header, signals=False))
        elif name != "~":
            part = _read_signals(header, in_millivolts=True)
            if not parts:
                leads, fs, per_frame = leads or part.leads, part.fs, round(part.fs / read.fs)
            n_samples = length * per_frame
            if (len(part.samples), part.fs) != (n_samples, fs) or not {*part.leads} <= {*leads}:
                raise RecordError(
                    f"segment unlike its record: {name} has {len(part.samples)} samples at "
                    f"{part.fs:g} Hz of leads {', '.join(part.leads)}; expected are {n_samples} "
                    f"at {fs:g} Hz of {', '.join(leads)}"
                )
            parts[name] = part
    signal = np.full((sum(read.seg_len) * per_frame, len(leads)), np.nan, np.float32)
    if not signal.size:
        raise RecordError("no samples: the record's segments have none")
    for name, end in zip(read.seg_name, np.cumsum(read.seg_len) * per_frame, strict=True):
        if name in parts:
            part = parts[name]
            same = part.leads == leads
            columns = slice(None) if same else [leads.index(lead) for lead in part.leads]
            signal[end - len(part.samples) : end, columns] = part.samples
    joined = DigitalRecord.from_millivolts(path.stem, signal, float(fs), leads)
    return replace(joined, comments=tuple(read.comments))


def _read(path: Path, *, signals: bool = True) -> Any:
    """Let wfdb read a record, or its header alone; or a copy of the header that wfdb can read.

    wfdb 4.3 raises for a date that isn't day/month/year, and drops characters that aren't ASCII, so
    it would read µV as V. The copy has neither, and lies beside links to the signal files.
    """
    text = _header_text(path)
    record_line = header_lines(text)[0]
    plain = text.replace("µ", "u").replace("μ", "u")
    undated = plain.replace(record_line, " ".join(record_line.split()[:4]), 1)
    if plain == text:
        try:
            return _call_wfdb(path, signals)
        except RecordError:
            if undated == text:
                raise
    try:
        with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as folder:
            copy = Path(folder, path.name)
            copy.write_text(undated, encoding="ascii", errors="replace")
            for file in wfdb_files(path)[1:]:
                if file.is_file():
                    copy.with_name(file.name).symlink_to(file.resolve())
            return _call_wfdb(copy, signals)
    except OSError as error:
        # It isn't the record that is bad.
        raise StorageFullError(
            f"can't copy {path} without its date and characters like µ, as wfdb needs it: {error}. "
            "Name a folder with room by the environment variable TMPDIR"
        ) from error


def _call_wfdb(path: Path, signals: bool) -> Any:
    """Turn wfdb's exceptions into a RecordError, and check the header against the signal files."""
    name = str(path.with_suffix(""))
    try:
        if signals:
            options = {"physical": False, "smooth_frames": False, "return_res": 32}
            read = import_wfdb().rdrecord(name, **options)
        else:
            read = import_wfdb().rdheader(name)
    except _WFDB_ERRORS as error:
        kind = "broken header"
        if signals:
            # A fault in the header explains the cause better than wfdb's exception.
            _check_signal_files(path, _call_wfdb(path, signals=False))
            kind = "unreadable signal file"
        raise RecordError(f"{kind}: {str(error) or type(error).__name__}") from error
    if read.record_name != path.stem:
        raise RecordError(f"header of another record: it names {read.record_name!r}")
    if not read.fs > 0:
        raise RecordError(f"broken header: a sampling frequency of {read.fs} Hz")
    if signals:
        _check_signal_files(path, read)
    return read


def _check_signal_files(path: Path, read: Any) -> None:
    """Raise a RecordError if the header that wfdb read disagrees with itself or the files."""
    names = list(getattr(read, "file_name", None) or ())  # a segment must not have segments
    if read.n_sig != len(names) or not names:
        raise RecordError(
            f"broken header: it declares {read.n_sig} leads and describes {len(names)}"
        )
    per_frame = sorted({number or 1 for number in read.samps_per_frame})
    if len(per_frame) > 1:
        rates = ", ".join(f"{read.fs * number:g} Hz" for number in per_frame)
        raise RecordError(f"leads of different sampling frequencies: {rates}")
    if read.sig_len == 0:
        raise RecordError("no samples: the record's length is 0")
    for name in dict.fromkeys(names):
        file, first = path.parent / name, names.index(name)
        if not file.is_file():
            raise RecordError(f"missing signal file: {name}")
        size = file.stat().st_size
        if not size:
            raise RecordError(f"no samples: {name} is empty")
        # The length may be left to the file's size; compressed formats have no fixed width.
        width = import_wfdb().io._signal.BYTES_PER_SAMPLE.get(read.fmt[first]) or 0
        n_samples = (read.sig_len or 0) * per_frame[0] * names.count(name)
        expected = (read.byte_offset[first] or 0) + math.ceil(n_samples * width)
        if size < expected and read.sig_len:
            raise RecordError(
                f"truncated signal file: {name} has {size} bytes, the header requires {expected}"
            )


def _lead_names(read: Any) -> tuple[str, ...]:
    """Return the leads' names; an unnamed lead gets its number from 1."""
    return tuple(name or f"lead {i + 1}" for i, name in enumerate(read.sig_name))


def _is_segmented(lines: list[str]) -> bool:
    """Return whether a record is a list of segments: its header starts with ``name/2``."""
    return "/" in lines[0].split()[0]


def _header_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(f"unreadable header: {path.name}: {error.strerror}") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def header_lines(text: str) -> list[str]:
    """Return a header's lines without comments.

    Raises
    ------
    RecordError
        There is none.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise RecordError("broken header: it is empty")
    return lines
