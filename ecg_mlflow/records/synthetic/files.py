"""The files of a made-up record, as in the Challenges: a WFDB header and a MATLAB-v4 file."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.records.synthetic.recording import UNITS_PER_MV, Recording

_MAT_HEADER_BYTES = 24


def write_files(
    folder: Path, name: str, recording: Recording, fs: float, comments: Iterable[str]
) -> None:
    """Write a record's header and signal file.

    Parameters
    ----------
    folder
        Where to.
    name
        Of the record.
    recording
        Its samples and leads.
    fs
        Sampling frequency in Hz.
    comments
        The header's last lines, each with its ``#``.
    """
    (folder / f"{name}.hea").write_bytes(_header(name, recording, fs, comments))
    (folder / f"{name}.mat").write_bytes(_mat_v4(recording.samples))


def _header(name: str, recording: Recording, fs: float, comments: Iterable[str]) -> bytes:
    samples = recording.samples
    n_samples, n_leads = samples.shape
    lines = [f"{name} {n_leads} {fs:g} {n_samples}"]
    for lead, column in zip(recording.leads, samples.T, strict=True):
        checksum = np.sum(column, dtype=np.int64).astype(np.int16)  # WFDB's, modulo 2**16
        lines.append(
            f"{name}.mat 16+{_MAT_HEADER_BYTES} {UNITS_PER_MV}/mV 16 0 {column[0]} {checksum} 0 "
            f"{lead}"
        )
    return "".join(f"{line}\n" for line in (*lines, *comments)).encode()


def _mat_v4(samples: NDArray[np.int16]) -> bytes:
    """A MATLAB-v4 file with one int16 matrix `val`, shape `(n_leads, n_samples)`."""
    n_samples, n_leads = samples.shape
    # 30 is "little-endian, int16, full matrix"; 4 is the length of the name with its zero.
    header = struct.pack("<5i4s", 30, n_leads, n_samples, 0, 4, b"val\0")
    # Column-major (n_leads, n_samples) is the same order of bytes as row-major time first.
    return header + np.ascontiguousarray(samples, dtype="<i2").tobytes()
