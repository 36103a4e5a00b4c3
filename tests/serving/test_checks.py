"""Recordings that are refused, and what is said of doubtful ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.pipeline import Pipeline
from ecg_mlflow.serving.adapt import adapt
from ecg_mlflow.serving.checks import length_flags

PLAIN = Pipeline().center_flip().split_signals(120, 120)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(make_record, expected, value):
    record = make_record()
    record.samples[[7, 30]] = value
    with pytest.raises(
        RecordError, match=r"NaN or infinite: 2 of 500 .* 'L1', the first is num.* 7"
    ):
        adapt(record, expected())


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_flat_lead(make_record, expected, dtype):
    samples = np.arange(1000).reshape(500, 2).astype(dtype)
    samples[:, 1] = 5
    with pytest.raises(RecordError, match="flat signal: lead 'L2' has the same value"):
        adapt(make_record(samples, leads=("L1", "L2")), expected(n_leads=2))
    # It doesn't matter in a lead that isn't used.
    assert adapt(make_record(samples, leads=("L1", "L2")), expected()).flags


def test_the_shortest_recording_trained_on_is_the_limit(make_record, expected):
    assert not adapt(make_record(n_samples=250), expected()).flags
    with pytest.raises(RecordError, match=r"too short: 0\.996 s; .* from 1 s on"):
        adapt(make_record(n_samples=249), expected())
    own_limit = Pipeline().drop_short_signals(2.5).split_signals(120, 120)
    with pytest.raises(RecordError, match=r"too short: 2 s; .* from 2\.5 s on"):
        adapt(make_record(), expected(own_limit))


@pytest.mark.parametrize(
    ("factor", "unit"), [(1000, "in µV"), (1e-3, "in V"), (1, None), (5, None), (0.1, None)]
)
@pytest.mark.parametrize("fs", [250, 25_000])
def test_amplitudes_that_no_ecg_has(make_record, expected, factor, unit, fs):
    record = make_record(fs=fs, n_samples=2 * fs)
    record.samples[3] = 400 * factor  # one spike says nothing
    record = replace(record, physical=record.samples * np.float32(factor))
    (*flags,) = adapt(record, expected(fs=(float(fs),))).flags
    if unit is None:
        assert flags == []
    else:
        assert len(flags) == 1
        assert flags[0].startswith("implausible amplitude: lead 'L1' ranges over")
        assert unit in flags[0]


def test_the_converters_units_are_no_millivolts(make_record, expected):
    samples = (make_record().samples * 1000).astype(np.int16)
    assert adapt(make_record(samples), expected()).flags == ()


@pytest.mark.parametrize("fs", [1e-6, 24, 26_000])
@pytest.mark.parametrize(
    "pipeline", [PLAIN, Pipeline().resample_signals(250).split_signals(120, 120)]
)
def test_frequencies_that_no_ecg_has(make_record, expected, fs, pipeline):
    with pytest.raises(RecordError, match=f"implausible sampling frequency: {fs:g} Hz; .* 250 Hz"):
        adapt(make_record(fs=fs, n_samples=100), expected(pipeline, shortest_s=0.0))


@pytest.mark.parametrize(
    ("pipeline", "flags"),
    [
        (PLAIN, ()),
        (Pipeline().split_signals(500, 500), ()),
        (
            Pipeline().split_signals(2500, 2500),
            ("shorter than one window: zeros fill 8 of 10 s",),
        ),
        (
            Pipeline().center_flip().resample_signals(125).split_signals(500, 500),
            ("shorter than one window: zeros fill 2 of 4 s",),
        ),
    ],
)
def test_zeros_in_the_only_window_are_said(make_record, pipeline, flags):
    assert length_flags(make_record(), pipeline.stages()) == flags
