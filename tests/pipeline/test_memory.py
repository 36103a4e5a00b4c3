"""Recordings in memory have the windows that they have in a packed corpus, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.pipeline import Pipeline
from ecg_mlflow.pipeline.memory import cut_windows, prepare_record


def squared(signal, fs):
    return signal**2


PIPELINES = {
    "fused": Pipeline().center_flip().split_signals(60, 20),
    "resampled": Pipeline().center_flip().resample_signals(210).split_signals(60, 60),
    "filtered once": Pipeline().band_pass_signals(1, 40).center_flip().split_signals(60, 25),
    "leads": Pipeline().keep_leads(["L1"]).split_signals(60, 60),
    "tail": Pipeline().center_flip().split_signals(60, 30).standardise_signals(),
    "in numpy": Pipeline().center_flip().apply(squared).resample_signals(250).split_signals(60, 60),
    "equal steps": Pipeline().split_signals(60, {"N": 20, "A": 20}),
    "long enough": Pipeline().drop_short_signals(0.01).split_signals(60, 60),
}


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_windows_are_those_of_a_packed_corpus(
    make_records, make_corpus, make_windows, pipeline, dtype
):
    rng = np.random.default_rng(0)
    lengths = (30, 60, 61, 200, 333)
    signals = [rng.normal(0, 500, (n, 2)).astype(dtype) for n in lengths]
    how = {"fs": [300, 300, 200, 360, 300], "gain": 750, "baseline": 12}
    maker = make_windows(make_corpus(signals, **how), pipeline, training=False)
    rows = np.arange(len(signals))
    windows, counts = maker.make(rows, maker.draw(3, 1, 4))
    stages = pipeline.stages()
    prepared = [prepare_record(record, stages) for record, _ in make_records(signals, **how)]
    found, found_counts = cut_windows(prepared, stages)
    assert found_counts.tolist() == counts.tolist()
    np.testing.assert_array_equal(found, windows)
    alone, _ = cut_windows(prepared[3:4], stages)
    np.testing.assert_array_equal(alone, windows[counts[:3].sum() : counts[:4].sum()])


def test_what_fails_names_the_record(make_records):
    ((record, _),) = make_records([np.ones((50, 1), np.float32)], fs=50)
    stages = Pipeline().band_pass_signals(1, 40).split_signals(10, 10).stages()
    with pytest.raises(PipelineError, match=r"record R000: .*edges must lie below 25 Hz"):
        prepare_record(record, stages)
