"""Pack records into a corpus: one pass over the files, one sequential write."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.errors import CorpusError
from ecg_mlflow.files import move_folder, scratch_folder
from ecg_mlflow.records.corpus import (
    INDEX_FORM,
    INDEX_NAME,
    SIGNALS_NAME,
    Corpus,
    Signals,
    content_digest,
)
from ecg_mlflow.records.fingerprint import Fingerprints, fingerprints
from ecg_mlflow.records.record import DigitalRecord, to_millivolts

_STAGED_NAME = "staged.bin"

_Sums = tuple[bytes, int]


def pack(
    records: Iterable[tuple[DigitalRecord, str]],
    into: Path,
    name: str,
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
    patients
        Patients by record name, as far as they are known.
    """
    with scratch_folder(into, name) as scratch:
        built = scratch / "built"
        built.mkdir()
        digest = _write(records, built, patients or {})
        target = into / digest
        if not _is_whole(target):
            if target.exists():  # damaged, or of another version
                target.rename(scratch / "replaced")
            try:
                move_folder(built, target)
            except OSError:
                # Another process may have packed the same content meanwhile.
                if not target.exists():
                    raise
    return Corpus.open(target)


def _is_whole(folder: Path) -> bool:
    """Say whether there is a packed corpus that can be opened."""
    try:
        Corpus.open(folder)
    except CorpusError:
        return False
    return True


def _write(
    records: Iterable[tuple[DigitalRecord, str]], folder: Path, patients: Mapping[str, str]
) -> str:
    """Write a corpus's files and return its digest."""
    kept: list[DigitalRecord] = []
    labels: list[str] = []
    sums: list[_Sums] = []
    known: list[Fingerprints] = []
    staged = folder / _STAGED_NAME
    with staged.open("wb") as file:
        for record, label in records:
            if kept and record.id <= kept[-1].id:
                raise ValueError(f"record {record.id!r} comes after {kept[-1].id!r}: sort by name")
            sums.append(_sums(data := record.samples.tobytes()))
            known.append(fingerprints(record.samples))
            file.write(data)
            kept.append(_without_samples(record))
            labels.append(label)
    if not kept:
        raise ValueError("no records to pack")
    dtypes = {record.samples.dtype for record in kept}
    if len(dtypes) > 1:
        kept, sums = _rewrite_in_millivolts(staged, folder / SIGNALS_NAME, kept)
        staged.unlink()
    else:
        staged.rename(folder / SIGNALS_NAME)
    hashes = [sha256 for sha256, _ in sums]
    patient_of = tuple(patients.get(record.id, "") for record in kept)
    corpus = Corpus(
        path=folder,
        ids=tuple(record.id for record in kept),
        labels=tuple(labels),
        patients=patient_of if any(patient_of) else None,
        leads=tuple(record.leads for record in kept),
        fs=np.array([record.fs for record in kept], np.float64),
        digest="",
        fingerprints=tuple(known),
        checksums=np.array([crc32 for _, crc32 in sums], np.uint32),
        signals=_signals(kept),
    )
    digest = content_digest(corpus, hashes)
    (folder / INDEX_NAME).write_bytes(_index_bytes(replace(corpus, digest=digest)))
    return digest


def _rewrite_in_millivolts(
    staged: Path, file: Path, records: list[DigitalRecord]
) -> tuple[list[DigitalRecord], list[_Sums]]:
    """Convert the samples in a file to mV; return the converted records and their `_sums`."""
    converted, sums = [], []
    with staged.open("rb") as source, file.open("wb") as target:
        for record in records:
            stored: NDArray[Any] = np.frombuffer(
                source.read(record.samples.nbytes), record.samples.dtype
            )
            stored = stored.reshape(record.samples.shape)
            samples = to_millivolts(stored, record.gain, record.baseline)
            sums.append(_sums(data := samples.tobytes()))
            target.write(data)
            in_mv = DigitalRecord.from_millivolts(record.id, samples, record.fs, record.leads)
            converted.append(_without_samples(in_mv))
    return converted, sums


def _sums(data: bytes) -> _Sums:
    """Return SHA-256, for the digest, and CRC-32, which is twice as fast, for `Corpus.verify`."""
    return hashlib.sha256(data).digest(), zlib.crc32(data)


def _without_samples(record: DigitalRecord) -> DigitalRecord:
    """Replace the samples by an array of the same shape and type that needs no memory."""
    shape = record.samples.shape
    hollow = cast("NDArray[np.int16]", np.broadcast_to(record.samples[:1].copy(), shape))
    return replace(record, samples=hollow)


def _signals(records: list[DigitalRecord]) -> Signals:
    """Describe the records' samples without holding them."""
    n_samples = np.array([len(record.samples) for record in records], np.int64)
    n_leads = np.array([len(record.leads) for record in records], np.int64)
    gain = np.ones((len(records), n_leads.max()), np.float32)
    baseline = np.zeros_like(gain)
    for i, record in enumerate(records):
        gain[i, : n_leads[i]] = record.gain
        baseline[i, : n_leads[i]] = record.baseline
    nothing = np.zeros(0, records[0].samples.dtype)
    return Signals(nothing, np.zeros(0, np.int64), n_samples, n_leads, gain, baseline)


def _index_bytes(corpus: Corpus) -> bytes:
    """Encode a corpus without its samples: a line with format and checksum, then an npz archive."""
    kinds_of_leads = sorted(set(corpus.leads))
    position = {leads: i for i, leads in enumerate(kinds_of_leads)}
    names = ("ids", "labels", "fingerprints", "digest", *(["patients"] if corpus.patients else []))
    tables = {name: getattr(corpus, name) for name in names}
    tables |= {"leads": kinds_of_leads, "dtype": corpus.signals.data.dtype.str}
    arrays = ("n_samples", "n_leads", "gain", "baseline")
    payload = io.BytesIO()
    np.savez(
        payload,
        allow_pickle=False,
        tables=np.frombuffer(json.dumps(tables).encode(), np.uint8),
        leads=np.array([position[leads] for leads in corpus.leads], np.int64),
        fs=corpus.fs,
        checksums=corpus.checksums,
        **{name: getattr(corpus.signals, name) for name in arrays},
    )
    data = payload.getvalue()
    return f"{INDEX_FORM} {hashlib.sha256(data).hexdigest()}\n".encode() + data
