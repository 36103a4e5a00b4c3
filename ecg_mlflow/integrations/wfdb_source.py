"""MLflow's data source ``wfdb``: recordings and their labels, opened again from where they were.

MLflow imports this module in each of its processes: the records are imported when they are opened.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlflow.data.dataset_source import DatasetSource

from ecg_mlflow.errors import CorpusError, DatasetError
from ecg_mlflow.tracking.recordings_source import SOURCE_TYPE, RecordingsSource

if TYPE_CHECKING:
    from ecg_mlflow.records import Corpus


class WfdbSource(DatasetSource):
    """Where recordings come from; the inputs of a study's runs have it too.

    ``mlflow.data.get_source(run.inputs.dataset_inputs[0])`` returns one.

    Parameters
    ----------
    data, labels
        As for ``ecg-mlflow run``: a folder, a glob, ``cinc2017``, ``demo`` or ``demo:200``, and a
        file of labels if it isn't beside them.
    digest
        SHA-256 of the whole corpus; '' where it isn't known, and `load` can't compare it.
    rows
        Positions in the corpus of the records of a part of it, such as the test records of a
        study's run; None for all of them.

    Attributes
    ----------
    form
        All of that, as MLflow keeps it.

    Examples
    --------
    >>> WfdbSource("demo:200:0").to_dict()
    {'data': 'demo:200:0'}
    """

    def __init__(
        self,
        data: str,
        labels: str | None = None,
        digest: str = "",
        rows: tuple[int, ...] | None = None,
    ) -> None:
        self.form = RecordingsSource(data, labels, digest, rows)

    @property
    def data(self) -> str:
        """What to ask for, as ``ecg-mlflow run`` takes it."""
        return self.form.data

    @property
    def labels(self) -> str | None:
        """The file of the labels, where it was named."""
        return self.form.labels

    @property
    def digest(self) -> str:
        """SHA-256 of the whole corpus."""
        return self.form.digest

    @property
    def rows(self) -> tuple[int, ...] | None:
        """Positions in the corpus of the records that a run took; None for all of them.

        Raises
        ------
        DatasetError
            If they were so many, and so scattered, that MLflow could not keep them.
        """
        if self.form.n_unkept:
            raise DatasetError(
                f"this is a part of {self.form.n_unkept} records, whose rows did not fit into "
                "MLflow's store; `load` opens the whole corpus, and the artifact "
                "design/plan.json of the study's parent run lists the split by name"
            )
        return self.form.rows

    def load(self, data: str | None = None, labels: str | None = None) -> Corpus:
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

        labels = self.labels if data is None and labels is None else labels
        corpus = load_corpus(data or self.data, labels)
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

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return self.form.to_dict()

    def to_json(self) -> str:
        """Return it as JSON within MLflow's limits."""
        return self.form.to_json()

    @classmethod
    def from_dict(cls, source_dict: Mapping[Any, Any]) -> WfdbSource:
        """Read what `to_dict` has returned, or what earlier versions have logged.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is not of that form.
        """
        if "data" not in source_dict and "uri" in source_dict:
            from ecg_mlflow.records.locating import asked_for

            return cls(asked_for(str(source_dict["uri"])))
        form = RecordingsSource.from_dict(source_dict)
        source = cls(form.data)
        source.form = form
        return source

    @classmethod
    def of_corpus(cls, corpus: Corpus) -> WfdbSource:
        """Return the source of a whole corpus that `ecg_mlflow.load_corpus` has opened."""
        from ecg_mlflow.records.locating import asked_for

        return cls(asked_for(corpus.source), corpus.provenance.labels, corpus.digest)

    @staticmethod
    def _get_source_type() -> str:
        return SOURCE_TYPE

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        # A path or a word may as well mean something else, so none of them is claimed. Whoever
        # has a corpus has imported its module.
        module = sys.modules.get("ecg_mlflow.records.corpus")
        return module is not None and isinstance(raw_source, module.Corpus)

    @classmethod
    def _resolve(cls, raw_source: Any) -> WfdbSource:
        return cls.of_corpus(raw_source)

    def __repr__(self) -> str:
        rows = self.form.rows
        n_rows = self.form.n_unkept or (None if rows is None else len(rows))
        part = "" if n_rows is None else f", {n_rows} records of it"
        return f"<WfdbSource {self.data}{part}, {self.digest[:12]}>"
