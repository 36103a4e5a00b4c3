"""What is made of recordings that differ from those trained on: an error, or a flag."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.pipeline import Pipeline
from ecg_mlflow.serving.adapt import adapt, length_flags, needed_leads

PLAIN = Pipeline().center_flip().split_signals(120, 120)
FILTERED = Pipeline().resample_signals(250).split_signals(120, 120)
RESAMPLING = Pipeline().resample_signals(250, "linear").split_signals(120, 120)


@pytest.fixture
def adapted(make_manifest):
    """Bring a recording to what a model of a pipeline, by default a plain one, was trained on."""

    def of(record, pipeline=PLAIN, n_leads=1, **fields):
        manifest = make_manifest(n_leads=n_leads, **fields)
        return adapt(record, manifest, pipeline.stages())

    return of


def test_leads_are_put_in_order_and_others_left_out(make_record, adapted):
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 300, (400, 3)).astype(np.int16)
    record = replace(
        make_record(samples, leads=("L2", "V9", "L1")),
        gain=np.array([100, 200, 300], np.float32),
        baseline=np.array([1, 2, 3], np.float32),
    )
    found, flags = adapted(record, n_leads=2)
    assert flags == ["left out of the record: lead 'V9'", "leads put in the order ['L1', 'L2']"]
    assert found.leads == ("L1", "L2")
    np.testing.assert_array_equal(found.millivolts(), record.millivolts()[:, [2, 0]])
    assert found.samples.dtype == np.int16


@pytest.mark.parametrize(
    ("leads", "n_leads", "flags"),
    [
        (("L1",), 1, []),
        ((" l1", "L2 "), 2, []),
        (("MLII",), 1, ["lead 'MLII' is taken for 'L1', the one trained on"]),
    ],
)
def test_leads_as_they_were_trained_on_but_for_their_names(
    make_record, adapted, leads, n_leads, flags
):
    record = make_record(leads=leads)
    found = adapted(record, n_leads=n_leads)
    assert (found[0].leads, found[1]) == (("L1", "L2")[:n_leads], flags)
    assert found[0].samples is record.samples


@pytest.mark.parametrize(
    ("leads", "n_leads", "why"),
    [
        (("MLII", "V5"), 1, r"lead 'L1' is missing: the record has \['MLII', 'V5'\]"),
        (("L1",), 2, "lead 'L2' is missing"),
        (("V1", "V2"), 2, "lead 'L1', 'L2' is missing"),
        (("L1", "l1"), 1, "several leads are called 'L1'"),
    ],
)
def test_leads_that_are_wrong(make_record, adapted, leads, n_leads, why):
    with pytest.raises(RecordError, match=why):
        adapted(make_record(leads=leads), n_leads=n_leads)


@pytest.mark.parametrize("lacks", [("L2", "L3"), ("L3", "L2", "V1")])
def test_leads_that_the_network_never_sees_may_lack(make_record, adapted, lacks):
    pipeline = Pipeline().band_pass_signals(1, 40).drop_leads(["L1"]).split_signals(120, 120)
    record = make_record(leads=lacks)
    found, _ = adapted(record, pipeline, n_leads=3)
    assert found.leads == ("L1", "L2", "L3")
    signal = found.millivolts()
    np.testing.assert_array_equal(signal[:, 0], 0)
    columns = [lacks.index("L2"), lacks.index("L3")]
    np.testing.assert_array_equal(signal[:, 1:], record.millivolts()[:, columns])


def doubled(signal, fs):
    return signal * 2


def test_a_function_of_the_users_own_may_look_at_all_leads():
    both = ("L1", "L2")
    plain = Pipeline().keep_leads(["L2"]).split_signals(9, 9)
    assert needed_leads(both, plain.stages()) == ("L2",)
    renamed = Pipeline().rename_leads({"l2": "II"}).keep_leads(["ii"]).split_signals(9, 9)
    assert needed_leads(both, renamed.stages()) == ("L2",)
    with_function = Pipeline().apply(doubled).keep_leads(["L2"]).split_signals(9, 9)
    assert needed_leads(both, with_function.stages()) == both


@pytest.mark.parametrize("fs", [500, 1000, 128, 257.3])
def test_other_frequencies_are_resampled(make_record, adapted, fs):
    """A sine keeps its shape, its offset and its length in time."""
    times = np.arange(int(4 * fs)) / fs
    sine = (0.7 + np.sin(2 * np.pi * 3 * times))[:, None].astype(np.float32)
    found, flags = adapted(make_record(sine, fs=fs))
    assert flags == [f"resampled from {fs:g} to 250 Hz"]
    assert found.fs == 250
    signal = found.millivolts()[:, 0]
    assert len(signal) == pytest.approx(1000, abs=2)
    wanted = 0.7 + np.sin(2 * np.pi * 3 * np.arange(len(signal)) / 250)
    inner = slice(50, -50)
    np.testing.assert_allclose(signal[inner], wanted[inner], atol=0.01)
    # Nothing rings at the ends for the offset's sake, as 0.1 to 0.3 mV would.
    np.testing.assert_allclose(signal, wanted, atol=0.07)


@pytest.mark.parametrize("pipeline", [PLAIN, RESAMPLING])
def test_what_is_too_fast_is_filtered_before(make_record, adapted, pipeline):
    """200 Hz can't be told at 250 Hz: interpolation would make 50 Hz of it."""
    times = np.arange(4000) / 1000
    hum = np.sin(2 * np.pi * 200 * times)[:, None] + np.sin(2 * np.pi * times)[:, None]
    signal = adapted(make_record(hum.astype(np.float32), fs=1000), pipeline)[0].millivolts()[:, 0]
    power = np.abs(np.fft.rfft(signal * np.hanning(len(signal)))) ** 2
    frequencies = np.fft.rfftfreq(len(signal), 1 / 250)
    assert power[frequencies > 40].max() < 1e-5 * power.max()


