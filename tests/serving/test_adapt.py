"""What is made of recordings that differ from those trained on: an error, or a flag."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.pipeline import Pipeline
from ecg_mlflow.serving.adapt import adapt, length_flags

PLAIN = Pipeline().center_flip().split_signals(120, 120)


def doubled(signal, fs):
    return signal * 2


def test_what_fits_stays_as_it_is(make_record, expected):
    record = make_record()
    adapted = adapt(record, expected())
    assert adapted.flags == ()
    assert adapted.record.samples is record.samples
    assert adapted.record.fs == 250


# --- Leads ---------------------------------------------------------------------------------------


def test_leads_are_put_in_order_and_others_left_out(make_record, expected):
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 300, (400, 3)).astype(np.int16)
    record = replace(
        make_record(samples, leads=("L2", "V9", "L1")),
        gain=np.array([100, 200, 300], np.float32),
        baseline=np.array([1, 2, 3], np.float32),
    )
    adapted = adapt(record, expected(n_leads=2))
    assert adapted.flags == (
        "left out of the record: lead 'V9'",
        "leads put in the order ['L1', 'L2']",
    )
    assert adapted.record.leads == ("L1", "L2")
    np.testing.assert_array_equal(adapted.record.millivolts(), record.millivolts()[:, [2, 0]])
    assert adapted.record.samples.dtype == np.int16


def test_case_and_spaces_make_no_other_lead(make_record, expected):
    adapted = adapt(make_record(leads=(" l1", "L2 ")), expected(n_leads=2))
    assert adapted.flags == ()
    assert adapted.record.leads == ("L1", "L2")


def test_one_lead_of_another_name_is_taken_and_said(make_record, expected):
    adapted = adapt(make_record(leads=("MLII",)), expected())
    assert adapted.flags == ("lead 'MLII' is taken for 'L1', the one trained on",)
    assert adapted.record.leads == ("L1",)


@pytest.mark.parametrize(
    ("leads", "n_leads", "why"),
    [
        (("MLII", "V5"), 1, r"lead 'L1' is missing: the record has \['MLII', 'V5'\]"),
        (("L1",), 2, "lead 'L2' is missing"),
        (("V1", "V2"), 2, "lead 'L1', 'L2' is missing"),
        (("L1", "l1"), 1, "several leads are called 'L1'"),
    ],
)
def test_leads_that_are_wrong(make_record, expected, leads, n_leads, why):
    with pytest.raises(RecordError, match=why):
        adapt(make_record(leads=leads), expected(n_leads=n_leads))


@pytest.mark.parametrize("lacks", [("L2", "L3"), ("L3", "L2", "V1")])
def test_leads_that_the_network_never_sees_may_lack(make_record, expected, lacks):
    pipeline = Pipeline().band_pass_signals(1, 40).drop_leads(["L1"]).split_signals(120, 120)
    wanted = expected(pipeline, n_leads=3)
    assert wanted.needed == ("L2", "L3")
    record = make_record(leads=lacks)
    adapted = adapt(record, wanted)
    assert adapted.record.leads == ("L1", "L2", "L3")
    signal = adapted.record.millivolts()
    np.testing.assert_array_equal(signal[:, 0], 0)
    columns = [lacks.index("L2"), lacks.index("L3")]
    np.testing.assert_array_equal(signal[:, 1:], record.millivolts()[:, columns])


def test_a_function_of_the_users_own_may_look_at_all_leads(expected):
    assert expected(Pipeline().keep_leads(["L2"]).split_signals(9, 9), 2).needed == ("L2",)
    pipeline = Pipeline().apply(doubled).keep_leads(["L2"]).split_signals(9, 9)
    assert expected(pipeline, 2).needed == ("L1", "L2")


# --- Sampling frequency --------------------------------------------------------------------------


@pytest.mark.parametrize("fs", [500, 1000, 128, 257.3])
def test_other_frequencies_are_resampled(make_record, expected, fs):
    """A sine keeps its shape, its offset and its length in time."""
    times = np.arange(int(4 * fs)) / fs
    sine = (0.7 + np.sin(2 * np.pi * 3 * times))[:, None].astype(np.float32)
    adapted = adapt(make_record(sine, fs=fs), expected(fs=(250.0,)))
    assert adapted.flags == (f"resampled from {fs:g} to 250 Hz",)
    assert adapted.record.fs == 250
    signal = adapted.record.millivolts()[:, 0]
    assert len(signal) == pytest.approx(1000, abs=2)
    wanted = 0.7 + np.sin(2 * np.pi * 3 * np.arange(len(signal)) / 250)
    inner = slice(50, -50)
    np.testing.assert_allclose(signal[inner], wanted[inner], atol=0.01)
    # Nothing rings at the ends for the offset's sake, as 0.1 to 0.3 mV would.
    np.testing.assert_allclose(signal, wanted, atol=0.07)


def test_what_is_too_fast_is_filtered_before(make_record, expected):
    """200 Hz can't be told at 250 Hz: interpolation would make 50 Hz of it."""
    times = np.arange(4000) / 1000
    hum = np.sin(2 * np.pi * 200 * times)[:, None].astype(np.float32)
    hum += np.sin(2 * np.pi * times)[:, None].astype(np.float32)
    for pipeline in (PLAIN, Pipeline().resample_signals(250).split_signals(120, 120)):
        signal = adapt(make_record(hum, fs=1000), expected(pipeline)).record.millivolts()[:, 0]
        power = np.abs(np.fft.rfft(signal * np.hanning(len(signal)))) ** 2
        frequencies = np.fft.rfftfreq(len(signal), 1 / 250)
        assert power[frequencies > 40].max() < 1e-5 * power.max()


def test_the_nearest_frequency_trained_on_is_taken(make_record, expected):
    several = expected(fs=(125.0, 250.0, 500.0))
    assert adapt(make_record(fs=400), several).record.fs == 500
    assert adapt(make_record(fs=130), several).record.fs == 125
    assert adapt(make_record(fs=500), several).flags == ()


def test_a_pipeline_that_resamples_takes_slower_ones_itself(make_record, expected):
    resampling = expected(Pipeline().resample_signals(250).split_signals(120, 120))
    adapted = adapt(make_record(fs=128), resampling)
    assert (adapted.flags, adapted.record.fs) == ((), 128)
    assert adapt(make_record(fs=500), resampling).flags == ("resampled from 500 to 250 Hz",)


def test_a_rounded_frequency_is_the_same(make_record, expected):
    adapted = adapt(make_record(fs=249.9), expected())
    assert (adapted.flags, adapted.record.fs) == ((), 249.9)


# --- What is refused, and what is doubtful -------------------------------------------------------


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
    record = replace(record, samples=record.samples * np.float32(factor))
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
