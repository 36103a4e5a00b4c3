"""Small corpora made of arrays, and the windows that a pipeline cuts from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ecg_mlflow.pipeline import BatchSource, Pipeline, WindowMaker, class_targets, prepare, select
from ecg_mlflow.records import Corpus, DigitalRecord
from ecg_mlflow.records.packing import pack

MakeRecords = Callable[..., list[tuple[DigitalRecord, str]]]
MakeCorpus = Callable[..., Corpus]
MakeWindows = Callable[..., WindowMaker]
MakeSource = Callable[..., BatchSource]


@pytest.fixture
def make_records() -> MakeRecords:
    """Return arrays ``(n_samples, n_leads)``, int16 or float32, as records R000, R001, ..."""

    def make(
        signals: Sequence[np.ndarray],
        labels: Sequence[str] | None = None,
        *,
        fs: float | Sequence[float] = 300,
        gain: float = 1000,
        baseline: float = 0,
        leads: Sequence[Sequence[str]] | None = None,
    ) -> list[tuple[DigitalRecord, str]]:
        records = []
        for i, signal in enumerate(signals):
            n_leads, digital = signal.shape[1], signal.dtype == np.int16
            names = leads[i] if leads else [f"L{j}" for j in range(n_leads)]
            record = DigitalRecord(
                id=f"R{i:03}",
                fs=float(fs if isinstance(fs, int | float) else fs[i]),
                leads=tuple(names),
                samples=signal,
                gain=np.full(n_leads, gain if digital else 1, np.float32),
                baseline=np.full(n_leads, baseline if digital else 0, np.float32),
            )
            records.append((record, labels[i] if labels else "NA"[i % 2]))
        return records

    return make


@pytest.fixture
def make_corpus(make_records: MakeRecords, tmp_path: Path) -> MakeCorpus:
    """Pack the records that `make_records` returns."""
    return lambda *args, **kwargs: pack(
        make_records(*args, **kwargs), tmp_path / "corpora", "made-up"
    )


@pytest.fixture
def make_windows() -> MakeWindows:
    """Return the maker of a pipeline's windows of a corpus, for training by default."""

    def make(
        corpus: Corpus,
        pipeline: Pipeline,
        rows: Sequence[int] | None = None,
        *,
        training: bool = True,
    ) -> WindowMaker:
        stages = pipeline.stages()
        selection = select(corpus, stages, rows)
        prepared = prepare(corpus, stages, selection.rows)
        return WindowMaker(stages, prepared, selection.rows, selection.labels, training=training)

    return make


@pytest.fixture
def make_source(make_windows: MakeWindows) -> MakeSource:
    """Return the batches of a pipeline and corpus, with the classes N and A."""

    def make(
        corpus: Corpus,
        pipeline: Pipeline,
        batch_size: int,
        rows: Sequence[int] | None = None,
        *,
        drop_last: bool = False,
    ) -> BatchSource:
        selection = select(corpus, pipeline.stages(), rows)
        return BatchSource(
            make_windows(corpus, pipeline, rows),
            selection.rows,
            class_targets(selection.labels, ["N", "A"]),
            batch_size,
            drop_last,
        )

    return make
