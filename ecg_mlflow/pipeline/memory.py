"""Apply a pipeline to recordings in memory, for a model that gets recordings one by one.

It uses the code for packed corpora (`run_once`, `WindowMaker`), so that a recording has the same
windows as in a study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.pipeline.actions.base import Signal
from ecg_mlflow.pipeline.pipeline import Stages
from ecg_mlflow.pipeline.prepare import Prepared, changing_actions, run_once
from ecg_mlflow.pipeline.windows import WindowMaker
from ecg_mlflow.records import DigitalRecord, Record, Signals


def prepare_record(record: DigitalRecord, stages: Stages) -> DigitalRecord:
    """Run the actions that run once per record.

    Raises
    ------
    PipelineError
        If an action fails, or its result isn't finite.
    """
    if changing := changing_actions(stages):
        signal = Record(record.id, record.millivolts(), record.fs, record.leads, None)
        return run_once(signal, changing)
    return record


def cut_windows(
    records: Sequence[DigitalRecord], stages: Stages
) -> tuple[Signal, npt.NDArray[np.int64]]:
    """Cut prepared recordings as at test time; each recording is independent of the others.

    Parameters
    ----------
    records
        At least one recording from `prepare_record`, all with the same leads.
    stages
        A deterministic pipeline.

    Returns
    -------
    windows
        ``(n_windows, length, n_leads)`` float32, record by record.
    counts
        ``(n_records,)`` number of windows of each.

    Raises
    ------
    PipelineError
        If an action fails on a record.
    """
    rows = np.arange(len(records))
    prepared = Prepared(
        signals_of(records),
        rows,
        np.array([record.fs for record in records], np.float64),
        records[0].leads,
        tuple(record.id for record in records),
    )
    step = stages.split.per_label()
    any_label = next(iter(step)) if isinstance(step, Mapping) else ""
    maker = WindowMaker(stages, prepared, rows, [any_label] * len(rows), training=False)
    return maker.make(rows, maker.draw(0, 0, 0))


def signals_of(records: Sequence[DigitalRecord]) -> Signals:
    """Concatenate recordings with the same leads, as a packed corpus does.

    If any recording is float32, int16 samples become float32, which represents them exactly.
    """
    n_samples = np.array([len(record.samples) for record in records], np.int64)
    n_leads = np.array([len(record.leads) for record in records], np.int64)
    ends = np.cumsum(n_samples * n_leads)
    samples: Any = np.concatenate([record.samples.reshape(-1) for record in records])
    return Signals(
        samples,
        (ends - n_samples * n_leads).astype(np.int64),
        n_samples,
        n_leads,
        np.stack([record.gain for record in records]),
        np.stack([record.baseline for record in records]),
    )
