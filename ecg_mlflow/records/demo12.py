"""The twelve-lead demo corpus: made-up ECGs in the form of the PhysioNet/CinC Challenge 2021.

Each record may have several diagnoses, which stand in its header and nowhere else. They are drawn
in blocks of 25 records, so that any stretch of the corpus holds the diagnoses in about its shares:
40 % NSR, 24 % AF, 20 % SB, 16 % STach, 16 % RBBB, and 12 % each of IAVB, LBBB, LAD and PVC. 14 of
25 records have more than one.
"""

from __future__ import annotations

import os
from math import inf
from pathlib import Path

import numpy as np

from ecg_mlflow.records.snomed import CODES
from ecg_mlflow.records.synthetic.bedside import (
    FS,
    Patient,
    draw_patient,
    record_bedside,
)
from ecg_mlflow.records.synthetic.files import write_files
from ecg_mlflow.records.synthetic.folder import MAX_RECORDS, check_arguments, corpus_folder
from ecg_mlflow.records.synthetic.recording import Recording
from ecg_mlflow.records.synthetic.shares import RECORD_STREAM, seeds, spread_kinds

BLOCK = {
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
_PATIENT_STREAM = 2


def demo12_diagnoses(n_records: int, seed: int) -> list[tuple[str, ...]]:
    """Diagnoses of the records E00001, E00002, ... in this order, as abbreviations.

    Those of a record do not depend on `n_records`.
    """
    return spread_kinds(BLOCK, n_records, seed)


def demo12_recording(number: int, diagnoses: tuple[str, ...], seed: int) -> Recording:
    """Record number `number` (from 1) of the corpus, given its diagnoses."""
    return record_bedside(diagnoses, seeds(seed, RECORD_STREAM, number))


def write_demo12(folder: str | os.PathLike[str], n_records: int, seed: int) -> Path:
    """Write a corpus of made-up twelve-lead ECGs as WFDB records.

    Each record is a header `E00001.hea` with the comments `#Age`, `#Sex` and `#Dx` (SNOMED codes),
    and a MATLAB-v4 signal file `E00001.mat` (int16, 1000 units per mV), 10 s long at 500 Hz. A
    record depends only on seed and number. The folder appears whole or not at all. Two processes
    must not write the same folder at once.

    Parameters
    ----------
    folder
        Must not exist, or be empty.
    n_records
        1 to 99,999.
    seed
        A whole number >= 0.

    Returns
    -------
    The folder.

    Raises
    ------
    RecordError
        If an argument is out of range, or the folder holds something already.
    """
    check_arguments(
        n_records=(n_records, 1, MAX_RECORDS, f"1 to {MAX_RECORDS}"),
        seed=(seed, 0, inf, "a whole number >= 0"),
    )
    with corpus_folder(folder) as aside:
        for number, diagnoses in enumerate(demo12_diagnoses(n_records, seed), start=1):
            recording = demo12_recording(number, diagnoses, seed)
            rng = np.random.default_rng(seeds(seed, _PATIENT_STREAM, number))
            comments = _comments(draw_patient(rng, diagnoses), diagnoses, recording)
            write_files(aside, f"E{number:05d}", recording, FS, comments)
    return Path(folder)


def _comments(patient: Patient, diagnoses: tuple[str, ...], recording: Recording) -> list[str]:
    return [
        f"#Age: {patient.age}",
        f"#Sex: {patient.sex}",
        f"#Dx: {','.join(CODES[one] for one in diagnoses)}",
        # It keeps a made-up record from passing for a patient's.
        f"# synthetic ECG; {recording.rhythm}",
    ]
