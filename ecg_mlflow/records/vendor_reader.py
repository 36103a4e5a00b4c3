"""Read one recording of an ECG device with the package ecgdatakit, which comes with an extra.

DICOM waveforms (``.dcm``), HL7 aECG, GE MUSE and other XML, SCP-ECG (``.scp``), ISHNE (``.ecg``).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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

#: Of this ecgdatakit warns without a doubt about the signals: mean beats beside a recording.
_HARMLESS = "additional multiplex group(s)"


def read_vendor(path: Path, leads: Sequence[str] = ()) -> DigitalRecord:
    """Read a record in mV.

    Parameters
    ----------
    path
        The file; its content tells its format.
    leads
        The leads to read, see `choose_channels`.

    Raises
    ------
    RecordError
        If the file is damaged, in no known format or without a scale, its reader doubts it, or its
        leads differ in length.
    ExtraMissingError
        If ecgdatakit is not installed.
    """
    try:
        from ecgdatakit import FileParser
    except ImportError as error:
        raise ExtraMissingError(
            f"{path.suffix} files are read by the package ecgdatakit, which is not installed: "
            "pip install 'ecg_mlflow[formats]'"
        ) from error
    if is_special(path):
        raise RecordError(f"unreadable file: {path.name} is no regular file")
    try:
        with warnings.catch_warnings(record=True) as doubts:
            warnings.simplefilter("always")
            parsed = FileParser().parse(path).to_physical()
    except Exception as error:  # whatever a decoder comes upon in a damaged file
        raise RecordError(f"unreadable file: {path.name}: {error}") from error
    if said := [str(one.message) for one in doubts if _HARMLESS not in str(one.message)]:
        raise RecordError(f"doubtful file: {path.name}: {said[0]}")
    found, header = parsed.leads, parsed.raw_metadata
    channels = [Channel(one.label, one.units, _fs(one.sampling_rate, header)) for one in found]
    if not channels:
        raise RecordError(f"no signals: {path.name} has no leads")
    chosen = choose_channels(channels, leads, named_only=False)
    lengths = sorted({len(found[i].samples) for i in chosen})
    if len(lengths) > 1 or not lengths[0]:
        raise RecordError(f"leads of different lengths: {lengths} samples in {path.name}")
    # Of a truncated ISHNE file nothing is said; writers count the samples of one lead or of all.
    if (declared := header.get("ecg_size")) not in (None, lengths[0], lengths[0] * len(channels)):
        raise RecordError(
            f"truncated or oversized file: {path.name} has {lengths[0]} samples of "
            f"{len(channels)} leads, its header says {declared}"
        )
    per_mv = [units_per_millivolt(channels[i].name, channels[i].unit) for i in chosen]
    values: npt.NDArray[np.float64] = np.stack([found[i].samples for i in chosen], axis=1)
    signal = (values / per_mv).astype(np.float32)
    names = tuple(leads) or tuple(lead_name(channels[i].name) for i in chosen)
    record = DigitalRecord.from_millivolts(path.stem, signal, channels[chosen[0]].fs, names)
    return replace(record, ignored=other_channels(channels, chosen))


def _fs(rounded: int, header: Mapping[str, Any]) -> float:
    """Return the frequency that a DICOM or SCP-ECG file has, in Hz, which ecgdatakit rounds."""
    groups, interval = header.get("multiplex_groups"), header.get("rhythm_sample_interval_us")
    exact = groups[0]["sampling_frequency"] if groups else 1e6 / interval if interval else rounded
    return float(exact if round(exact) == rounded else rounded)
