"""The demo corpora: made-up ECGs in the forms of the PhysioNet/CinC Challenges 2017 and 2021.

`demo` is of one lead and one class per record, as recorded with a handheld device; its shares are
the Challenge's (N 60 %, O 28 %, A 9 %, ~ 3.5 %) except that A is more frequent, since a score over
two or three records of the positive class would say nothing. `demo12` is of twelve leads and
several diagnoses per record, as recorded in a hospital: 40 % NSR, 24 % AF, 20 % SB, 16 % STach,
16 % RBBB, and 12 % each of IAVB, LBBB, LAD and PVC.

Both are drawn in blocks of 25 records, and within a block every kind is spread evenly. So any
stretch of a corpus, and with it a test set of the first 20 % of the records, holds the kinds in
about the corpus's shares.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from ecg_mlflow.errors import RecordError
from ecg_mlflow.files import move_folder, scratch_folder
from ecg_mlflow.records.snomed import CODES
from ecg_mlflow.records.synthetic.noise import UNREADABLE
from ecg_mlflow.records.synthetic.recording import UNITS_PER_MV, Recording, make_recording

DEMO_BLOCK = {"N": 14, "O": 6, "A": 4, "~": 1}
DEMO12_BLOCK = {
    ("NSR",): 4,
    ("AF",): 3,
    ("SB",): 2,
    ("STach",): 2,
    ("NSR", "PVC"): 2,
    ("NSR", "IAVB"): 1,
    ("NSR", "RBBB"): 1,
    ("NSR", "LBBB"): 1,
    ("NSR", "LAD"): 1,
    ("AF", "RBBB"): 1,
    ("AF", "LBBB"): 1,
    ("AF", "PVC"): 1,
    ("SB", "IAVB"): 1,
    ("SB", "RBBB"): 1,
    ("SB", "IAVB", "LAD"): 1,
    ("STach", "RBBB", "LAD"): 1,
    ("STach", "LBBB"): 1,
}
#: How often a record of class O has which diagnoses.
_OTHER = {
    ("NSR", "PVC"): 0.23,
    ("NSR", "PAC"): 0.21,
    ("NSR", "VBig"): 0.07,
    ("NSR", "VTrig"): 0.07,
    ("SB",): 0.12,
    ("STach",): 0.10,
    ("NSR", "LBBB"): 0.07,
    ("NSR", "RBBB"): 0.07,
    ("NSR", "IAVB"): 0.04,
    ("AFL",): 0.02,
}
_MAT_HEADER_BYTES = 24
_MOST_RECORDS = 99_999  # as many as five digits name
_KINDS, _RECORD, _PATIENT = range(3)  # independent streams of randomness


def spread_evenly(block: Mapping[Any, int], n_records: int, seed: int) -> list[Any]:
    """Draw the kinds of records in blocks, and spread each kind evenly within a block.

    The kind of a record does not depend on `n_records`.

    Parameters
    ----------
    block
        How many records of a block are of each kind: `DEMO_BLOCK` or `DEMO12_BLOCK`.
    n_records
        How many kinds to return.
    seed
        A whole number >= 0.
    """
    kinds: list[Any] = []
    for number in range(-(-n_records // sum(block.values()))):
        rng = _stream(seed, _KINDS, number)
        places = [
            ((turn + rng.random()) / count, kind)
            for kind, count in block.items()
            for turn in range(count)
        ]
        kinds += [kind for _, kind in sorted(places, key=lambda place: place[0])]
    return kinds[:n_records]


def demo_recording(number: int, label: str, seed: int) -> Recording:
    """Record number `number` (from 1) of the demo corpus, given its class."""
    rng = _stream(seed, _RECORD, number)
    setting = str(rng.choice(UNREADABLE)) if label == "~" else "handheld"
    if label == "~":  # below the noise lies any of the others
        label = str(rng.choice(("N", "A", "O"), p=(0.6, 0.15, 0.25)))
    diagnoses: tuple[str, ...] = ("AF",) if label == "A" else ("NSR",)
    if label == "O":
        diagnoses = list(_OTHER)[rng.choice(len(_OTHER), p=list(_OTHER.values()))]
    return make_recording(rng, diagnoses, setting)


def demo12_recording(number: int, diagnoses: Collection[str], seed: int) -> Recording:
    """Record number `number` (from 1) of the twelve-lead corpus, given its diagnoses."""
    return make_recording(_stream(seed, _RECORD, number), diagnoses, "bedside")


def write_demo(
    folder: str | os.PathLike[str], n_records: int, seed: int, *, kind: str = "demo"
) -> Path:
    """Write a corpus of made-up ECGs as WFDB records.

    Each record of `demo` is a header `D00001.hea` and a MATLAB-v4 signal file `D00001.mat` (int16,
    1000 units per mV), of one lead at 300 Hz, 9 to 61 s long and mostly 30 s; `REFERENCE.csv` has
    their classes. Each of `demo12` is `E00001.hea` with the comments `#Age`, `#Sex` and `#Dx`
    (SNOMED codes), and `E00001.mat`, 10 s of twelve leads at 500 Hz. A record depends only on seed,
    number and kind, not on how many there are. The folder appears whole or not at all. Two
    processes must not write the same folder at once.

    Parameters
    ----------
    folder
        Must not exist, or be empty.
    n_records
        1 to 99,999.
    seed
        A whole number >= 0.
    kind
        "demo" or "demo12".

    Returns
    -------
    The folder.

    Raises
    ------
    RecordError
        If an argument is out of range, or the folder holds something already.
    """
    place = Path(folder)
    if not 1 <= n_records <= _MOST_RECORDS:
        raise RecordError(f"demo corpus: {n_records} records; allowed are 1 to {_MOST_RECORDS}")
    if seed < 0:
        raise RecordError(f"demo corpus: seed is {seed}; allowed is a whole number >= 0")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise RecordError(
            f"demo corpus: {place} holds something already; give a new or an empty folder"
        )
    with scratch_folder(place.parent, place.name) as aside:
        kinds = spread_evenly(DEMO_BLOCK if kind == "demo" else DEMO12_BLOCK, n_records, seed)
        for number, one in enumerate(kinds, start=1):
            if kind == "demo":
                _write_record(aside, f"D{number:05d}", demo_recording(number, one, seed))
            else:
                patient = _patient(_stream(seed, _PATIENT, number), one)
                _write_record(aside, f"E{number:05d}", demo12_recording(number, one, seed), patient)
        if kind == "demo":
            lines = [f"D{number:05d},{one}\n" for number, one in enumerate(kinds, start=1)]
            (aside / "REFERENCE.csv").write_bytes("".join(lines).encode())
        if place.exists():
            place.rmdir()
        move_folder(aside, place)
    return place


def _patient(rng: np.random.Generator, diagnoses: Collection[str]) -> str:
    """Comments with diagnoses, sex and an adult's age; a block or fibrillation means older."""
    older = {"AF", "IAVB", "RBBB", "LBBB"} & set(diagnoses)
    age = rng.normal(71.0 if older else 56.0, 11.0 if older else 16.0)
    return (
        f"#Age: {int(np.clip(age, 19, 89))}\n#Sex: {rng.choice(('Male', 'Female'))}\n"
        f"#Dx: {','.join(CODES[one] for one in diagnoses)}\n"
    )


def _stream(seed: int, *key: int) -> np.random.Generator:
    """Return the source of randomness of one thing of a corpus, independent of all others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _write_record(folder: Path, name: str, recording: Recording, comments: str = "") -> None:
    """Write a WFDB header and a MATLAB-v4 file with one int16 matrix `val`, as the Challenges do.

    The matrix has the shape `(n_leads, n_samples)`.
    """
    samples = recording.samples
    savemat(folder / f"{name}.mat", {"val": samples.T}, format="4")
    header = f"{name} {samples.shape[1]} {recording.fs:g} {len(samples)}\n"
    for lead, column in zip(recording.leads, samples.T, strict=True):
        checksum = np.sum(column, dtype=np.int64).astype(np.int16)  # WFDB's, modulo 2**16
        form = f"{name}.mat 16+{_MAT_HEADER_BYTES} {UNITS_PER_MV}/mV 16 0"
        header += f"{form} {column[0]} {checksum} 0 {lead}\n"
    # The comment keeps a made-up record from passing for a patient's.
    header += f"{comments}# synthetic ECG: {', '.join(recording.diagnoses)}\n"
    (folder / f"{name}.hea").write_bytes(header.encode())
