from dataclasses import replace

import numpy as np
import pytest

from ecg_mlflow.records.synthetic.rhythms import (
    LEAD_IN_S,
    Breathing,
    Rhythm,
    atrial_fibrillation,
)
from ecg_mlflow.records.synthetic.waves import _NAMES, bumps, draw_heart, render_sources

FS = 500.0
BREATHING = Breathing(0.25, 0.0)


def steady(rr_s, **changes):
    r_s = np.arange(-LEAD_IN_S + 0.2, 11.0, rr_s)
    n = len(r_s)
    rhythm = Rhythm("steady", r_s, np.full(n, rr_s), np.ones(n), np.zeros(n, dtype=bool))
    return replace(rhythm, **changes)


def render(rhythm, seed=0):
    heart = draw_heart(np.random.default_rng(seed))
    n_samples = round((10 + LEAD_IN_S) * FS)
    sources = render_sources(np.random.default_rng(seed), rhythm, heart, BREATHING, FS, n_samples)
    return dict(zip(_NAMES, sources.T, strict=True)), heart


def peak_after(wave, start_s, length_s):
    start = round((start_s + LEAD_IN_S) * FS)
    return start_s + np.argmax(np.abs(wave[start : start + round(length_s * FS)])) / FS


def test_bumps_peak_where_asked_with_a_width_for_each_side():
    wave = bumps(np.array([1.0]), np.array([0.02]), np.array([0.05]), np.array([2.0]), 1000.0, 2000)
    assert np.argmax(wave) == 1000
    assert wave[1000] == pytest.approx(2.0)
    assert wave[980] == pytest.approx(2.0 * np.exp(-0.5))
    assert wave[1050] == pytest.approx(2.0 * np.exp(-0.5))


def test_bumps_at_the_edges_are_cut_off_and_none_give_zeros():
    wave = bumps(np.array([0.0, 2.0]), np.full(2, 0.02), np.full(2, 0.02), np.ones(2), 1000.0, 2000)
    assert wave.shape == (2000,)
    assert wave[0] == pytest.approx(1.0)
    nothing = np.empty(0)
    assert not bumps(nothing, nothing, nothing, nothing, 1000.0, 5).any()


def test_waves_come_in_the_order_p_q_r_s_t():
    rhythm = steady(0.9)
    waves, heart = render(rhythm)
    r_s = rhythm.r_s[6]
    at = {name: peak_after(waves[name], r_s - 0.25, 0.75) - r_s for name in "PQRST"}
    assert at["P"] < at["Q"] < at["R"] < at["S"] < at["T"]
    assert at["R"] == pytest.approx(0, abs=1 / FS)
    assert 0.08 < -at["P"] < 0.2
    assert 0.2 < at["T"] < 0.4
    assert 0.36 <= heart.qtc_s <= 0.45


def test_qt_interval_follows_the_cube_root_of_rr():
    delays = {}
    for rr_s in (0.5, 1.0):
        rhythm = steady(rr_s)
        waves, _ = render(rhythm)
        r_s = rhythm.r_s[9]
        delays[rr_s] = peak_after(waves["T"], r_s + 0.1, 0.35) - r_s + 0.04
    assert delays[0.5] / delays[1.0] == pytest.approx(0.5 ** (1 / 3), rel=0.02)


def test_qt_interval_remembers_the_beats_before():
    # One long interval in a quick rhythm must not lengthen QT as a slow rhythm would.
    rr_s = np.full(20, 0.5)
    rr_s[10] = 1.0
    rhythm = replace(
        steady(0.5),
        r_s=np.cumsum(rr_s) - 3.0,
        rr_s=rr_s,
        p_gain=np.ones(20),
        ventricular=np.zeros(20, dtype=bool),
    )
    waves, heart = render(rhythm)
    t_s = peak_after(waves["T"], rhythm.r_s[10] + 0.1, 0.3) - rhythm.r_s[10]
    quick, slow = (
        heart.qtc_s * np.cbrt(rr) - 0.04 - 0.08 * heart.t_width * np.cbrt(rr) for rr in (0.5, 1.0)
    )
    assert quick < t_s < (quick + slow) / 2


def test_fibrillation_has_f_waves_of_its_frequency_and_no_p_waves():
    rhythm = atrial_fibrillation(np.random.default_rng(1), 10.0)
    waves, _ = render(rhythm)
    assert not waves["P"].any()
    power = np.abs(np.fft.rfft(waves["atrial"]))
    strongest_hz = np.argmax(power) * FS / len(waves["atrial"])
    assert strongest_hz == pytest.approx(rhythm.atrial.frequency_hz, abs=1.0)


def test_sinus_rhythm_has_no_f_waves():
    assert not render(steady(0.8))[0]["atrial"].any()


def width_s(wave):
    return (np.abs(wave) > 0.5 * np.abs(wave).max()).sum() / FS / 12


def test_bundle_branch_block_widens_qrs_and_left_turns_t_over():
    narrow, _ = render(steady(0.9))
    left, _ = render(steady(0.9, qrs="left bundle branch block"))
    right, _ = render(steady(0.9, qrs="right bundle branch block"))
    assert width_s(left["R"]) > 1.5 * width_s(narrow["R"])
    assert left["T"].min() < -0.5 < 0.5 < right["T"].max()
    assert left["late"].max() > 0.5
    assert right["late"].min() < -0.5
    assert not narrow["late"].any()


def test_a_ventricular_beat_is_wide_and_has_no_normal_qrs():
    rhythm = steady(0.9)
    rhythm.ventricular[6] = True
    waves, _ = render(rhythm)
    around = slice(*(round((rhythm.r_s[6] + t + LEAD_IN_S) * FS) for t in (-0.1, 0.1)))
    assert waves["R"][around].max() < 0.01
    assert waves["ventricular QRS"][around].max() > 0.8
    assert width_s(waves["ventricular QRS"]) * 12 > 2 * width_s(waves["R"])


def test_long_pq_moves_p_away_from_qrs():
    usual, _ = render(steady(0.9))
    long, _ = render(steady(0.9, long_pq_s=0.1))
    r_s = steady(0.9).r_s[6]
    earlier = peak_after(usual["P"], r_s - 0.35, 0.34) - peak_after(long["P"], r_s - 0.35, 0.34)
    assert earlier == pytest.approx(0.1, abs=1 / FS)


def test_hearts_have_adult_sizes_in_lead_one():
    projections = np.array([draw_heart(np.random.default_rng(s)).projection for s in range(200)])
    median = dict(zip(_NAMES, np.median(projections[:, :, 0], axis=0), strict=True))
    assert 0.5 < median["R"] < 1.3
    assert 0.05 < median["P"] < 0.15
    assert 0.1 < median["T"] < 0.4
    assert median["S"] < 0
    assert abs(median["atrial"]) < 0.1
