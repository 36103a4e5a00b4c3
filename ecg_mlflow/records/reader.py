"""Reads one recording, whatever form its files have."""

from __future__ import annotations

from pathlib import Path

from ecg_mlflow.records.edf_reader import is_edf, read_edf_digital
from ecg_mlflow.records.record import DigitalRecord, Record
from ecg_mlflow.records.wfdb_header import files_of as wfdb_files
from ecg_mlflow.records.wfdb_reader import read_digital as read_wfdb_digital


def read_digital(path: str | Path, *, keep_invalid: bool = False) -> DigitalRecord:
    """Read a record as its files hold it.

    Parameters
    ----------
    path
        The ``.hea`` file of a WFDB record (see `wfdb_reader.read_digital`), or an ``.edf`` file
        (see `edf_reader.read_edf_digital`).
    keep_invalid
        Whether samples that WFDB marks as invalid are NaN in mV, rather than an error.

    Raises
    ------
    RecordError
        If the record can't be used; the message says why.
    ExtraMissingError
        If it is an EDF file, and the package edfio is not installed.
    """
    path = Path(path)
    if is_edf(path):
        return read_edf_digital(path)
    return read_wfdb_digital(path, keep_invalid=keep_invalid)


def read_record(path: str | Path, label: str | None = None) -> Record:
    """Read a record in mV; see `read_digital` for what it raises."""
    digital = read_digital(path)
    return Record(digital.id, digital.millivolts(), digital.fs, digital.leads, label)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that a record consists of, as far as its header can be read."""
    return (path,) if is_edf(path) else wfdb_files(path)
