"""Are the waves of a heart where a cardiologist looks for them?"""

import numpy as np
import pytest

from ecg_mlflow.records.synthetic.heart import heart_signal
from ecg_mlflow.records.synthetic.rhythms import LEAD_IN_S, Rhythm, draw_rhythm

FS = 500.0
R = 200  # sample of the R peak in what `beat` returns
PEOPLE = range(25)
SEEDS = range(12)
LEAD_I, LEAD_II, V1, V2, V5, V6 = 0, 1, 2, 3, 6, 7


def signal(*diagnoses, seed=0, rr_s=0.9, atrial_hz=0.0, ventricular=()):
    n = 16
    starts = np.isin(np.arange(n), ventricular)
    p_gain = np.where(starts, 0.0, float(not {"AF", "AFL"} & set(diagnoses)))
    rhythm = Rhythm(np.full(n, rr_s), p_gain, starts, atrial_hz, breath_hz=0.25)
    rng = np.random.default_rng(seed)
    return heart_signal(rng, diagnoses, rhythm, FS, round(n * rr_s * FS)), rhythm.r_s


def beat(*diagnoses, **more):
    """Leads I, II, V1 to V6 around the ninth R peak, the level between P and Q at 0."""
    mv, r_s = signal(*diagnoses, **more)
    at = round((r_s[8] + LEAD_IN_S) * FS)
    cut = mv[:, at - R : at + 250]
    return cut - cut[:, R - 25 : R - 20].mean(axis=1, keepdims=True)


def peak_s(lead, start_s, end_s):
    """When after the R peak the lead is the furthest from 0."""
    start = R + round(start_s * FS)
    return start_s + np.argmax(np.abs(lead[start : R + round(end_s * FS)])) / FS


def qrs_s(mv):
    """From the first to the last steep slope in any lead."""
    steep = np.abs(np.diff(mv, axis=1)).sum(axis=0)[R - 60 : R + 70]
    found = np.flatnonzero(steep > 0.06 * steep.max())
    return (found[-1] - found[0]) / FS


def test_waves_come_in_the_order_p_q_r_s_t():
    for seed in PEOPLE:
        mv = beat("NSR", seed=seed)
        assert -0.2 < peak_s(mv[LEAD_II], -0.3, -0.07) < -0.08
        assert abs(peak_s(mv[LEAD_II], -0.05, 0.05)) <= 2 / FS
        assert 0.0 < peak_s(mv[V1], -0.05, 0.1) < 0.05  # S
        assert 0.2 < peak_s(mv[LEAD_II], 0.1, 0.45) < 0.35
        for wave_s, positive in ((-0.12, True), (-0.03, False), (0.0, True), (0.26, True)):
            around = mv[V5, R + round(FS * wave_s) - 12 : R + round(FS * wave_s) + 12]
            assert (around.max() > 0.01) if positive else (around.min() < 0)


def test_sizes_and_intervals_are_an_adults():
    r = np.array([beat("NSR", seed=seed)[LEAD_I].max() for seed in range(100)])
    assert 0.6 < np.median(r) < 1.3
    assert r.min() > 0.2
    # QT follows the cube root of RR.
    at_s = [peak_s(beat("NSR", rr_s=rr_s)[LEAD_II], 0.1, 0.4) for rr_s in (0.5, 1.0)]
    assert at_s[0] / at_s[1] == pytest.approx(0.5 ** (1 / 3), abs=0.02)


def test_blocks_lengthen_the_pq_interval_or_the_complex():
    pq = {
        block: [-peak_s(beat(*block, seed=seed)[LEAD_II], -0.35, -0.07) for seed in PEOPLE]
        for block in (("NSR",), ("NSR", "IAVB"))
    }
    assert max(pq["NSR",]) < 0.19 < 0.2 < min(pq["NSR", "IAVB"])
    narrow, right, left = (
        [qrs_s(beat("NSR", *block, seed=seed)) for seed in PEOPLE]
        for block in ((), ("RBBB",), ("LBBB",))
    )
    assert max(narrow) < 0.1 < min(right)
    assert max(narrow) < min(left)
    assert min(np.median(right), np.median(left)) > 0.12


