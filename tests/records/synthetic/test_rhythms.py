import numpy as np
import pytest

from ecg_mlflow.records.synthetic.rhythms import LEAD_IN_S, draw_rhythm

SEEDS = range(12)


def draw(*diagnoses, seed=0, duration_s=300.0):
    return draw_rhythm(np.random.default_rng(seed), diagnoses, duration_s)


def variation(rhythm):
    return rhythm.rr_s[1:].std() / rhythm.rr_s[1:].mean()


@pytest.mark.parametrize(
    ("diagnosis", "slowest", "fastest"),
    [("NSR", 60, 100), ("SB", 40, 60), ("STach", 100, 140), ("AF", 53, 118), ("AFL", 65, 150)],
)
def test_rates_are_those_of_the_diagnosis(diagnosis, slowest, fastest):
    rates = [60 / draw(diagnosis, seed=seed).rr_s[1:].mean() for seed in range(40)]
    assert slowest - 2 < min(rates) < max(rates) < fastest + 2
    assert max(rates) - min(rates) > 0.5 * (fastest - slowest)


@pytest.mark.parametrize(
    "diagnoses", ["NSR", "SB", "STach", "AF", "AFL", "NSR PAC", "NSR PVC", "AF PVC"]
)
def test_beats_cover_the_recording_and_its_lead_in(diagnoses):
    for seed in SEEDS:
        rhythm = draw(*diagnoses.split(), seed=seed, duration_s=60.0)
        assert rhythm.r_s[0] < -LEAD_IN_S + rhythm.rr_s.max()
        assert rhythm.r_s[-1] > 60.0
        assert np.diff(rhythm.r_s).min() > 0.25


def test_sinus_rhythm_follows_breathing():
    # Amplitude of the heart rate at the breathing frequency against the frequencies around it.
    ratios = []
    for seed in SEEDS:
        rhythm = draw("NSR", seed=seed)
        grid = np.arange(0, 300, 0.25)
        rate = np.interp(grid, rhythm.r_s, 1 / rhythm.rr_s)
        power = np.abs(np.fft.rfft(rate - rate.mean()))
        off_hz = np.abs(np.fft.rfftfreq(len(grid), 0.25) - rhythm.breath_hz)
        ratios.append(
            power[off_hz < 0.015].max() / np.median(power[(off_hz > 0.03) & (off_hz < 0.1)])
        )
    assert np.median(ratios) > 5


def test_fibrillation_is_irregularly_irregular_without_p_waves():
    for seed in SEEDS:
        rhythm = draw("AF", seed=seed)
        assert variation(rhythm) > 0.14 > variation(draw("NSR", seed=seed))
        off = rhythm.rr_s[1:] - rhythm.rr_s[1:].mean()
        assert abs((off[1:] * off[:-1]).mean() / (off**2).mean()) < 0.25  # no order in the disorder
        assert rhythm.rr_s[1:].min() > 0.27
        assert not rhythm.p_gain.any()
        assert 4 <= rhythm.atrial_hz <= 9


def test_flutter_conducts_every_nth_wave():
    conducted = set()
    for seed in range(40):
        rhythm = draw("AFL", seed=seed)
        waves = rhythm.rr_s[1:].mean() * rhythm.atrial_hz
        assert waves == pytest.approx(round(waves), rel=0.01)
        assert 225 < 60 * rhythm.atrial_hz < 350
        assert variation(rhythm) < 0.02
        conducted.add(round(waves))
    assert conducted == {2, 3, 4}


def test_a_ventricular_beat_has_a_full_pause_and_an_atrial_one_resets_the_sinus_node():
    usual, rhythm = draw("NSR"), draw("NSR", "PVC")
    early = np.flatnonzero(rhythm.ventricular)
    assert len(early) > 20
    assert (rhythm.rr_s[early] < 0.85 * usual.rr_s[early]).all()
    np.testing.assert_allclose(rhythm.r_s[~rhythm.ventricular], usual.r_s[~rhythm.ventricular])
    np.testing.assert_array_equal(rhythm.p_gain == 0, rhythm.ventricular)
    rhythm = draw("NSR", "PAC")
    early = np.flatnonzero(rhythm.p_gain != 1)
    assert len(early) > 20
    assert not rhythm.ventricular.any()
    around_s = rhythm.rr_s[early] + rhythm.rr_s[early + 1]
    assert (around_s < 1.95 * usual.rr_s[early]).all()
    for diagnosis, every in (("VBig", 2), ("VTrig", 3)):
        assert set(np.diff(np.flatnonzero(draw("NSR", diagnosis).ventricular))) == {every}
