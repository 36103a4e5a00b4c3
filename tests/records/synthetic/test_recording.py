from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import find_peaks

from ecg_mlflow.records.synthetic import recording
from ecg_mlflow.records.synthetic.noise import (
    SETTINGS,
    UNREADABLE,
    Disturbance,
    disturb,
    pink_noise,
)
from ecg_mlflow.records.synthetic.recording import STANDARD_LEADS, make_recording, standard_leads

FS = 500.0
TIME_S = np.arange(round(32 * FS)) / FS
QUIET = Disturbance(0.0, 0.0, 0.0, 0.0)


def make(*diagnoses, seed=0, setting="handheld", fs=300.0, n_leads=1):
    return make_recording(np.random.default_rng(seed), diagnoses, setting, fs, n_leads)


def intervals_s(lead, fs):
    """RR intervals by the steepest slopes, good enough on readable recordings."""
    steep = np.convolve(np.diff(lead.astype(float)) ** 2, np.ones(round(fs / 10)), "same")
    height = 0.3 * np.quantile(steep, 0.98)
    return np.diff(find_peaks(steep, height=height, distance=round(0.27 * fs))[0]) / fs


def test_length_and_swapped_arms_depend_on_the_setting_and_not_on_the_diagnosis():
    leads = [make("NSR", seed=seed).samples[:, 0] for seed in range(100)]
    lengths = [len(lead) for lead in leads]
    assert 2714 <= min(lengths) < 9000 < max(lengths) <= 18286
    assert np.median(lengths) == 9000
    assert [len(make("AF", seed=seed).samples) for seed in range(20)] == lengths[:20]
    # About one hand in seven holds the recorder the wrong way round.
    assert 8 <= sum(np.mean((lead - lead.mean()) ** 3.0) < 0 for lead in leads) <= 23
    for seed in range(20):
        samples = make("NSR", seed=seed, setting="bedside", fs=500.0, n_leads=12).samples
        assert samples.shape == (5000, 12)
        assert samples[:, 0].max() > -samples[:, 0].min()


def test_swapped_arms_turn_the_heart_over_but_not_the_noise(monkeypatch):
    def both():
        for share in (0.0, 1.0):
            monkeypatch.setattr(recording, "_SWAPPED_SHARE", share)
            yield dict(
                zip(STANDARD_LEADS, make("NSR", n_leads=12).samples.T.astype(int), strict=True)
            )

    right, swapped = both()
    assert 2 < (right["I"] + swapped["I"]).std() < 0.6 * right["I"].std()
    monkeypatch.setattr(recording, "disturb", lambda rng, heart_mv, *_: heart_mv)
    right, swapped = both()
    np.testing.assert_array_equal(swapped["I"], -right["I"])
    for one, other in (("II", "III"), ("III", "II"), ("aVR", "aVL"), ("aVF", "aVF"), ("V1", "V1")):
        np.testing.assert_allclose(swapped[one], right[other], atol=2)


@pytest.mark.parametrize("setting", ["handheld", "bedside"])
def test_leads_are_the_first_of_twelve_that_one_heart_gives(setting):
    twelve = make("AF", n_leads=12, setting=setting)
    one, two, three, avr, avl, avf = twelve.samples[:, :6].T.astype(int)
    np.testing.assert_array_equal(one + three, two)
    assert np.abs(avr + avl + avf).max() <= 2
    assert np.abs(2 * avr + one + two).max() <= 2
    assert np.abs(avf - (two + three) / 2).max() <= 1
    for n_leads in range(1, 12):
        some = make("AF", n_leads=n_leads, setting=setting)
        assert some.leads == (STANDARD_LEADS[:n_leads] if n_leads > 1 else ("ECG",))
        first = twelve.samples[:, :1]
        np.testing.assert_array_equal(some.samples[:, :1], first)
        assert some.samples.shape == (len(first), n_leads)


def test_the_largest_signals_fit_into_int16():
    opposite = np.array([[8000], [-8000], *[[8000]] * 6], np.int16)
    assert standard_leads(opposite, 12)[0, :3].tolist() == [8000, -8000, -16000]


def test_sampling_frequency_changes_samples_but_not_the_heart():
    slow, quick = make("NSR", "PVC", seed=4), make("NSR", "PVC", seed=4, fs=600.0)
    assert len(quick.samples) == 2 * len(slow.samples)
    assert quick.diagnoses == slow.diagnoses == ("NSR", "PVC")
    assert np.corrcoef(slow.samples[:, 0], quick.samples[::2, 0])[0, 1] > 0.95