@pytest.mark.parametrize("seed", [*PEOPLE][::5])
def test_bundle_branch_blocks(seed):
    mv, narrow = beat("NSR", "RBBB", seed=seed), beat("NSR", seed=seed)
    late, t = slice(R + 20, R + 50), slice(R + 100, R + 200)
    assert mv[V1, late].max() > 3 * abs(narrow[V1, late].max())  # R' in V1
    assert mv[V1, late].max() > mv[V1, R - 10 : R + 5].max()
    assert mv[[LEAD_I, V6], late].min(axis=1).max() < -0.03  # a broad S in I and V6
    assert mv[V1, t].min() < -0.03  # T against the end of QRS
    mv, qrs = beat("NSR", "LBBB", seed=seed), slice(R - 30, R + 60)
    assert -mv[V1, qrs].min() > 3 * mv[V1, qrs].max()  # QS or rS
    for lead in (LEAD_I, V5, V6):
        assert mv[lead, qrs].min() > -0.15 * mv[lead, qrs].max()  # no q, no S
        assert mv[lead, t].min() < -0.03
    assert mv[V1, t].max() > 0.05


def test_left_axis_is_up_in_one_and_down_in_avf():
    for diagnoses in ("NSR", "NSR LAD", "SB RBBB LAD"):
        for seed in PEOPLE:
            mv = beat(*diagnoses.split(), seed=seed)[:, R - 5 : R + 5]
            avf = mv[LEAD_II] - mv[LEAD_I] / 2
            assert mv[LEAD_I].max() > 0.1
            assert (avf[5] < 0) == ("LAD" in diagnoses)


def test_a_ventricular_beat_is_broad_without_p_and_with_t_against_it():
    for seed in PEOPLE:
        usual, mv = beat("NSR", seed=seed), beat("NSR", "PVC", seed=seed, ventricular=[8])
        p = slice(R - 100, R - 50)
        assert np.ptp(mv[LEAD_II, p]) < 0.2 * np.ptp(usual[LEAD_II, p])
        qrs, t = mv[V2, R - 40 : R + 70], mv[V2, R + 110 : R + 200]
        assert (np.abs(qrs) > 0.5 * np.abs(qrs).max()).sum() / FS > 0.05
        assert qrs[np.abs(qrs).argmax()] < 0 < t.max()


def test_atrial_waves_have_their_frequency_and_sway_only_in_fibrillation():
    for diagnosis, hz, widest_hz in (("AF", 6.0, 1.0), ("AFL", 5.0, 0.1)):
        waves = signal(diagnosis, atrial_hz=hz)[0] - signal(diagnosis)[0]
        power = np.abs(np.fft.rfft(waves[V1]))
        found_hz = np.fft.rfftfreq(waves.shape[1], 1 / FS)[power.argmax()]
        assert found_hz == pytest.approx(hz, abs=widest_hz)
        assert 0.02 < waves[V1].std() < 0.3


def draw(*diagnoses, seed=0, duration_s=300.0):
    return draw_rhythm(np.random.default_rng(seed), diagnoses, duration_s)


def variation(rhythm):
    return rhythm.rr_s[1:].std() / rhythm.rr_s[1:].mean()


@pytest.mark.parametrize(
    ("diagnosis", "slowest", "fastest"),
    [("NSR", 60, 100), ("SB", 40, 60), ("STach", 100, 140), ("AF", 53, 118), ("AFL", 65, 150)],
)
def test_rates_are_those_of_the_diagnosis_and_beats_cover_the_recording(
    diagnosis, slowest, fastest
):
    rhythms = [draw(diagnosis, seed=seed) for seed in range(40)]
    rates = [60 / rhythm.rr_s[1:].mean() for rhythm in rhythms]
    assert slowest - 2 < min(rates) < max(rates) < fastest + 2
    assert max(rates) - min(rates) > 0.5 * (fastest - slowest)
    for rhythm in [*rhythms, draw(diagnosis, "PVC"), draw(diagnosis, "PAC")]:
        assert rhythm.r_s[0] < -LEAD_IN_S + rhythm.rr_s.max()
        assert rhythm.r_s[-1] > 300.0
        assert np.diff(rhythm.r_s).min() > 0.25


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
