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


def make(*diagnoses, seed=0, setting="handheld"):
    return make_recording(np.random.default_rng(seed), diagnoses, setting)


def test_length_and_swapped_arms_depend_on_the_setting_and_not_on_the_diagnosis():
    leads = [make("NSR", seed=seed).samples[:, 0] for seed in range(100)]
    lengths = [len(lead) for lead in leads]
    assert 2714 <= min(lengths) < 9000 < max(lengths) <= 18286
    assert np.median(lengths) == 9000
    assert [len(make("AF", seed=seed).samples) for seed in range(20)] == lengths[:20]
    # About one hand in seven holds the recorder the wrong way round.
    assert 8 <= sum(np.mean((lead - lead.mean()) ** 3.0) < 0 for lead in leads) <= 23
    for seed in range(20):
        samples = make("NSR", seed=seed, setting="bedside").samples
        assert samples.shape == (5000, 12)
        assert samples[:, 0].max() > -samples[:, 0].min()


def test_swapped_arms_turn_the_heart_over_but_not_the_noise(monkeypatch):
    def right_and_swapped():
        for share in (0.0, 1.0):
            monkeypatch.setattr(recording, "_SWAPPED_SHARE", share)
            yield make("NSR").samples[:, 0].astype(int)

    right, swapped = right_and_swapped()
    assert 2 < (right + swapped).std() < 0.6 * right.std()
    monkeypatch.setattr(recording, "disturb", lambda rng, heart_mv, *_: heart_mv)
    right, swapped = right_and_swapped()
    np.testing.assert_array_equal(swapped, -right)


def test_twelve_leads_keep_the_laws_of_einthoven_and_goldberger():
    twelve = make("AF", setting="bedside")
    assert (twelve.leads, make("AF").leads) == (STANDARD_LEADS, ("ECG",))
    one, two, three, avr, avl, avf = twelve.samples[:, :6].T.astype(int)
    np.testing.assert_array_equal(one + three, two)
    assert np.abs(avr + avl + avf).max() <= 2
    assert np.abs(2 * avr + one + two).max() <= 2
    assert np.abs(avf - (two + three) / 2).max() <= 1
    # The largest signals fit into int16.
    opposite = np.array([[8000], [-8000], *[[8000]] * 6], np.int16)
    assert standard_leads(opposite)[0, :3].tolist() == [8000, -8000, -16000]


@pytest.mark.parametrize("setting", ["handheld", "bedside"])
def test_fibrillation_shows_in_the_intervals_of_the_signal(setting):
    def irregularity(diagnosis, seed):
        """Take the steepest slopes for QRS complexes, which readable recordings allow."""
        made = make(diagnosis, seed=seed, setting=setting)
        slopes = np.diff(made.samples[:, 0].astype(float)) ** 2
        steep = np.convolve(slopes, np.ones(round(made.fs / 10)), "same")
        height, distance = 0.3 * np.quantile(steep, 0.98), round(0.27 * made.fs)
        rr = np.diff(find_peaks(steep, height=height, distance=distance)[0])
        return rr.std() / rr.mean()

    assert np.median([irregularity("NSR", seed) for seed in range(40)]) < 0.08
    assert np.median([irregularity("AF", seed) for seed in range(40)]) > 0.16


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
    if "hum_mv" in noise:  # the mains have either frequency
        outs = [run(replace(QUIET, **noise), seed=seed) for seed in range(12)]
        assert {round(hz[np.abs(np.fft.rfft(out)).argmax()]) for out in outs} == {50, 60}


def test_motion_bad_contact_and_saturation_take_their_shares():
    moving = run(replace(QUIET, motion_mv=1.0, motion_share=0.3, band_hz=(0.001, 200.0)))
    assert (moving.reshape(-1, 250).std(axis=1) > 0.1).mean() == pytest.approx(0.3, abs=0.15)
    beats = np.sin(2 * np.pi * 10 * TIME_S)
    touching = run(replace(QUIET, loss_share=0.4), beats)
    assert np.abs(touching).mean() / np.abs(run(QUIET, beats)).mean() == pytest.approx(0.6, abs=0.1)
    np.testing.assert_allclose(run(replace(QUIET, contact=0.3), beats), 0.3 * run(QUIET, beats))
    saturated = np.abs(run(replace(QUIET, range_mv=0.5), 3 * beats))
    assert saturated.max() == 0.5
    assert (saturated == 0.5).mean() > 0.5


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