@pytest.mark.parametrize("setting", ["handheld", "bedside"])
def test_fibrillation_shows_in_the_intervals_of_the_signal(setting):
    spread = {}
    for diagnosis in ("NSR", "AF"):
        leads = [make(diagnosis, seed=n, setting=setting).samples[:, 0] for n in range(40)]
        intervals = [intervals_s(lead, 300.0) for lead in leads]
        spread[diagnosis] = [rr.std() / rr.mean() for rr in intervals]
    assert np.median(spread["NSR"]) < 0.08
    assert np.median(spread["AF"]) > 0.16


def run(typical, heart_mv=0.0, seed=0):
    lead = np.broadcast_to(heart_mv, (1, len(TIME_S)))
    return disturb(np.random.default_rng(seed), lead, typical, np.sin(TIME_S), FS)[0]


def amplitude_at(signal, hz):
    return 2 * np.abs(np.mean(signal * np.exp(-2j * np.pi * hz * TIME_S)))


def test_the_recorder_passes_its_band():
    assert not run(QUIET).any()
    for band_hz, passed in (
        ((0.5, 40.0), {0.0625: 0.12, 0.5: 0.71, 10: 1.0, 40: 0.71, 120: 0.04}),
        ((0.05, 150.0), {0.0625: 0.78, 0.5: 1.0, 10: 1.0, 40: 1.0, 150: 0.71}),
    ):
        for hz, share in passed.items():
            out = run(replace(QUIET, band_hz=band_hz), np.sin(2 * np.pi * hz * TIME_S))
            assert amplitude_at(out, hz) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    ("noise", "low_hz", "high_hz"),
    [
        ({"wander_mv": 0.1}, 0.05, 0.6),
        ({"motion_mv": 1.0, "motion_share": 0.5}, 0.1, 12.0),
        ({"muscle_mv": 0.1}, 15.0, 150.0),
        ({"hum_mv": 0.1}, 49.0, 61.0),
    ],
)
def test_each_noise_lies_in_its_band_and_has_its_size(noise, low_hz, high_hz):
    out = run(replace(QUIET, **noise, band_hz=(0.01, 200.0)))
    power, hz = np.abs(np.fft.rfft(out)) ** 2, np.fft.rfftfreq(len(out), 1 / FS)
    assert power[(hz >= low_hz) & (hz <= high_hz)].sum() > 0.95 * power.sum()
    size_mv, *_ = noise.values()
    assert 0.1 * size_mv < out.std() < 4 * size_mv


def test_mains_have_either_frequency():
    outs = [run(replace(QUIET, hum_mv=1.0, band_hz=(0.05, 150.0)), seed=seed) for seed in range(12)]
    assert {round(np.argmax(np.abs(np.fft.rfft(out))) / 32) for out in outs} == {50, 60}


def test_motion_and_lost_contact_take_their_shares():
    moving = run(replace(QUIET, motion_mv=1.0, motion_share=0.3, band_hz=(0.001, 200.0)))
    assert (moving.reshape(-1, 250).std(axis=1) > 0.1).mean() == pytest.approx(0.3, abs=0.15)
    beats = np.sin(2 * np.pi * 10 * TIME_S)
    touching = run(replace(QUIET, loss_share=0.4), beats)
    assert np.abs(touching).mean() / np.abs(run(QUIET, beats)).mean() == pytest.approx(0.6, abs=0.1)


def test_a_bad_contact_takes_some_of_the_heart_away_and_the_recorder_saturates():
    beats = np.sin(2 * np.pi * 10 * TIME_S)
    np.testing.assert_allclose(run(replace(QUIET, contact=0.3), beats), 0.3 * run(QUIET, beats))
    out = run(replace(QUIET, range_mv=0.5), 3 * beats)
    assert np.abs(out).max() == 0.5
    assert (np.abs(out) == 0.5).mean() > 0.5


def test_unreadable_recordings_have_more_noise_and_less_of_the_heart():
    def typical(setting):
        return np.median([run(SETTINGS[setting], seed=seed).std() for seed in range(20)])

    assert typical("bedside") < typical("handheld") < 0.15
    for setting in UNREADABLE:
        assert typical(setting) > 3 * typical("handheld")
        assert SETTINGS[setting].contact < 0.5


def test_pink_noise_falls_as_one_over_f():
    noise = pink_noise(np.random.default_rng(0), (40, 4096), 4096.0, (1.0, 2048.0))
    np.testing.assert_allclose(noise.std(axis=1), 1.0, atol=0.01)
    power = (np.abs(np.fft.rfft(noise)) ** 2).mean(axis=0)
    assert power[8:24].mean() / power[800:2400].mean() == pytest.approx(1424 / 14.6, rel=0.2)
