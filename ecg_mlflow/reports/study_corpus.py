"""The recordings of a study that was run before, and which of them its networks have seen."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import CorpusError
from ecg_mlflow.records import Corpus, load_corpus, packed_path
from ecg_mlflow.records.catalogue import asked_for
from ecg_mlflow.records.splits import TEST

#: Hex digits of a recording's digest: enough to tell any two apart that are not the same.
DIGITS = 16


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
    if location.data is None and packed_path(wanted).exists():
        return Corpus.open(packed_path(wanted))
    found = load_corpus(*location.of(plan, request))
    if found.digest != wanted:
        raise CorpusError(
            f"the recordings of {found.source} are not those that the study was run on (digest "
            f"{found.digest[:16]}, the study's is {wanted[:16]}; it had them from "
            f"{plan['corpus']['source']}): files or labels have changed, or were added. Name the "
            "recordings as they were with data and labels"
        )
    return found


def seen_digests(plan: Mapping[str, Any], corpus: Corpus) -> list[str]:
    """Return the digests of all records of a study but its test records, in order.

    Its networks were trained on them, or their thresholds chosen by them. Digests hold for a copy
    under another name too.
    """
    names = (name for side, part in plan["split"].items() if side != TEST for name in part)
    return sorted(set(record_digests(corpus, [corpus.index(name) for name in names])))


def record_digests(corpus: Corpus, rows: Iterable[int]) -> list[str]:
    """Return a digest of each recording's signal in mV, whatever form it is packed in."""
    return [
        hashlib.sha256(corpus.signals.millivolts(int(row)).tobytes()).hexdigest()[:DIGITS]
        for row in rows
    ]


def unseen(corpus: Corpus, rows: Iterable[int], seen: Collection[str]) -> npt.NDArray[np.bool_]:
    """Tell which records a network was not trained on, ``(n_records,)`` bool."""
    return np.array([digest not in seen for digest in record_digests(corpus, rows)], dtype=bool)
