import numpy as np
import pytest

from ecg_mlflow.records.synthetic.rhythms import (
    LEAD_IN_S,
    Breathing,
    atrial_fibrillation,
    atrial_flutter,
    ectopic_beats,
    normal_rhythm,
    other_rhythm,
    pink_noise,
    sinus_rhythm,
)

BREATHING = Breathing(frequency_hz=0.25, phase=0.0)
SEEDS = range(12)


def rng(seed=0):
    return np.random.default_rng(seed)


def variation(rr_s):
    return rr_s[1:].std() / rr_s[1:].mean()


@pytest.mark.parametrize("rate_bpm", [42.0, 60.0, 95.0, 130.0])
def test_sinus_rhythm_has_the_rate_asked_for(rate_bpm):
    rhythm = sinus_rhythm(rng(), 60.0, BREATHING, rate_bpm)
    assert 60.0 / rhythm.rr_s.mean() == pytest.approx(rate_bpm, rel=0.04)
    assert (rhythm.p_gain == 1).all()
    assert not rhythm.ventricular.any()


def test_sinus_rhythm_sways_with_breathing():
    # Amplitude of the heart rate at the breathing frequency against the frequencies around it.
    ratios = []
    for seed in SEEDS:
        rhythm = sinus_rhythm(rng(seed), 300.0, BREATHING, 60.0)
        grid = np.arange(0, 300, 0.25)
        rate = np.interp(grid, rhythm.r_s, 1 / rhythm.rr_s)
        power = np.abs(np.fft.rfft(rate - rate.mean()))
        frequency = np.fft.rfftfreq(len(grid), 0.25)
        near = np.abs(frequency - 0.25) < 0.01
        around = (np.abs(frequency - 0.25) > 0.03) & (np.abs(frequency - 0.25) < 0.1)
        ratios.append(power[near].max() / np.median(power[around]))
    assert np.median(ratios) > 10


@pytest.mark.parametrize("make", [normal_rhythm, other_rhythm])
def test_beats_cover_the_recording_with_its_lead_in(make):
    duration_s = 60.0
    for seed in range(80):
        rhythm = make(rng(seed), duration_s, BREATHING)
        slack_s = 2 * rhythm.rr_s.max()
        assert rhythm.r_s[0] < -LEAD_IN_S + slack_s
        assert rhythm.r_s[-1] > duration_s - rhythm.rr_s.max()
        assert (np.diff(rhythm.r_s) > 0.2).all()


def test_normal_rhythm_is_normal():
    rates = [60 / normal_rhythm(rng(seed), 60.0, BREATHING).rr_s.mean() for seed in range(60)]
    assert min(rates) > 49
    assert max(rates) < 104
    assert 68 < np.mean(rates) < 82


def test_fibrillation_is_irregularly_irregular_without_p_waves():
    for seed in SEEDS:
        rhythm = atrial_fibrillation(rng(seed), 300.0)
        assert variation(rhythm.rr_s) > 0.15
        rr = rhythm.rr_s[1:] - rhythm.rr_s[1:].mean()
        assert abs((rr[1:] * rr[:-1]).mean() / (rr**2).mean()) < 0.25  # no order in the disorder
        assert rhythm.rr_s[1:].min() > 0.27
        assert (rhythm.p_gain == 0).all()
        assert rhythm.atrial is not None
        assert 4 <= rhythm.atrial.frequency_hz <= 9


def test_sinus_rhythm_is_more_regular_than_fibrillation():
    sinus = [variation(normal_rhythm(rng(s), 30.0, BREATHING).rr_s) for s in range(40)]
    fibrillation = [variation(atrial_fibrillation(rng(s), 30.0).rr_s) for s in range(40)]
    assert np.max(sinus) < np.min(fibrillation)


def test_flutter_conducts_every_nth_wave():
    rhythm = atrial_flutter(rng(3), 60.0)
    waves_per_beat = rhythm.rr_s[1:].mean() * rhythm.atrial.frequency_hz
    block = int(rhythm.name.split(", ")[1].split(":")[0])
    assert waves_per_beat == pytest.approx(block, rel=0.02)
    assert variation(rhythm.rr_s) < 0.02


def test_pause_after_a_ventricular_beat_is_fully_compensatory():
    base = normal_rhythm(rng(1), 60.0, BREATHING)
    rhythm = ectopic_beats(rng(2), base, ventricular=True)
    early = np.flatnonzero(rhythm.ventricular)
    assert len(early) > 3
    assert (rhythm.rr_s[early] < 0.85 * base.rr_s[early]).all()
    # The sinus beats around it stay where they were.
    sinus = ~rhythm.ventricular
    np.testing.assert_allclose(rhythm.r_s[sinus], base.r_s[sinus])
    assert (rhythm.p_gain[early] == 0).all()


def test_premature_atrial_beat_resets_the_sinus_node():
    base = normal_rhythm(rng(1), 60.0, BREATHING)
    rhythm = ectopic_beats(rng(2), base, ventricular=False)
    early = np.flatnonzero(rhythm.p_gain != 1)
    assert len(early) > 3
    assert not rhythm.ventricular.any()
    around = rhythm.rr_s[early] + rhythm.rr_s[early + 1]
    assert (around < 1.95 * base.rr_s[early]).all()
    assert rhythm.r_s[-1] < base.r_s[-1]


@pytest.mark.parametrize(("every", "name"), [(2, "bigeminy"), (3, "trigeminy")])
def test_ectopic_beats_in_a_pattern(every, name):
    rhythm = ectopic_beats(
        rng(2), normal_rhythm(rng(1), 60.0, BREATHING), ventricular=True, every=every
    )
    assert (np.diff(np.flatnonzero(rhythm.ventricular)) == every).all()
    assert rhythm.name.endswith(f"beats in {name}")


def test_other_rhythms_are_of_many_kinds():
    names = {other_rhythm(rng(seed), 30.0, BREATHING).name for seed in range(200)}
    for part in (
        "premature ventricular",
        "premature atrial",
        "bigeminy",
        "trigeminy",
        "bradycardia",
        "tachycardia",
        "left bundle",
        "right bundle",
        "flutter",
        "AV block",
    ):
        assert any(part in name for name in names), part


def test_pink_noise_falls_as_one_over_f():
    power = np.zeros(2049)
    for seed in SEEDS:
        noise = pink_noise(rng(seed), 4096)
        assert noise.std() == pytest.approx(1)
        power += np.abs(np.fft.rfft(noise)) ** 2
    low, high = power[8:24].mean(), power[800:2400].mean()
    assert np.log(low / high) / np.log(1424 / 16) == pytest.approx(1, abs=0.15)
