"""Small corpora made of arrays, and the windows that a pipeline cuts from them."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.pipeline import BatchSource, WindowMaker, class_targets, prepare, select
from ecg_mlflow.records import DigitalRecord
from ecg_mlflow.records.packing import pack


@pytest.fixture
def make_records():
    """Return arrays ``(n_samples, n_leads)``, int16 or float32, as records R000, R001, ..."""

    def make(signals, labels=None, *, fs=300, gain=1000, baseline=0, leads=None):
        records = []
        for i, signal in enumerate(signals):
            n_leads, digital = signal.shape[1], signal.dtype == np.int16
            record = DigitalRecord(
                id=f"R{i:03}",
                fs=float(fs if isinstance(fs, int | float) else fs[i]),
                leads=tuple(leads[i] if leads else [f"L{j}" for j in range(n_leads)]),
                samples=signal,
                gain=np.full(n_leads, gain if digital else 1, np.float32),
                baseline=np.full(n_leads, baseline if digital else 0, np.float32),
            )
            records.append((record, labels[i] if labels else "NA"[i % 2]))
        return records

    return make


@pytest.fixture
def make_corpus(make_records, tmp_path):
    """Pack the records that `make_records` returns."""
    return lambda *args, **kwargs: pack(
        make_records(*args, **kwargs), tmp_path / "corpora", "made-up"
    )


@pytest.fixture
def make_windows():
    """Return the maker of a pipeline's windows of a corpus, for training by default."""

    def make(corpus, pipeline, rows=None, *, training=True):
        stages = pipeline.stages()
        selection = select(corpus, stages, rows)
        prepared = prepare(corpus, stages, selection.rows)
        return WindowMaker(stages, prepared, selection.rows, selection.labels, training=training)

    return make


@pytest.fixture
def make_source(make_windows):
    """Return the batches of a pipeline and corpus, with the classes N and A."""

    def make(corpus, pipeline, batch_size, rows=None, *, drop_last=False):
        selection = select(corpus, pipeline.stages(), rows)
        targets = class_targets(selection.labels, ["N", "A"])
        windows = make_windows(corpus, pipeline, rows)
        return BatchSource(windows, selection.rows, targets, batch_size, drop_last)

    return make
