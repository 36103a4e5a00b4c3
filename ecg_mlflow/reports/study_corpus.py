"""The recordings of a study that was run before, and which of them its networks have seen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import CorpusError
from ecg_mlflow.records import Corpus, load_corpus, packed_path
from ecg_mlflow.records.catalogue import asked_for
from ecg_mlflow.records.fingerprint import DIGITS
from ecg_mlflow.records.splits import TEST


@dataclass(frozen=True)
class DataLocation:
    """Where a study's recordings and labels are now; None where they were then.

    Attributes
    ----------
    data, labels
        As for ``ecg-mlflow run``.
    """

    data: str | None = None
    labels: str | None = None

    def of(self, plan: Mapping[str, Any], request: Mapping[str, Any]) -> tuple[str, str | None]:
        """Return data and labels; what isn't given is the study's."""
        data = self.data or request.get("data") or asked_for(plan["corpus"]["source"])
        return data, self.labels or request.get("labels")


def open_study_corpus(
    plan: Mapping[str, Any], request: Mapping[str, Any], location: DataLocation | None = None
) -> Corpus:
    """Open the corpus that a study was run on.

    Parameters
    ----------
    plan
        The study's ``design/plan.json``.
    request
        What the study was asked for: where its recordings were.
    location
        Where they are now, if somewhere else.

    Raises
    ------
    CorpusError
        If what is found isn't what the study was run on.
    DataNotFoundError
        If nothing is found.
    """
    wanted = plan["corpus"]["digest"]
    location = location or DataLocation()
    if location.data is None:
        with suppress(CorpusError):  # it may be damaged, or not be there
            return Corpus.open(packed_path(wanted))
    data, labels = location.of(plan, request)
    found = load_corpus(data, labels, leads=request.get("leads"), gaps=request.get("gaps"))
    if found.digest != wanted:
        raise CorpusError(
            f"the recordings of {found.source} are not those that the study was run on (digest "
            f"{found.digest[:16]}, the study's is {wanted[:16]}; it had them from "
            f"{plan['corpus']['source']}): files or labels have changed, or were added. Name the "
            "recordings as they were with data and labels"
        )
    return found


def seen_digests(plan: Mapping[str, Any], corpus: Corpus) -> list[str]:
    """Return the fingerprints of all records of a study but its test records, in order.

    Its networks were trained on them, or their thresholds chosen by them. Fingerprints hold for
    copies under other names, too.
    """
    names = [name for side, part in plan["split"].items() if side != TEST for name in part]
    return sorted({one for name in names for one in corpus.fingerprints[corpus.index(name)]})


def unseen(corpus: Corpus, rows: Iterable[int], seen: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Tell which records a network was not trained on, ``(n_records,)`` bool.

    Parameters
    ----------
    corpus, rows
        The records.
    seen
        From `seen_digests`, or in models of earlier versions digests of signals in mV.
    """
    known = frozenset(seen)
    return np.array([known.isdisjoint(_digests(corpus, int(row))) for row in rows], dtype=bool)


def _digests(corpus: Corpus, row: int) -> tuple[str, ...]:
    earlier = hashlib.sha256(corpus.signals.millivolts(row).tobytes()).hexdigest()[:DIGITS]
    return (*corpus.fingerprints[row], earlier)
