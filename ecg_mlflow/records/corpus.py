"""Open a packed corpus: a folder named by the digest of its content.

``signals.bin`` has the samples of all records one after the other, time first, and is mapped into
memory; ``index.bin`` has each record's position, description and checksum.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.errors import CorpusError, few
from ecg_mlflow.files import cache_root, file_name
from ecg_mlflow.records.fingerprint import Fingerprints, same_recordings
from ecg_mlflow.records.reading import DEFAULT, Reading
from ecg_mlflow.records.record import BadRecord, Record, to_millivolts

SIGNALS_NAME = "signals.bin"
INDEX_NAME = "index.bin"
#: Begins what is hashed into the digest of a corpus.
FORM = "ecg_mlflow corpus 1"
#: Format of the index.
INDEX_FORM = "ecg_mlflow index 2"


def corpora_folder() -> Path:
    """Return the folder of packed corpora in this machine's cache."""
    return cache_root() / "corpora"


def packed_path(digest: str) -> Path:
    """Return the path of the corpus with this digest in this machine's cache."""
    return corpora_folder() / file_name(digest)


#: Digest of the corpus that this process opened last, for MLflow's run context.
_last_opened: str | None = None


def last_opened() -> str | None:
    """Return the digest of the corpus that this process opened last; None before the first."""
    return _last_opened


@dataclass(frozen=True, eq=False)
class Signals:
    """The samples of all records, in the form that the kernels use.

    For record i and lead j, ``mV = (sample - baseline[i, j]) / gain[i, j]``; its samples are
    ``data[offset[i] : offset[i] + n_samples[i] * n_leads[i]]``, time first.

    Attributes
    ----------
    data
        Samples, 1-D, int16, or float32 (in mV: gain 1, baseline 0); memory-mapped, read-only.
    offset
        Index in `data` of each record's first sample, int64, shape ``(n_records,)``.
    n_samples
        Samples per lead, int64, shape ``(n_records,)``.
    n_leads
        Leads per record, int64, shape ``(n_records,)``.
    gain
        Units per mV, float32, shape ``(n_records, max_leads)``, padded with 1.
    baseline
        Value at 0 mV, float32, shape ``(n_records, max_leads)``, padded with 0.
    """

    data: NDArray[np.int16] | NDArray[np.float32]
    offset: NDArray[np.int64]
    n_samples: NDArray[np.int64]
    n_leads: NDArray[np.int64]
    gain: NDArray[np.float32]
    baseline: NDArray[np.float32]

    def samples(self, i: int) -> NDArray[np.int16] | NDArray[np.float32]:
        """Return a read-only view of record i as stored, shape ``(n_samples, n_leads)``."""
        shape = (int(self.n_samples[i]), int(self.n_leads[i]))
        start = int(self.offset[i])
        return self.data[start : start + shape[0] * shape[1]].reshape(shape)

    def millivolts(self, i: int) -> NDArray[np.float32]:
        """Return a new array of record i in mV, shape ``(n_samples, n_leads)``, float32."""
        leads = int(self.n_leads[i])
        return to_millivolts(self.samples(i), self.gain[i, :leads], self.baseline[i, :leads])


