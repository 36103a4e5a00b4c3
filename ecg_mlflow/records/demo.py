"""The demo corpus: made-up ECGs written in the form of the PhysioNet/CinC Challenge 2017.

The order of classes is drawn in blocks of 25 records, each with 14 N, 6 O, 4 A and 1 ~, and
within a block every class is spread evenly. So any stretch of the corpus, and with it a test set
of the first 20 % of the records, holds the classes in about the corpus's shares: with 200 records
the first 40 have 6 or 7 of atrial fibrillation. The shares are the Challenge's (N 60 %, O 28 %,
A 9 %, ~ 3.5 %) except that A is more frequent, since a score over two or three records of the
positive class would say nothing.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.errors import RecordError
from ecg_mlflow.files import move_folder, scratch_folder
from ecg_mlflow.records.synthetic.recording import UNITS_PER_MV, Recording, synthesize

BLOCK = {"N": 14, "O": 6, "A": 4, "~": 1}
_LABEL_STREAM, _RECORD_STREAM = 0, 1
_MAX_RECORDS = 99_999  # as many as five digits name
_MAT_HEADER_BYTES = 24


def demo_labels(n_records: int, seed: int) -> list[str]:
    """Classes of the records D00001, D00002, ... in this order.

    The label of a record does not depend on `n_records`.
    """
    labels: list[str] = []
    block = 0
    while len(labels) < n_records:
        rng = _rng(seed, _LABEL_STREAM, block)
        places = [
            ((turn + rng.random()) / count, label)
            for label, count in BLOCK.items()
            for turn in range(count)
        ]
        labels += [label for _, label in sorted(places)]
        block += 1
    return labels[:n_records]


def demo_recording(
    number: int, label: str, seed: int, fs: float = 300, n_leads: int = 1
) -> Recording:
    """Record number `number` (from 1) of the demo corpus, given its class."""
    return synthesize(label, _seeds(seed, _RECORD_STREAM, number), fs, n_leads)


def write_demo(
    folder: str | os.PathLike[str],
    n_records: int,
    seed: int,
    fs: float = 300,
    n_leads: int = 1,
) -> Path:
    """Write a corpus of made-up ECGs as WFDB records.

    Each record is a header `D00001.hea` and a MATLAB-v4 signal file `D00001.mat` (int16, 1000
    units per mV), 9 to 61 s long and mostly 30 s; `REFERENCE.csv` has their classes. A record
    depends only on seed, number, fs and n_leads, not on how many there are. The folder appears
    whole or not at all. Two processes must not write the same folder at once.

    Parameters
    ----------
    folder
        Must not exist, or be empty.
    n_records
        1 to 99,999.
    seed
        A whole number >= 0.
    fs
        Sampling frequency in Hz, 100 to 2,000.
    n_leads
        1 to 12: the first of I, II, III, aVR, aVL, aVF, V1 to V6; a single one is called ECG.

    Returns
    -------
    The folder.

    Raises
    ------
    RecordError
        If an argument is out of range, or the folder holds something already.
    """
    target = Path(folder)
    _check(target, n_records, seed, fs, n_leads)
    labels = demo_labels(n_records, seed)
    names = [f"D{number:05d}" for number in range(1, n_records + 1)]
    with scratch_folder(target.parent, target.name) as aside:
        for number, (name, label) in enumerate(zip(names, labels, strict=True), start=1):
            recording = demo_recording(number, label, seed, fs, n_leads)
            (aside / f"{name}.hea").write_bytes(_header(name, recording, fs))
            (aside / f"{name}.mat").write_bytes(_mat_v4(recording.samples))
        lines = [f"{name},{label}\n" for name, label in zip(names, labels, strict=True)]
        (aside / "REFERENCE.csv").write_bytes("".join(lines).encode())
        if target.exists():
            target.rmdir()
        move_folder(aside, target)
    return target


def _check(target: Path, n_records: int, seed: int, fs: float, n_leads: int) -> None:
    """Refuse arguments that no corpus can be made of."""
    allowed = (
        ("n_records", n_records, 1 <= n_records <= _MAX_RECORDS, f"1 to {_MAX_RECORDS}"),
        ("seed", seed, seed >= 0, "a whole number >= 0"),
        ("fs", fs, 100 <= fs <= 2000, "100 to 2000 Hz"),
        ("n_leads", n_leads, 1 <= n_leads <= 12, "1 to 12"),
    )
    for name, value, is_allowed, what in allowed:
        if not is_allowed:
            raise RecordError(f"demo corpus: {name} is {value!r}; allowed is {what}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RecordError(
            f"demo corpus: {target} holds something already; give a new or an empty folder"
        )


def _header(name: str, recording: Recording, fs: float) -> bytes:
    """The WFDB header; the comment keeps a made-up record from passing for a patient's."""
    samples = recording.samples
    n_samples, n_leads = samples.shape
    lines = [f"{name} {n_leads} {fs:g} {n_samples}"]
    for lead, column in zip(recording.leads, samples.T, strict=True):
        checksum = np.sum(column, dtype=np.int64).astype(np.int16)  # WFDB's, modulo 2**16
        lines.append(
            f"{name}.mat 16+{_MAT_HEADER_BYTES} {UNITS_PER_MV}/mV 16 0 {column[0]} {checksum} 0 "
            f"{lead}"
        )
    lines.append(f"# synthetic ECG: {recording.rhythm}")
    return "".join(f"{line}\n" for line in lines).encode()


def _mat_v4(samples: NDArray[np.int16]) -> bytes:
    """A MATLAB-v4 file with one int16 matrix `val`, shape `(n_leads, n_samples)`."""
    n_samples, n_leads = samples.shape
    # 30 is "little-endian, int16, full matrix"; 4 is the length of the name with its zero.
    header = struct.pack("<5i4s", 30, n_leads, n_samples, 0, 4, b"val\0")
    # Column-major (n_leads, n_samples) is the same order of bytes as row-major time first.
    return header + np.ascontiguousarray(samples, dtype="<i2").tobytes()


def _seeds(seed: int, *key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(entropy=seed, spawn_key=key)


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(_seeds(seed, *key))