@pytest.mark.parametrize(
    ("fs", "known", "pipeline", "taken"),
    [
        (400, (125.0, 250.0, 500.0), PLAIN, 500),
        (130, (125.0, 250.0, 500.0), PLAIN, 125),
        (500, (125.0, 250.0, 500.0), PLAIN, 500),
        (249.9, (250.0,), PLAIN, 249.9),  # headers round
        (128, (250.0,), RESAMPLING, 128),
        (500, (250.0,), RESAMPLING, 250),
        (500, (250.0,), FILTERED, 500),
    ],
)
def test_the_nearest_frequency_is_taken_unless_the_pipeline_resamples(
    make_record, adapted, fs, known, pipeline, taken
):
    found, flags = adapted(make_record(fs=fs), pipeline, fs=known)
    assert found.fs == taken
    assert flags == ([] if taken == fs else [f"resampled from {fs:g} to {taken:g} Hz"])


@pytest.mark.parametrize("fs", [1e-6, 24, 26_000])
@pytest.mark.parametrize("pipeline", [PLAIN, RESAMPLING])
def test_frequencies_that_no_ecg_has(make_record, adapted, fs, pipeline):
    with pytest.raises(RecordError, match=f"implausible sampling frequency: {fs:g} Hz; .* 250 Hz"):
        adapted(make_record(fs=fs, n_samples=100), pipeline, shortest_s=0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(make_record, adapted, value):
    record = make_record()
    record.samples[[7, 30]] = value
    why = r"NaN or infinite: 2 of 500 .* 'L1', the first is number 7"
    with pytest.raises(RecordError, match=why):
        adapted(record)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_flat_lead(make_record, adapted, dtype):
    samples = np.arange(1000).reshape(500, 2).astype(dtype)
    samples[:, 1] = 5
    record = make_record(samples, leads=("L1", "L2"))
    with pytest.raises(RecordError, match="flat signal: lead 'L2' has the same value"):
        adapted(record, n_leads=2)
    assert adapted(record)[1], "it doesn't matter in a lead that isn't used"


def test_the_shortest_recording_trained_on_is_the_limit(make_record, adapted):
    assert not adapted(make_record(n_samples=250))[1]
    with pytest.raises(RecordError, match=r"too short: 0\.996 s; .* from 1 s on"):
        adapted(make_record(n_samples=249))
    with pytest.raises(RecordError, match=r"too short: 2 s; .* from 2\.5 s on"):
        adapted(make_record(), Pipeline().drop_short_signals(2.5).split_signals(120, 120))


@pytest.mark.parametrize(
    ("factor", "unit"), [(1000, "in µV"), (1e-3, "in V"), (1, None), (5, None), (0.1, None)]
)
@pytest.mark.parametrize("fs", [250, 25_000])
def test_amplitudes_that_no_ecg_has(make_record, adapted, factor, unit, fs):
    record = make_record(fs=fs, n_samples=2 * fs)
    record.samples[3] = 400 * factor  # one spike says nothing
    record = replace(record, samples=record.samples * np.float32(factor))
    _, flags = adapted(record, fs=(float(fs),))
    assert len(flags) == (unit is not None)
    for flag in flags:
        assert flag.startswith("implausible amplitude: lead 'L1' ranges over")
        assert unit in flag
    digital = (make_record().samples * 1000).astype(np.int16)
    assert adapted(make_record(digital))[1] == [], "the converter's units are no mV"


@pytest.mark.parametrize(
    ("pipeline", "filled"),
    [
        (PLAIN, None),
        (Pipeline().split_signals(500, 500), None),
        (Pipeline().split_signals(2500, 2500), "8 of 10 s"),
        (Pipeline().center_flip().resample_signals(125).split_signals(500, 500), "2 of 4 s"),
    ],
)
def test_zeros_in_the_only_window_are_said(make_record, pipeline, filled):
    flags = [f"shorter than one window: zeros fill {filled}"] if filled else []
    assert length_flags(make_record(), pipeline.stages()) == flags
