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
from math import inf
from pathlib import Path

from ecg_mlflow.records.synthetic.files import write_files
from ecg_mlflow.records.synthetic.folder import MAX_RECORDS, check_arguments, corpus_folder
from ecg_mlflow.records.synthetic.recording import Recording, synthesize
from ecg_mlflow.records.synthetic.shares import RECORD_STREAM, seeds, spread_kinds

BLOCK = {"N": 14, "O": 6, "A": 4, "~": 1}


def demo_labels(n_records: int, seed: int) -> list[str]:
    """Classes of the records D00001, D00002, ... in this order.

    The label of a record does not depend on `n_records`.
    """
    return spread_kinds(BLOCK, n_records, seed)


def demo_recording(
    number: int, label: str, seed: int, fs: float = 300, n_leads: int = 1
) -> Recording:
    """Record number `number` (from 1) of the demo corpus, given its class."""
    return synthesize(label, seeds(seed, RECORD_STREAM, number), fs, n_leads)


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
    check_arguments(
        n_records=(n_records, 1, MAX_RECORDS, f"1 to {MAX_RECORDS}"),
        seed=(seed, 0, inf, "a whole number >= 0"),
        fs=(fs, 100, 2000, "100 to 2000 Hz"),
        n_leads=(n_leads, 1, 12, "1 to 12"),
    )
    labels = demo_labels(n_records, seed)
    lines = []
    with corpus_folder(folder) as aside:
        for number, label in enumerate(labels, start=1):
            name = f"D{number:05d}"
            recording = demo_recording(number, label, seed, fs, n_leads)
            # The comment keeps a made-up record from passing for a patient's.
            write_files(aside, name, recording, fs, [f"# synthetic ECG: {recording.rhythm}"])
            lines.append(f"{name},{label}\n")
        (aside / "REFERENCE.csv").write_bytes("".join(lines).encode())
    return Path(folder)
