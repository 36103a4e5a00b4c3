"""MLflow's data set of ECG recordings: ``mlflow.data.from_wfdb``.

MLflow imports this module in each of its processes: the records are imported when they are opened.
"""

# No `from __future__ import annotations`: MLflow looks whether the return annotation of a
# constructor is a class, and drops a function with one that is text, with a warning at most.

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.data.dataset import Dataset
from mlflow.entities import Dataset as DatasetEntity

from ecg_mlflow.errors import DatasetError
from ecg_mlflow.integrations.wfdb_source import WfdbSource
from ecg_mlflow.tracking.recordings_source import DIGEST_LIMIT

if TYPE_CHECKING:
    from ecg_mlflow.records import Corpus
    from ecg_mlflow.tracking.datasets import DatasetInfo


class WfdbDataset(Dataset):
    """Labelled ECG recordings, to be logged with ``mlflow.log_input``; `from_wfdb` makes them.

    Parameters
    ----------
    corpus
        The recordings, from `ecg_mlflow.load_corpus`.
    source
        Where they come from.
    name, digest
        In place of the folder's name and the beginning of the corpus's digest.
    """

    def __init__(
        self,
        corpus: "Corpus",
        source: WfdbSource,
        name: str | None = None,
        digest: str | None = None,
    ) -> None:
        self._corpus = corpus
        self._wfdb = source
        super().__init__(source, name or _name_of(source.data), digest)

    @property
    def corpus(self) -> "Corpus":
        """The recordings and their labels."""
        return self._corpus

    @property
    def source(self) -> WfdbSource:
        """Where the recordings come from."""
        return self._wfdb

    def _compute_digest(self) -> str:
        # As much as MLflow keeps, and the same as in the tag ecg_mlflow.corpus of runs.
        return self._corpus.digest[:DIGEST_LIMIT]

    @property
    def profile(self) -> dict[str, Any]:
        """How many recordings there are, of which classes, and how long in seconds."""
        return self._info.profile

    @property
    def schema(self) -> dict[str, Any]:
        """What one recording looks like: type and unit of the signal, fs in Hz, leads, labels."""
        return self._info.schema

    def to_dict(self) -> dict[str, str]:
        """Return what MLflow keeps of it: texts, those of source, schema and profile in JSON."""
        return {
            **super().to_dict(),
            "schema": json.dumps(self.schema),
            "profile": json.dumps(self.profile),
        }

    def _to_mlflow_entity(self) -> DatasetEntity:
        return DatasetEntity(**self.to_dict())

    @cached_property
    def _info(self) -> "DatasetInfo":
        """Describe it in the words of a study's data sets."""
        from collections import Counter

        import numpy as np

        from ecg_mlflow.records.label_sets import split_label
        from ecg_mlflow.tracking.datasets import DatasetInfo

        corpus = self._corpus
        seconds = corpus.n_samples / corpus.fs
        counts = Counter(one for label in corpus.labels for one in split_label(label))
        return DatasetInfo(
            self.name,
            self.digest,
            self.source.form,
            len(corpus),
            dict(sorted(counts.items())),
            tuple(sorted(set(map(float, corpus.fs)))),
            # As many as any record has; which they are may differ from one to the other.
            max(corpus.leads, key=len),
            (float(seconds.min()), float(np.median(seconds)), float(seconds.max())),
        )


def from_wfdb(
    data: str | Path,
    labels: str | Path | None = None,
    name: str | None = None,
    digest: str | None = None,
    on_bad_record: str = "error",
) -> WfdbDataset:
    """Open ECG recordings as a data set that MLflow can log; also ``mlflow.data.from_wfdb``.

    Parameters
    ----------
    data
        As for ``ecg-mlflow run``: a folder of WFDB records, a glob of their headers, ``cinc2017``,
        ``demo`` or ``demo:200``.
    labels
        A CSV of ``record,label``; by default the one beside the records.
    name
        By default the name of the folder, or the word that was asked for.
    digest
        By default the first 36 characters of the digest of all records and labels.
    on_bad_record
        ``error``, or ``skip`` to leave out recordings that can't be used.

    Raises
    ------
    BadRecordsError
        If recordings can't be used, with `on_bad_record` at ``error``; the message lists them.
    DataNotFoundError
        If there are no records or no labels where they were looked for.
    DatasetError
        If `digest` is longer than MLflow keeps, or `on_bad_record` is another word.

    Examples
    --------
    >>> dataset = mlflow.data.from_wfdb("demo:200")
    >>> mlflow.log_input(dataset, context="training")
    >>> dataset.corpus.record(0).signal
    """
    from ecg_mlflow.records import bad_records_error, load_corpus

    if on_bad_record not in ("error", "skip"):
        raise DatasetError(f"on_bad_record={on_bad_record!r}: say 'error' or 'skip'")
    if digest is not None and len(digest) > DIGEST_LIMIT:
        raise DatasetError(
            f"digest={digest!r} has {len(digest)} characters, and MLflow keeps {DIGEST_LIMIT}; "
            "leave it out, to have the corpus's own"
        )
    corpus = load_corpus(str(data), labels)
    if corpus.bad and on_bad_record == "error":
        raise bad_records_error(corpus.bad)
    return WfdbDataset(corpus, WfdbSource.of_corpus(corpus), name, digest)


def _name_of(data: str) -> str:
    """Name a data set by its folder, or that of a glob, or by the word that was asked for."""
    path = Path(data)
    if not path.is_absolute():
        return data.partition(":")[0]
    while set(path.name) & set("*?["):
        path = path.parent
    return path.name or data
