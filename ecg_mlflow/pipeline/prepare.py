"""Run the part of a pipeline that runs once: labels, selection and deterministic actions.

The result is cached on disk under the digest of corpus and actions, and memory-mapped by every
process, so that twenty workers filter a recording once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import CorpusError, PipelineError
from ecg_mlflow.files import cache_root, locked, write_whole
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.pipeline.actions.base import Signal
from ecg_mlflow.pipeline.actions.records import ApplyStep, RecordAction
from ecg_mlflow.pipeline.pipeline import Stages
from ecg_mlflow.records import Corpus, DigitalRecord, Record, Signals, corpora_folder, packed_path
from ecg_mlflow.records.packing import pack

#: Part of the key of a prepared corpus; raise it when an action computes another result.
_VERSION = 1


@dataclass(frozen=True)
class Selection:
    """The records that a pipeline keeps, with their final labels.

    Attributes
    ----------
    rows
        ``(n,)`` int64 positions in the corpus, ascending.
    labels
        Final label of each.
    """

    rows: npt.NDArray[np.int64]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """Signals that are ready for the actions that run for every batch.

    Attributes
    ----------
    signals
        Packed signals of the whole corpus, or of the prepared records.
    place
        ``(n_corpus,)`` int64: position in `signals` of each corpus row, -1 for a missing one.
    fs
        ``(n_corpus,)`` float64, Hz.
    leads
        Names of the leads, the same for all records.
    ids
        Names of the records of the corpus, for messages.
    """

    signals: Signals
    place: npt.NDArray[np.int64]
    fs: npt.NDArray[np.float64]
    leads: tuple[str, ...]
    ids: tuple[str, ...]


def select(corpus: Corpus, stages: Stages, rows: Sequence[int] | None = None) -> Selection:
    """Apply the pipeline's label actions and length limits.

    Parameters
    ----------
    corpus
        The recordings.
    stages
        The pipeline.
    rows
        Positions in the corpus to select from; all by default.
    """
    kept: list[int] = []
    labels: list[str] = []
    for row in range(len(corpus)) if rows is None else rows:
        label = stages.label(corpus.labels[row])
        n_samples, fs = int(corpus.n_samples[row]), float(corpus.fs[row])
        if label is not None and all(a.keeps(n_samples, fs) for a in stages.once):
            kept.append(row)
            labels.append(label)
    return Selection(np.asarray(kept, dtype=np.int64), tuple(labels))


def output_leads(corpus: Corpus, stages: Stages, rows: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """Return the leads of these records after the pipeline.

    Raises
    ------
    PipelineError
        If the records end with different leads, since a model takes only one set.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        leads = corpus.leads[row]
        for action in stages.once:
            leads = action.output_leads(leads)
        found.setdefault(leads, []).append(corpus.ids[row])
    if len(found) > 1:
        commonest = sorted(found.items(), key=lambda item: -len(item[1]))[:5]
        listed = "; ".join(
            f"{len(ids)} records have {list(leads)} (such as {ids[0]})" for leads, ids in commonest
        )
        raise PipelineError(
            f"the records do not have the same leads: {listed}. Choose with keep_leads([...]) or "
            "order with reorder_leads([...]) in the pipeline"
        )
    return next(iter(found), ())


def prepare(corpus: Corpus, stages: Stages, rows: npt.NDArray[np.int64]) -> Prepared:
    """Run the actions that run once per record, or open their result in the cache.

    Parameters
    ----------
    corpus
        The recordings.
    stages
        The pipeline.
    rows
        ``(n,)`` positions of the records that will be used, ascending.

    Raises
    ------
    PipelineError
        If an action fails on a record, or its result isn't finite; the message names the record.
    """
    leads = output_leads(corpus, stages, rows)
    changing = changing_actions(stages)
    if not changing:
        return Prepared(corpus.signals, np.arange(len(corpus)), corpus.fs, leads, corpus.ids)
    key = digest([_VERSION, corpus.digest, changing, rows])
    note = cache_root() / "prepared" / f"{key}.txt"
    with locked(note):
        prepared = _reopened(note)
        if prepared is None:
            records = (
                (run_once(corpus.record(int(row)), changing), corpus.labels[row]) for row in rows
            )
            prepared = pack(records, corpora_folder(), note.stem)
            write_whole(note, prepared.digest.encode())
    place = np.full(len(corpus), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    fs = corpus.fs.copy()
    fs[rows] = prepared.fs
    return Prepared(prepared.signals, place, fs, leads, corpus.ids)


def _reopened(note: Path) -> Corpus | None:
    """Open what was prepared before; None if there is nothing, or it is damaged."""
    try:
        return Corpus.open(packed_path(note.read_text()))
    except (FileNotFoundError, CorpusError):
        return None


def changing_actions(stages: Stages) -> tuple[RecordAction, ...]:
    """Return the actions that run once and change leads or signals; none if no signal changes."""
    if all(type(one).apply is RecordAction.apply for one in stages.once):
        return ()
    kept = RecordAction.apply, RecordAction.output_leads
    return tuple(one for one in stages.once if (type(one).apply, type(one).output_leads) != kept)


def run_once(record: Record, actions: Iterable[RecordAction]) -> DigitalRecord:
    """Run actions on one record; the result is in mV, float32.

    Raises
    ------
    PipelineError
        If an action fails, or its result isn't finite; the message names the record.
    """
    signal, fs, leads = record.signal, record.fs, record.leads
    for action in actions:
        signal = apply_checked(action, signal, fs, leads, record.id)
        fs, leads = action.output_fs(fs), action.output_leads(leads)
    return DigitalRecord.from_millivolts(record.id, signal, fs, leads)


def apply_checked(
    action: RecordAction, signal: Signal, fs: float, leads: tuple[str, ...], record_id: str
) -> Signal:
    """Apply an action to a record, or to a window of it; errors name the record.

    Raises
    ------
    PipelineError
        If the action fails, or its result isn't finite.
    """
    try:
        result = action.apply(signal, fs, leads)
    except PipelineError as error:
        raise PipelineError(f"record {record_id}: {error}") from error
    if not np.isfinite(result).all():
        what = "the function" if isinstance(action, ApplyStep) else "the recording"
        raise PipelineError(
            f"record {record_id}: after {action} the signal has NaN or infinite values; "
            f"correct {what}, or leave the record out"
        )
    return result
