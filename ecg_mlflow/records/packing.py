"""Packs records into a corpus: one pass over the files, one sequential write."""

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
    """Pack labelled records into a corpus of their own folder.

    The samples stay int16 if all records are digital; one that isn't makes all of them float32
    in mV. Equal content makes the same folder, wherever it came from.

    Parameters
    ----------
    records
        Records and labels, by ascending record name; at least one.
    into
        Folder of corpora; the corpus is its subfolder called by the digest.
    name
        What is being packed; two builds of one name must not run at once.
    provenance
        Where the records come from.
    patients
        Whose the records are, by record name, as far as that is known.

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
                # Another source of the same content may have been quicker.
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
    whose = [patients.get(record.id, "") for record in kept]
    index = make_index(kept, labels, dtype, hashes, whose)
    (folder / INDEX_NAME).write_bytes(index_bytes(index))
    return index


def _rewrite_in_millivolts(staged: Path, file: Path, records: list[DigitalRecord]) -> list[bytes]:
    """Convert staged records of either form to float32; return their samples' hashes."""
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
    """Keep the shape and type of the samples, not the memory."""
    hollow: NDArray[Any] = np.broadcast_to(np.zeros((), record.samples.dtype), record.samples.shape)
    if record.digital is not None:
        return replace(record, digital=hollow)
    return replace(record, physical=hollow)