@dataclass(frozen=True)
class Provenance:
    """The origin of a corpus; the same content may come from several places.

    Attributes
    ----------
    source
        The data that the user asked for, in words.
    labels_sha256
        Hex digest of the label files.
    bad
        Records that were left out, with the reasons.
    notes
        Notes for the user about the search for records.
    labels
        The place of the labels that the user gave; None if they were searched for.
    reading
        Which leads were read, and what became of gaps.
    """

    source: str = ""
    labels_sha256: str = ""
    bad: tuple[BadRecord, ...] = ()
    notes: tuple[str, ...] = ()
    labels: str | None = None
    reading: Reading = DEFAULT


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """A labelled collection of records, packed, immutable and read-only.

    A corpus is pickled as its path, so that every process maps the same pages.

    Attributes
    ----------
    path
        The corpus's folder.
    provenance
        The origin of the corpus.
    ids, labels
        Name and label of each record, sorted by name.
    patients
        Patient of each record, '' if unknown; None if the labels name no patient at all.
    leads
        Each record's lead names.
    fs
        Sampling frequencies in Hz, float64, shape ``(n_records,)``.
    digest
        SHA-256 of the content: ids, labels, patients if any, fs, leads, gains, baselines and
        samples.
    fingerprints
        Of each record's signal, see `ecg_mlflow.records.fingerprint`.
    checksums
        CRC-32 of each record's samples as stored, uint32, shape ``(n_records,)``.
    signals
        The samples.
    """

    path: Path
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    patients: tuple[str, ...] | None
    leads: tuple[tuple[str, ...], ...]
    fs: NDArray[np.float64]
    digest: str
    fingerprints: tuple[Fingerprints, ...]
    checksums: NDArray[np.uint32]
    signals: Signals
    provenance: Provenance = Provenance()

    @classmethod
    def open(
        cls, path: str | Path, provenance: Provenance | None = None, *, check: bool = True
    ) -> Corpus:
        """Map a packed corpus.

        Parameters
        ----------
        path
            The corpus's folder.
        provenance
            The origin of the corpus, if known.
        check
            Read all samples, at some GB/s, and compare them with their checksums. Not needed where
            another process has just done so.

        Raises
        ------
        CorpusError
            If it is missing, damaged, or of another version.
        """
        global _last_opened
        path = Path(path)
        try:
            fields = _read(path)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise CorpusError(
                f"the packed corpus {path} can't be read, or was packed by another version: {error}"
            ) from error
        corpus = cls(path, **fields, provenance=provenance or Provenance())
        if check:
            corpus.verify()
        _last_opened = corpus.digest
        return corpus

    @property
    def n_samples(self) -> NDArray[np.int64]:
        """Samples per lead, int64, shape ``(n_records,)``."""
        return self.signals.n_samples

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Durations in seconds, float64, shape ``(n_records,)``."""
        return self.n_samples / self.fs

    @property
    def source(self) -> str:
        """The data that the user asked for, in words."""
        return self.provenance.source

    @property
    def labels_sha256(self) -> str:
        """Hex digest of the label files."""
        return self.provenance.labels_sha256

    @property
    def bad(self) -> tuple[BadRecord, ...]:
        """Records that were left out, with the reasons."""
        return self.provenance.bad

    @cached_property
    def copies(self) -> tuple[tuple[str, ...], ...]:
        """Groups of ids that are one recording, at whatever gain, offset and order of leads."""
        groups = same_recordings(self.fingerprints, self.signals.samples)
        return tuple(tuple(self.ids[i] for i in group) for group in groups)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.ids)}

    def index(self, name: str) -> int:
        """Return the position of a record by its name; KeyError if the corpus lacks it."""
        try:
            return self._position[name]
        except KeyError:
            raise KeyError(f"no record {name!r} among the {len(self)} of {self.path}") from None

    def record(self, i: int) -> Record:
        """Return record i in mV; a negative i counts from the end."""
        i = range(len(self))[i]
        return Record(
            self.ids[i],
            self.signals.millivolts(i),
            float(self.fs[i]),
            self.leads[i],
            self.labels[i],
        )

    def verify(self) -> None:
        """Read every sample, and raise a CorpusError if any differs from what was packed."""
        damaged = [
            name
            for i, name in enumerate(self.ids)
            if zlib.crc32(self.signals.samples(i).data) != self.checksums[i]
        ]
        if damaged:
            raise CorpusError(
                f"the packed corpus {self.path} is damaged: the samples of {few(damaged)} differ "
                "from those that were packed"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<Corpus of {len(self)} records, {self.digest[:12]}, {self.path}>"

    def __reduce__(self) -> tuple[object, tuple[Path, Provenance]]:
        return Corpus.open, (self.path, self.provenance)


def content_digest(corpus: Corpus, hashes: Sequence[bytes]) -> str:
    """Hash the content of a corpus: its index and the hashes of its records' samples."""
    signals = corpus.signals
    content = hashlib.sha256(f"{FORM} {signals.data.dtype.str}\n".encode())
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


def _read(folder: Path) -> dict[str, Any]:
    """Read the fields of a corpus from its files, and check these."""
    head, _, payload = (folder / INDEX_NAME).read_bytes().partition(b"\n")
    form, _, checksum = head.decode("ascii", errors="replace").rpartition(" ")
    if form != INDEX_FORM:
        raise ValueError(f"{INDEX_NAME} starts with {form[:40]!r}, not {INDEX_FORM!r}")
    if hashlib.sha256(payload).hexdigest() != checksum:
        raise ValueError(f"the checksum of {INDEX_NAME} doesn't match")
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    tables = json.loads(arrays.pop("tables").tobytes())
    leads = [tuple(names) for names in tables["leads"]]
    leads_of = arrays.pop("leads").tolist()
    ends = np.cumsum(arrays["n_samples"] * arrays["n_leads"])
    arrays["offset"] = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    for array in arrays.values():
        array.flags.writeable = False
    dtype = np.dtype(tables["dtype"])
    size, expected = (folder / SIGNALS_NAME).stat().st_size, int(ends[-1]) * dtype.itemsize
    if size != expected:
        raise ValueError(f"{SIGNALS_NAME} has {size} bytes, the index says {expected}")
    data = np.memmap(folder / SIGNALS_NAME, dtype=dtype, mode="r").view(np.ndarray)
    fs, checksums = arrays.pop("fs"), arrays.pop("checksums")
    return {
        "ids": tuple(tables["ids"]),
        "labels": tuple(tables["labels"]),
        "patients": tuple(tables["patients"]) if "patients" in tables else None,
        "leads": tuple(leads[i] for i in leads_of),
        "fs": fs,
        "checksums": checksums,
        "digest": tables["digest"],
        "fingerprints": tuple(map(tuple, tables["fingerprints"])),
        "signals": Signals(data, **arrays),
    }
