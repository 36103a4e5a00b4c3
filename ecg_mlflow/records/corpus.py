"""The packed corpus: every record's samples in one memory-mapped file, and an index beside it.

A corpus is a folder named by the digest of its content. ``signals.bin`` holds the samples of all
records one after the other, time first; ``index.bin`` says where each begins and what it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.errors import CorpusError
from ecg_mlflow.files import cache_root
from ecg_mlflow.records.index import INDEX_NAME, SIGNALS_NAME, Index, content_digest, read_index
from ecg_mlflow.records.record import BadRecord, Record, to_millivolts


def corpora_folder() -> Path:
    """Return where this machine's cache keeps packed corpora."""
    return cache_root() / "corpora"


def packed_path(digest: str) -> Path:
    """Return where this machine's cache keeps the corpus with that digest, if it has it."""
    return corpora_folder() / digest


#: Digest of the corpus that this process has opened last; MLflow's run context asks for it.
_last_opened: str | None = None


def last_opened() -> str | None:
    """Return the digest of the corpus that this process has opened last; None before the first."""
    return _last_opened


@dataclass(frozen=True, eq=False)
class Signals:
    """The samples of all records, as the kernels take them.

    For record i and lead j, ``mV = (sample - baseline[i, j]) / gain[i, j]``; its samples are
    ``data[offset[i] : offset[i] + n_samples[i] * n_leads[i]]``, time first.

    Attributes
    ----------
    data
        Samples, 1-D, int16, or float32 (in mV: gain 1, baseline 0); mapped, read-only.
    offset
        Index in `data` of each record's first sample, int64, shape ``(n_records,)``.
    n_samples
        Samples per lead, int64, shape ``(n_records,)``.
    n_leads
        Leads per record, int64, shape ``(n_records,)``.
    gain
        Units per mV, float32, shape ``(n_records, max_leads)``, filled up with 1.
    baseline
        Value at 0 mV, float32, shape ``(n_records, max_leads)``, filled up with 0.
    """

    data: NDArray[np.int16] | NDArray[np.float32]
    offset: NDArray[np.int64]
    n_samples: NDArray[np.int64]
    n_leads: NDArray[np.int64]
    gain: NDArray[np.float32]
    baseline: NDArray[np.float32]

    def samples(self, i: int) -> NDArray[np.int16] | NDArray[np.float32]:
        """Return record i as stored, shape ``(n_samples, n_leads)``, a read-only view."""
        shape = (int(self.n_samples[i]), int(self.n_leads[i]))
        start = int(self.offset[i])
        return self.data[start : start + shape[0] * shape[1]].reshape(shape)

    def millivolts(self, i: int) -> NDArray[np.float32]:
        """Return record i in mV, shape ``(n_samples, n_leads)``, float32, a fresh array."""
        leads = int(self.n_leads[i])
        return to_millivolts(self.samples(i), self.gain[i, :leads], self.baseline[i, :leads])


@dataclass(frozen=True)
class Provenance:
    """Where a corpus was packed from. The same content may come from several places.

    Attributes
    ----------
    source
        What the user asked for, in words.
    labels_sha256
        Hex digest of the label files.
    bad
        Records that were left out, and why.
    notes
        What the user should know about the search for records.
    labels
        Where the labels were said to be; None where they were looked for beside the records.
    """

    source: str = ""
    labels_sha256: str = ""
    bad: tuple[BadRecord, ...] = ()
    notes: tuple[str, ...] = ()
    labels: str | None = None


class Corpus:
    """A labelled collection of records, packed, immutable and read-only.

    It pickles as its path, so that every process maps the same pages.

    Attributes
    ----------
    path
        The corpus's folder.
    provenance
        Where it came from.
    ids, labels
        Name and label of each record, sorted by name.
    patients
        Whose each record is, '' where that isn't known; None where the labels name no patient.
    fs
        Sampling frequencies in Hz, float64, shape ``(n_records,)``.
    n_samples
        Samples per lead, int64, shape ``(n_records,)``.
    leads
        Each record's lead names.
    digest
        SHA-256 of the content: ids, labels, patients if any, fs, leads, gains, baselines and
        samples.
    copies
        Groups of ids whose signals are equal to the last sample.
    signals
        The samples themselves.
    """

    def __init__(self, path: Path, index: Index, signals: Signals, provenance: Provenance) -> None:
        self.path = path
        self.provenance = provenance
        self.ids = index.ids
        self.labels = index.labels
        self.patients = index.patients
        self.fs = index.fs
        self.n_samples = index.n_samples
        self.leads = index.leads
        self.digest = index.digest
        self.copies = index.copies
        self.signals = signals
        self._index = index

    @classmethod
    def open(cls, path: str | Path, provenance: Provenance | None = None) -> Corpus:
        """Map a packed corpus.

        Parameters
        ----------
        path
            Its folder.
        provenance
            Where it came from, where that is known.

        Raises
        ------
        CorpusError
            If it is missing, damaged, or written in another version's form. The samples are
            checked by their number only; `verify` checks all of them.
        """
        global _last_opened
        path = Path(path)
        index = read_index(path / INDEX_NAME)
        file = path / SIGNALS_NAME
        expected = index.n_values * index.dtype.itemsize
        try:
            size = file.stat().st_size
            if size != expected:
                raise CorpusError(
                    f"the packed corpus {path} is damaged: {SIGNALS_NAME} has {size} bytes, "
                    f"its index says {expected}. Delete the folder and run again."
                )
            data = np.memmap(file, dtype=index.dtype, mode="r").view(np.ndarray)
        except FileNotFoundError as error:
            raise CorpusError(
                f"the packed corpus {path} is damaged: {SIGNALS_NAME} is missing. "
                "Delete the folder and run again."
            ) from error
        signals = Signals(
            data, index.offset, index.n_samples, index.n_leads, index.gain, index.baseline
        )
        _last_opened = index.digest
        return cls(path, index, signals, provenance or Provenance())

    @property
    def source(self) -> str:
        """What the user asked for, in words."""
        return self.provenance.source

    @property
    def labels_sha256(self) -> str:
        """Hex digest of the label files that the labels came from."""
        return self.provenance.labels_sha256

    @property
    def bad(self) -> tuple[BadRecord, ...]:
        """Records that were left out, and why."""
        return self.provenance.bad

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.ids)}

    def index(self, name: str) -> int:
        """Return the position of the record of that name; KeyError where there is none."""
        try:
            return self._position[name]
        except KeyError:
            raise KeyError(f"no record {name!r} among the {len(self)} of {self.path}") from None

    def record(self, i: int) -> Record:
        """Decode record i; a negative i counts from the end."""
        i = range(len(self))[i]
        return Record(
            self.ids[i],
            self.signals.millivolts(i),
            float(self.fs[i]),
            self.leads[i],
            self.labels[i],
        )

    def verify(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Read every sample and compare the digest.

        Raises
        ------
        CorpusError
            If the content isn't what was packed.
        """
        hashes = []
        for i in range(len(self)):
            hashes.append(hashlib.sha256(self.signals.samples(i).tobytes()).digest())
            if on_progress:
                on_progress(i + 1, len(self))
        if content_digest(self._index, hashes) != self.digest:
            raise CorpusError(
                f"the packed corpus {self.path} is damaged: its samples aren't those that were "
                "packed. Delete the folder and run again."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<Corpus of {len(self)} records, {self.digest[:12]}, {self.path}>"

    def __reduce__(self) -> tuple[object, tuple[Path, Provenance]]:
        return Corpus.open, (self.path, self.provenance)
