"""Write and read the index of a packed corpus, with its checksum."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_mlflow.errors import CorpusError

if TYPE_CHECKING:
    from ecg_mlflow.records.corpus import Corpus

SIGNALS_NAME = "signals.bin"
INDEX_NAME = "index.bin"
_FORM = "ecg_mlflow corpus 1"


def content_digest(corpus: Corpus, hashes: Sequence[bytes]) -> str:
    """Hash the content of a corpus: its index and the hashes of its records' samples."""
    signals = corpus.signals
    content = hashlib.sha256(f"{_FORM} {signals.data.dtype.str}\n".encode())
    names: list[tuple[Any, ...]] = [corpus.ids, corpus.labels, corpus.leads]
    if corpus.patients is not None:
        # A corpus without patients keeps the digest of versions that had no patients.
        names.append(corpus.patients)
    content.update(json.dumps(names).encode())
    for array in (corpus.fs, signals.n_samples, signals.n_leads, signals.gain, signals.baseline):
        content.update(array.tobytes())
    for samples in hashes:
        content.update(samples)
    return content.hexdigest()


def index_bytes(corpus: Corpus) -> bytes:
    """Encode a corpus without its samples: a line with format and checksum, then an npz archive."""
    kinds_of_leads = sorted(set(corpus.leads))
    tables: dict[str, Any] = {
        "ids": corpus.ids,
        "labels": corpus.labels,
        "leads": kinds_of_leads,
        "copies": corpus.copies,
        "digest": corpus.digest,
        "dtype": corpus.signals.data.dtype.str,
    }
    if corpus.patients is not None:
        tables["patients"] = corpus.patients
    position = {leads: i for i, leads in enumerate(kinds_of_leads)}
    payload = io.BytesIO()
    np.savez(
        payload,
        allow_pickle=False,
        tables=np.frombuffer(json.dumps(tables).encode(), np.uint8),
        leads=np.array([position[leads] for leads in corpus.leads], np.int64),
        fs=corpus.fs,
        n_samples=corpus.signals.n_samples,
        n_leads=corpus.signals.n_leads,
        gain=corpus.signals.gain,
        baseline=corpus.signals.baseline,
    )
    data = payload.getvalue()
    return f"{_FORM} {hashlib.sha256(data).hexdigest()}\n".encode() + data


def read_index(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read and check an index.

    Returns
    -------
    Fields of `Corpus` with the type of the samples as ``dtype``, and the fields of `Signals`
    without the samples.

    Raises
    ------
    CorpusError
        If it is missing, damaged or of another version.
    """
    try:
        head, _, payload = file.read_bytes().partition(b"\n")
        form, _, checksum = head.decode("ascii", errors="replace").rpartition(" ")
        if form != _FORM:
            raise ValueError(f"of another version or damaged: it starts with {form[:40]!r}")
        if hashlib.sha256(payload).hexdigest() != checksum:
            raise ValueError("damaged: its checksum doesn't match")
        return _decoded(payload)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CorpusError(
            f"can't open the packed corpus {file.parent}: {INDEX_NAME} is unusable: {error}. "
            "Delete the folder and run again."
        ) from error


def _decoded(payload: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    fields = json.loads(arrays.pop("tables").tobytes())
    leads = [tuple(names) for names in fields["leads"]]
    patients = fields.get("patients")
    fields |= {
        "ids": tuple(fields["ids"]),
        "labels": tuple(fields["labels"]),
        "leads": tuple(leads[i] for i in arrays.pop("leads").tolist()),
        "copies": tuple(tuple(group) for group in fields["copies"]),
        "patients": None if patients is None else tuple(patients),
        "fs": arrays.pop("fs"),
    }
    ends = np.cumsum(arrays["n_samples"] * arrays["n_leads"])
    arrays["offset"] = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    for array in (fields["fs"], *arrays.values()):
        array.flags.writeable = False
    return fields, arrays
