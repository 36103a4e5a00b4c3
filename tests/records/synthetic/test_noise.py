from dataclasses import replace

import numpy as np
import pytest

from ecg_mlflow.records.synthetic.noise import Disturbance, disturb, draw_disturbance
from ecg_mlflow.records.synthetic.rhythms import Breathing

FS = 300.0
QUIET = Disturbance(
    muscle_mv=0.0, hum_mv=0.0, hum_hz=50.0, wander_mv=0.0, motion_per_s=0.0, motion_mv=0.0
)
TIME_S = np.arange(int(33 * FS)) / FS


def run(disturbance, heart_mv=None, seed=0):
    heart_mv = np.zeros(len(TIME_S)) if heart_mv is None else heart_mv
    return disturb(np.random.default_rng(seed), heart_mv, disturbance, Breathing(0.2, 0.0), FS)


def amplitude_at(signal, frequency_hz):
    return 2 * np.abs(np.mean(signal[1800:] * np.exp(-2j * np.pi * frequency_hz * TIME_S[1800:])))


def test_without_disturbance_the_recorder_passes_half_to_forty_hertz():
    assert not run(QUIET).any()
    for frequency_hz, passed in ((0.5, 0.71), (10.0, 1.0), (40.0, 0.71), (0.05, 0.1)):
        out = run(QUIET, np.sin(2 * np.pi * frequency_hz * TIME_S))
        assert amplitude_at(out, frequency_hz) == pytest.approx(passed, abs=0.05)


def test_hum_has_its_frequency():
    out = run(replace(QUIET, hum_mv=1.0, hum_hz=60.0))
    assert amplitude_at(out, 60.0) > 20 * amplitude_at(out, 50.0)


@pytest.mark.parametrize(
    ("field", "low_hz", "high_hz"),
    [("muscle_mv", 15.0, 40.0), ("wander_mv", 0.0, 2.0)],
)
def test_muscle_noise_is_quick_and_wander_slow(field, low_hz, high_hz):
    out = run(replace(QUIET, **{field: 0.1}))
    power = np.abs(np.fft.rfft(out)) ** 2
    frequency = np.fft.rfftfreq(len(out), 1 / FS)
    assert power[(frequency >= low_hz) & (frequency <= high_hz)].sum() > 0.5 * power.sum()


def test_motion_grows_with_rate_and_size():
    calm = run(replace(QUIET, motion_per_s=0.2, motion_mv=0.2)).std()
    restless = run(replace(QUIET, motion_per_s=2.0, motion_mv=1.0)).std()
    assert restless > 4 * calm > 0


def test_saturation_cuts_off():
    out = run(replace(QUIET, range_mv=0.5), 3 * np.sin(2 * np.pi * 5 * TIME_S))
    assert np.abs(out).max() == 0.5
    assert (np.abs(out) == 0.5).mean() > 0.5


def test_lost_contact_takes_the_heart_away_for_its_share():
    out = run(replace(QUIET, loss_share=0.4), np.sin(2 * np.pi * 10 * TIME_S))
    pieces = out[: len(out) // 150 * 150].reshape(-1, 150)
    assert (pieces.std(axis=1) < 0.2).mean() == pytest.approx(0.4, abs=0.15)


def test_unreadable_recordings_are_worse_in_every_way():
    rng = np.random.default_rng(0)
    usual = [draw_disturbance(rng, unreadable=False) for _ in range(200)]
    worse = [draw_disturbance(rng, unreadable=True) for _ in range(200)]
    for field in ("muscle_mv", "wander_mv", "motion_per_s", "motion_mv", "loss_share"):
        assert np.mean([getattr(d, field) for d in worse]) > 2 * np.mean(
            [getattr(d, field) for d in usual]
        ), field
    assert max(d.contact for d in worse) < 1
