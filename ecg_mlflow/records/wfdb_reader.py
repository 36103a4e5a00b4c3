"""Read one WFDB record with the wfdb package; errors name the fault of a bad record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records.record import DigitalRecord, units_per_millivolt
from ecg_mlflow.records.wfdb_header import (
    WFDB_ERRORS,
    Header,
    as_wfdb_reads_it,
    checked,
    error_text,
    import_wfdb,
    is_segmented,
    lead_names,
    rdheader,
    record_files,
)

_INVALID_SAMPLE = {
    **dict.fromkeys(("80", "508"), -(2**7)),
    **dict.fromkeys(("310", "311"), -(2**9)),
    "212": -(2**11),
    **dict.fromkeys(("16", "61", "160", "516"), -(2**15)),
    **dict.fromkeys(("24", "524"), -(2**23)),
    "32": -(2**31),
}
_INT16 = np.iinfo(np.int16)
# float32 represents integers exactly up to here.
_EXACT_IN_FLOAT32 = 2**24


def read_wfdb_digital(path: str | Path, *, keep_invalid: bool = False) -> DigitalRecord:
    """Read a record as stored in its files.

    Leads with several samples per frame are read at their own, higher sampling frequency. A gain
    of 0, or a missing one, means 200 units per mV, as WFDB defines.

    Parameters
    ----------
    path
        The ``.hea`` file.
    keep_invalid
        Whether samples that WFDB marks as invalid become NaN in mV; otherwise they are an error.

    Raises
    ------
    RecordError
        If the header is broken or names another record, a signal file is missing, truncated
        or unreadable, the record has no samples or invalid ones, its leads have different
        sampling frequencies, or a lead isn't a voltage.
    """
    path = Path(path)
    with as_wfdb_reads_it(path) as name:
        segmented = is_segmented(path)
        try:
            if segmented:
                read = import_wfdb().rdrecord(name, physical=True, return_res=64)
            else:
                read = import_wfdb().rdrecord(
                    name, physical=False, smooth_frames=False, return_res=32
                )
        except WFDB_ERRORS as error:
            # A fault in the header explains the cause better than wfdb's exception.
            checked(path, rdheader(name))
            raise RecordError(f"unreadable signal file: {error_text(error)}") from error
        if segmented:
            files = record_files(path, rdheader(name))
            return _from_segments(path, read, files, keep_invalid=keep_invalid)
        return _from_signals(path, read, keep_invalid=keep_invalid)


def _from_signals(path: Path, read: Any, *, keep_invalid: bool) -> DigitalRecord:
    """Check and convert a record of one segment that wfdb read."""
    header = checked(path, read)
    digital = np.stack(read.e_d_signal, axis=1)
    invalid = np.array([_INVALID_SAMPLE.get(fmt, _INT16.min - 1) for fmt in read.fmt])
    missing = digital == invalid
    if not keep_invalid:
        _refuse_invalid(missing, header.leads)
    per_mv = np.array([units_per_millivolt(lead, unit) for lead, unit in _lead_units(header)])
    gain, baseline = np.asarray(read.adc_gain) * per_mv, np.asarray(read.baseline, np.float64)
    as_stored = (
        not missing.any()
        and digital.min() >= _INT16.min
        and digital.max() <= _INT16.max
        and np.abs(baseline).max() <= _EXACT_IN_FLOAT32
    )
    physical = None if as_stored else ((digital - baseline) / gain).astype(np.float32)
    if physical is not None:
        physical[missing] = np.nan
    return DigitalRecord(
        id=header.id,
        fs=header.fs,
        leads=header.leads,
        digital=digital.astype(np.int16) if as_stored else None,
        physical=physical,
        gain=(gain if as_stored else np.ones_like(gain)).astype(np.float32),
        baseline=(baseline if as_stored else np.zeros_like(baseline)).astype(np.float32),
        units=header.units,
        files=header.files,
        comments=tuple(read.comments or ()),
    )


def _from_segments(
    path: Path, read: Any, files: tuple[Path, ...], *, keep_invalid: bool
) -> DigitalRecord:
    """Check and convert segments that wfdb joined in physical units: gains may differ."""
    header = Header(
        path.stem, float(read.fs), read.sig_len, lead_names(read), tuple(read.units), files
    )
    if not keep_invalid:
        _refuse_invalid(np.isnan(read.p_signal), header.leads)
    per_mv = np.array([units_per_millivolt(lead, unit) for lead, unit in _lead_units(header)])
    ones = np.ones(len(per_mv), np.float32)
    return DigitalRecord(
        id=header.id,
        fs=header.fs,
        leads=header.leads,
        digital=None,
        physical=(read.p_signal / per_mv).astype(np.float32),
        gain=ones,
        baseline=np.zeros_like(ones),
        units=header.units,
        files=files,
        comments=tuple(read.comments or ()),
    )


def _refuse_invalid(invalid: NDArray[np.bool_], leads: tuple[str, ...]) -> None:
    if invalid.any():
        first, lead = np.argwhere(invalid)[0]
        raise RecordError(
            f"NaN among the samples: {int(invalid.any(axis=1).sum())} of {len(invalid)} samples, "
            f"the first is number {first} of lead {leads[lead]!r}"
        )


def _lead_units(header: Header) -> Iterator[tuple[str, str]]:
    return zip(header.leads, header.units, strict=True)
