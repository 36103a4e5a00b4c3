"""Make, write and read the index of a packed corpus, with its checksum."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.errors import CorpusError
from ecg_mlflow.records.record import DigitalRecord

SIGNALS_NAME = "signals.bin"
INDEX_NAME = "index.bin"
_FORM = "ecg_mlflow corpus 1"


@dataclass(frozen=True, eq=False)
class Index:
    """Description of a corpus without its samples; see `Corpus` and `Signals` for the fields."""

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    leads: tuple[tuple[str, ...], ...]
    copies: tuple[tuple[str, ...], ...]
    digest: str
    dtype: np.dtype[np.int16] | np.dtype[np.float32]
    fs: NDArray[np.float64]
    n_samples: NDArray[np.int64]
    n_leads: NDArray[np.int64]
    gain: NDArray[np.float32]
    baseline: NDArray[np.float32]
    patients: tuple[str, ...] | None = None

    @property
    def offset(self) -> NDArray[np.int64]:
        """Index of each record's first sample in the signal file, shape ``(n_records,)``."""
        ends = np.cumsum(self.n_samples * self.n_leads)
        return _frozen(np.concatenate([[0], ends[:-1]]).astype(np.int64))

    @property
    def n_values(self) -> int:
        """Number of samples of all leads of all records."""
        return int((self.n_samples * self.n_leads).sum())


def make_index(
    records: Sequence[DigitalRecord],
    labels: Sequence[str],
    dtype: np.dtype[np.int16] | np.dtype[np.float32],
    hashes: Sequence[bytes],
    patients: Sequence[str] = (),
) -> Index:
    """Make the index of records in the order in which they were written.

    Parameters
    ----------
    records
        The records; only the shape of their samples is used.
    labels
        One per record.
    dtype
        Type of the samples as written.
    hashes
        SHA-256 of each record's samples as written.
    patients
        One per record, '' if unknown; or empty.
    """
    n_leads = np.array([len(record.leads) for record in records], np.int64)
    gain = np.ones((len(records), n_leads.max()), np.float32)
    baseline = np.zeros_like(gain)
    if dtype == np.int16:
        for i, record in enumerate(records):
            gain[i, : n_leads[i]] = record.gain
            baseline[i, : n_leads[i]] = record.baseline
    index = Index(
        ids=tuple(record.id for record in records),
        labels=tuple(labels),
        leads=tuple(record.leads for record in records),
        copies=(),
        digest="",
        dtype=dtype,
        fs=np.array([record.fs for record in records], np.float64),
        n_samples=np.array([len(record.samples) for record in records], np.int64),
        n_leads=n_leads,
        gain=gain,
        baseline=baseline,
        patients=tuple(patients) if any(patients) else None,
    )
    return replace(index, digest=content_digest(index, hashes), copies=_copies(index, hashes))


def content_digest(index: Index, hashes: Sequence[bytes]) -> str:
    """Hash the content of a corpus: its index and the hashes of its samples."""
    content = hashlib.sha256(f"{_FORM} {index.dtype.str}\n".encode())
    names: list[tuple[Any, ...]] = [index.ids, index.labels, index.leads]
    if index.patients is not None:
        # A corpus without patients keeps the digest of versions that had no patients.
        names.append(index.patients)
    content.update(json.dumps(names).encode())
    for array in (index.fs, index.n_samples, index.n_leads, index.gain, index.baseline):
        content.update(array.tobytes())
    for samples in hashes:
        content.update(samples)
    return content.hexdigest()


def _copies(index: Index, hashes: Sequence[bytes]) -> tuple[tuple[str, ...], ...]:
    groups: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for i, name in enumerate(index.ids):
        leads = int(index.n_leads[i])
        scale = index.gain[i, :leads].tobytes() + index.baseline[i, :leads].tobytes()
        groups[leads, hashes[i], scale].append(name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)


def index_bytes(index: Index) -> bytes:
    """Encode an index: a line of text with format and checksum, then an npz archive."""
    tables: dict[str, Any] = {
        "ids": index.ids,
        "labels": index.labels,
        "leads": sorted(set(index.leads)),
        "copies": index.copies,
        "digest": index.digest,
        "dtype": index.dtype.str,
    }
    if index.patients is not None:
        tables["patients"] = index.patients
    position = {leads: i for i, leads in enumerate(sorted(set(index.leads)))}
    arrays = {
        field.name: value
        for field in fields(index)
        if isinstance(value := getattr(index, field.name), np.ndarray)
    }
    payload = io.BytesIO()
    np.savez(
        payload,
        allow_pickle=False,
        tables=np.frombuffer(json.dumps(tables).encode(), np.uint8),
        leads=np.array([position[leads] for leads in index.leads], np.int64),
        **arrays,
    )
    data = payload.getvalue()
    return f"{_FORM} {hashlib.sha256(data).hexdigest()}\n".encode() + data


def read_index(file: Path) -> Index:
    """Read and check an index.

    Raises
    ------
    CorpusError
        If it is missing, damaged or of another version.
    """
    advice = "Delete the folder and run again."
    try:
        head, _, payload = file.read_bytes().partition(b"\n")
    except OSError as error:
        raise CorpusError(
            f"no packed corpus in {file.parent}: {INDEX_NAME}: {error.strerror}. {advice}"
        ) from error
    form, _, checksum = head.decode("ascii", errors="replace").rpartition(" ")
    if form != _FORM:
        raise CorpusError(
            f"the packed corpus {file.parent} is of another version or damaged: {INDEX_NAME} "
            f"starts with {form[:40]!r}, not {_FORM!r}. {advice}"
        )
    if hashlib.sha256(payload).hexdigest() != checksum:
        raise CorpusError(
            f"the packed corpus {file.parent} is damaged: the checksum of {INDEX_NAME} doesn't "
            f"match. {advice}"
        )
    try:
        return _decode(payload)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CorpusError(
            f"the packed corpus {file.parent} can't be read: {INDEX_NAME}: {error}. {advice}"
        ) from error


def _decode(payload: bytes) -> Index:
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        arrays = {name: _frozen(archive[name]) for name in archive.files}
    tables = json.loads(arrays.pop("tables").tobytes())
    names = [tuple(leads) for leads in tables["leads"]]
    patients = tables.get("patients")
    return Index(
        ids=tuple(tables["ids"]),
        labels=tuple(tables["labels"]),
        leads=tuple(names[i] for i in arrays.pop("leads").tolist()),
        copies=tuple(tuple(group) for group in tables["copies"]),
        digest=tables["digest"],
        dtype=np.dtype(tables["dtype"]),
        patients=None if patients is None else tuple(patients),
        **arrays,
    )


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
