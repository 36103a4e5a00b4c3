"""Pack records into a corpus: one pass over the files, one sequential write."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.files import move_folder, scratch_folder
from ecg_mlflow.records.corpus import Corpus, Provenance
from ecg_mlflow.records.index import INDEX_NAME, SIGNALS_NAME, Index, index_bytes, make_index
from ecg_mlflow.records.record import DigitalRecord, to_millivolts

_STAGED_NAME = "staged.bin"


def pack(
    records: Iterable[tuple[DigitalRecord, str]],
    into: Path,
    name: str,
    provenance: Provenance | None = None,
    patients: Mapping[str, str] | None = None,
) -> Corpus:
    """Pack labelled records into a corpus, in a folder named by its digest.

    The samples stay int16 if all records are digital; otherwise all become float32 in mV. Equal
    content gives the same folder, independent of its origin.

    Parameters
    ----------
    records
        Records and labels, by ascending record name; at least one.
    into
        Folder of corpora; the corpus becomes its subfolder named by the digest.
    name
        Name of the build; builds of one name must not run at the same time.
    provenance
        The origin of the records.
    patients
        Patients by record name, as far as they are known.

    Raises
    ------
    CorpusError
        If the same content was packed before and has been damaged since.
    """
    with scratch_folder(into, name) as scratch:
        index = _write(records, scratch, patients or {})
        target = into / index.digest
        if not target.exists():
            try:
                move_folder(scratch, target)
            except OSError:
                # Another process may have packed the same content meanwhile.
                if not target.exists():
                    raise
    return Corpus.open(target, provenance)


def _write(
    records: Iterable[tuple[DigitalRecord, str]], folder: Path, patients: Mapping[str, str]
) -> Index:
    kept: list[DigitalRecord] = []
    labels: list[str] = []
    hashes: list[bytes] = []
    staged = folder / _STAGED_NAME
    with staged.open("wb") as file:
        for record, label in records:
            if kept and record.id <= kept[-1].id:
                raise ValueError(f"record {record.id!r} comes after {kept[-1].id!r}: sort by name")
            samples = record.samples
            hashes.append(hashlib.sha256(data := samples.tobytes()).digest())
            file.write(data)
            kept.append(_without_samples(record))
            labels.append(label)
    if not kept:
        raise ValueError("no records to pack")
    dtypes = {record.samples.dtype for record in kept}
    dtype = np.dtype(np.int16) if dtypes == {np.dtype(np.int16)} else np.dtype(np.float32)
    if len(dtypes) > 1:
        hashes = _rewrite_in_millivolts(staged, folder / SIGNALS_NAME, kept)
        staged.unlink()
    else:
        staged.rename(folder / SIGNALS_NAME)
    patient_of = [patients.get(record.id, "") for record in kept]
    index = make_index(kept, labels, dtype, hashes, patient_of)
    (folder / INDEX_NAME).write_bytes(index_bytes(index))
    return index


def _rewrite_in_millivolts(staged: Path, file: Path, records: list[DigitalRecord]) -> list[bytes]:
    """Convert staged int16 or float32 records to mV; return their samples' hashes."""
    hashes = []
    with staged.open("rb") as source, file.open("wb") as target:
        for record in records:
            shape, dtype = record.samples.shape, record.samples.dtype
            data = source.read(shape[0] * shape[1] * dtype.itemsize)
            samples: NDArray[Any] = np.frombuffer(data, dtype).reshape(shape)
            converted = to_millivolts(samples, record.gain, record.baseline).tobytes()
            hashes.append(hashlib.sha256(converted).digest())
            target.write(converted)
    return hashes


def _without_samples(record: DigitalRecord) -> DigitalRecord:
    """Replace the samples by an array of the same shape and type that needs no memory."""
    hollow: NDArray[Any] = np.broadcast_to(np.zeros((), record.samples.dtype), record.samples.shape)
    if record.digital is not None:
        return replace(record, digital=hollow)
    return replace(record, physical=hollow)
