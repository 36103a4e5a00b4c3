"""MLflow's data set of ECG recordings, ``mlflow.data.from_wfdb``, and its source ``wfdb``.

MLflow imports this module in each of its processes: the records are imported when they are opened.
"""

# No `from __future__ import annotations`: MLflow looks whether the return annotation of a
# constructor is a class, and drops a function with one that is text, with a warning at most.

import logging
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source import DatasetSource

from ecg_mlflow.errors import CorpusError, DatasetError
from ecg_mlflow.tracking.recordings_source import DIGEST_LIMIT, SOURCE_TYPE, RecordingsSource

_logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from ecg_mlflow.records import Corpus
    from ecg_mlflow.tracking.dataset_inputs import DatasetInfo


class WfdbSource(RecordingsSource, DatasetSource):
    """Where recordings come from; the inputs of a study's runs have it too.

    ``mlflow.data.get_source(run.inputs.dataset_inputs[0])`` returns one. Its parameters and
    attributes are those of `ecg_mlflow.tracking.recordings_source.RecordingsSource`: ``data`` and
    ``labels`` as for ``ecg-mlflow run``; ``digest``, the SHA-256 of the whole corpus; ``rows``,
    positions in the corpus of the records of a part of it, such as the test records of a study's
    run, None for all of them; ``n_unkept``, their number where MLflow could not keep them all.

    Examples
    --------
    >>> WfdbSource("demo:200:0").to_dict()
    {'data': 'demo:200:0'}
    """

    def load(self, data: str | None = None, labels: str | None = None) -> "Corpus":
        """Open the recordings again, all of them, and check that they are the same.

        Of a part, such as the training records of a run, `rows` says which of them it is:
        ``[corpus.record(row) for row in source.rows]``.

        Parameters
        ----------
        data, labels
            Where recordings and labels are now, if somewhere else than they were then.

        Raises
        ------
        CorpusError
            If files or labels have changed, or some were added or removed.
        DataNotFoundError
            If there are no records or no labels where they were looked for.
        """
        from ecg_mlflow.records import load_corpus, packed_path

        if self.n_unkept:
            _logger.warning(
                "this is a part of %d records, whose rows did not fit into MLflow's store; here is "
                "the whole corpus, and the artifact design/plan.json of the study's parent run "
                "lists the split by name",
                self.n_unkept,
            )
        labels = self.labels if data is None and labels is None else labels
        corpus = load_corpus(data or self.data, labels, leads=self.leads, gaps=self.gaps)
        if self.digest and corpus.digest != self.digest:
            packed = packed_path(self.digest)
            as_they_were = (
                f"As they were they are still packed: Corpus.open({str(packed)!r}) opens them."
                if packed.exists()
                else "Give the place of the recordings as they were with load(data, labels)."
            )
            raise CorpusError(
                f"the recordings of {corpus.source} have changed since they were logged: the "
                f"corpus, now of {len(corpus)} records, has the digest {corpus.digest[:16]}, and "
                f"that of then was {self.digest[:16]}. Files or labels were changed, added or "
                f"removed. {as_they_were}"
            )
        return corpus

    @classmethod
    def from_dict(cls, source_dict: Mapping[Any, Any]) -> "WfdbSource":
        """Read what `to_dict` has returned, or what earlier versions have logged.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is not of that form.
        """
        if "data" not in source_dict and "uri" in source_dict:
            from ecg_mlflow.records.catalogue import asked_for

            return cls(asked_for(str(source_dict["uri"])))
        return super().from_dict(source_dict)

    @staticmethod
    def _get_source_type() -> str:
        return SOURCE_TYPE

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False  # a path or a word may mean something else

    @classmethod
    def _resolve(cls, raw_source: Any) -> "WfdbSource":
        raise NotImplementedError

    def __repr__(self) -> str:
        n_rows = self.n_unkept or (None if self.rows is None else len(self.rows))
        part = "" if n_rows is None else f", {n_rows} records of it"
        return f"<WfdbSource {self.data}{part}, {self.digest[:12]}>"


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

    Attributes
    ----------
    corpus
        The recordings and their labels.
    """

    def __init__(
        self,
        corpus: "Corpus",
        source: WfdbSource,
        name: str | None = None,
        digest: str | None = None,
    ) -> None:
        self.corpus = corpus
        super().__init__(source, name or _name_of(source.data), digest)

    @property
    def source(self) -> WfdbSource:
        """Where the recordings come from."""
        return cast("WfdbSource", self._source)

    def _compute_digest(self) -> str:
        # As much as MLflow keeps, and the same as in the tag ecg_mlflow.corpus of runs.
        return self.corpus.digest[:DIGEST_LIMIT]

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
        return self._info.to_mlflow().to_dictionary()

    @cached_property
    def _info(self) -> "DatasetInfo":
        """Describe it in the words of a study's data sets."""
        from ecg_mlflow.records.label_sets import count_labels
        from ecg_mlflow.tracking.dataset_inputs import DatasetInfo, duration_range

        corpus = self.corpus
        return DatasetInfo(
            self.name,
            self.digest,
            self.source,
            len(corpus),
            dict(sorted(count_labels(corpus.labels).items())),
            tuple(sorted(set(map(float, corpus.fs)))),
            # As many as any record has; which they are may differ from one to the other.
            max(corpus.leads, key=len),
            duration_range(corpus.seconds),
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
    from ecg_mlflow.records.catalogue import asked_for

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
    source = WfdbSource(asked_for(corpus.source), corpus.provenance.labels, corpus.digest)
    return WfdbDataset(corpus, source, name, digest)


def _name_of(data: str) -> str:
    """Name a data set by its folder, or that of a glob, or by the word that was asked for."""
    path = Path(data)
    if not path.is_absolute():
        return re.split("[:@]", data)[0]
    while set(path.name) & set("*?["):
        path = path.parent
    return path.name or data
