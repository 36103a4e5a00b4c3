"""What electrodes see of the beats: P, Q, R, S and T waves in the leads of one person.

Each wave is a Gaussian with a side of its own before and after its peak, placed relative to the
R peak (the waves of McSharry et al., IEEE Trans. Biomed. Eng. 50(3), 2003, laid out along time
instead of around a limit cycle). A wave is one electrical source: in the frontal plane it has a
size and an axis, of which leads I and II are projections; on the chest it has a size per lead.
Fibrillatory waves are the swaying sawtooth of Stridh and Sörnmo, IEEE Trans. Biomed. Eng. 48(1),
2001.

Intervals and axes are those of Surawicz et al., "AHA/ACCF/HRS recommendations for the
standardization and interpretation of the electrocardiogram, part III: intraventricular conduction
disturbances", Circulation 119(10), 2009: QRS below 0.11 s and from 0.12 s in a bundle branch block;
in right bundle branch block rsR' in V1 and V2 and a broad S in I and V6; in left bundle branch
block no septal q, a broad notched R in I, V5 and V6, and QS or rS in V1 to V3; in both a T wave
against the end of the QRS complex; a left axis beyond -30 degrees. PQ is 0.12 to 0.2 s, and longer
in first-degree AV block. QT follows the recording's mean RR interval by Fridericia's cube root and
not the single beat's: it adapts with a time constant of a minute (Razak et al., Ann. Noninvasive
Electrocardiol. 16(2), 2011).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ecg_mlflow.records.synthetic.noise import Floats
from ecg_mlflow.records.synthetic.rhythms import LEAD_IN_S, Rhythm


@dataclass(frozen=True)
class Wave:
    """One wave of the average person at an RR interval of 1 s.

    Attributes
    ----------
    mv, axis_deg
        Size and axis in the frontal plane, lead I lying at 0; no axis stands for the R wave's.
    chest_mv
        Sizes in V1 to V6.
    at_s
        Peak time from the R peak; of a P wave, from the R peak less the PQ interval.
    before_s, after_s
        Widths (sigma) before and after the peak.
    """

    mv: float
    axis_deg: float | None
    chest_mv: tuple[float, float, float, float, float, float]
    at_s: float = 0.0
    before_s: float = 0.0
    after_s: float = 0.0


_ATRIAL_WAVES = Wave(0.12, 60.0, (0.11, 0.06, 0.04, 0.03, 0.03, 0.03))
_Q = Wave(-0.11, None, (0.0, 0.0, 0.0, -0.03, -0.08, -0.08), -0.021, 0.0065, 0.0065)
_R = Wave(1.30, None, (0.25, 0.45, 0.85, 1.40, 1.35, 1.00), 0.0, 0.0095, 0.0095)
#: The P wave; and QRS complex and T wave of a beat that both bundle branches, one or none conduct.
_BEATS = {
    "atrial": {"P": Wave(0.15, 52.0, (0.05, 0.07, 0.07, 0.06, 0.06, 0.05), 0.01, 0.021, 0.023)},
    "narrow": {
        "Q": _Q,
        "R": _R,
        "S": Wave(-0.30, None, (-0.95, -1.4, -1.0, -0.5, -0.2, -0.1), 0.024, 0.0085, 0.011),
        "T": Wave(0.34, 43.0, (0.05, 0.40, 0.45, 0.40, 0.32, 0.25), 0.285, 0.064, 0.04),
    },
    "RBBB": {
        "Q": _Q,
        "R": _R,
        "S": Wave(-0.30, None, (-0.45, -0.8, -0.8, -0.5, -0.2, -0.1), 0.024, 0.0085, 0.011),
        "R'": Wave(0.32, 172.0, (0.75, 0.6, 0.25, -0.1, -0.28, -0.3), 0.066, 0.018, 0.024),
        "T": Wave(0.34, 43.0, (-0.16, -0.12, 0.4, 0.4, 0.32, 0.25), 0.305, 0.064, 0.04),
    },
    "LBBB": {
        "R": Wave(1.30, None, (0.08, 0.11, 0.25, 0.85, 1.35, 1.0), 0.0, 0.016, 0.016),
        "S": Wave(-0.10, None, (-1.05, -1.6, -1.3, -0.6, 0.0, 0.0), 0.035, 0.0145, 0.019),
        "notch": Wave(0.60, None, (-0.7, -0.9, -0.7, 0.1, 0.6, 0.7), 0.056, 0.016, 0.02),
        "T": Wave(-0.30, None, (0.24, 0.36, 0.32, -0.15, -0.28, -0.25), 0.305, 0.064, 0.04),
    },
    "PVC": {
        "R": Wave(1.45, None, (-1.2, -1.5, -0.8, 0.4, 1.0, 1.1), 0.015, 0.026, 0.034),
        "T": Wave(-0.45, None, (0.4, 0.5, 0.3, -0.2, -0.35, -0.4), 0.315, 0.068, 0.04),
    },
}
#: Axis of the R wave in degrees; the range of the first diagnosis that a person has.
_AXES = {"LAD": (-65.0, -38.0), "LBBB": (-20.0, 45.0)}
_USUAL_AXES, _PVC_AXES = (5.0, 65.0), (-10.0, 60.0)


def heart_signal(
    rng: np.random.Generator,
    diagnoses: Collection[str],
    rhythm: Rhythm,
    fs: float,
    n_samples: int,
) -> Floats:
    """One person's ECG without noise.

    Parameters
    ----------
    rng
        Draws the person, and how beats differ.
    diagnoses
        Abbreviations. IAVB, RBBB, LBBB and LAD change the waves.
    rhythm
        When the beats come, and what sways their height.
    fs
        Sampling frequency in Hz.
    n_samples
        Samples from `LEAD_IN_S` before the recording's start on.

    Returns
    -------
    mV in the leads I, II, V1 to V6, shape `(8, n_samples)`.
    """
    r_s, mean_rr_s = rhythm.r_s, rhythm.rr_s.mean()
    size = np.exp(rng.normal(0.0, 0.4))
    axis = rng.uniform(*next((a for name, a in _AXES.items() if name in diagnoses), _USUAL_AXES))
    pq_s = np.clip(rng.normal(0.155, 0.017), 0.122, 0.195) * mean_rr_s**0.25
    if "IAVB" in diagnoses:
        pq_s = rng.uniform(0.225, 0.3)
    width, qt = rng.uniform(0.85, 1.15), np.cbrt(mean_rr_s) * rng.normal(1.0, 0.04)
    # Breathing turns the heart's axis and changes the chest's resistance a little.
    height = 1.0 + 0.05 * rhythm.breath(r_s) + 0.015 * rng.standard_normal(len(r_s))
    conducted = next((block for block in ("RBBB", "LBBB") if block in diagnoses), "narrow")
    courses, sizes_mv = [], []
    for kind, r_axis, start_s, gain in (
        ("atrial", axis, r_s - pq_s, rhythm.p_gain),
        (conducted, axis, r_s, height * ~rhythm.ventricular),
        ("PVC", rng.uniform(*_PVC_AXES), r_s, height * rhythm.ventricular),
    ):
        there = gain != 0.0
        for name, wave in _BEATS[kind].items():
            stretch = qt if name == "T" else width
            peaks_s = start_s[there] + LEAD_IN_S + stretch * wave.at_s
            widths_s = stretch * wave.before_s, stretch * wave.after_s
            courses.append(bumps(peaks_s, *widths_s, gain[there], fs, n_samples))
            sizes_mv.append(_in_leads(rng, wave, r_axis))
    if rhythm.atrial_hz:
        time_s = np.arange(n_samples) / fs
        courses.append(_atrial_waves(rng, rhythm.atrial_hz, time_s, fibrillating="AF" in diagnoses))
        sizes_mv.append(_in_leads(rng, _ATRIAL_WAVES, axis))
    return np.asarray(size * np.stack(sizes_mv, axis=1) @ np.stack(courses), np.float64)


def bumps(
    centre_s: Floats, before_s: float, after_s: float, height: Floats, fs: float, n_samples: int
) -> Floats:
    """Sum of two-sided Gaussians.

    Parameters
    ----------
    centre_s
        Peak time of each from the first sample, shape `(n_bumps,)`.
    before_s, after_s
        Widths (sigma) before and after the peak.
    height
        Of each, shape `(n_bumps,)`.
    fs
        Sampling frequency in Hz.
    n_samples
        Length of the sum.

    Returns
    -------
    Shape `(n_samples,)`.
    """
    reach = int(4.0 * fs * max(before_s, after_s)) + 1
    index = np.rint(centre_s * fs).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    off_s = index / fs - centre_s[:, None]
    value = height[:, None] * np.exp(-0.5 * (off_s / np.where(off_s < 0, before_s, after_s)) ** 2)
    inside = (index >= 0) & (index < n_samples)
    summed = np.bincount(index[inside], weights=value[inside], minlength=n_samples)
    return np.asarray(summed, np.float64)


def _atrial_waves(
    rng: np.random.Generator, hz: float, time_s: Floats, *, fibrillating: bool
) -> Floats:
    """Course of flutter waves, or of fibrillatory ones, which are smaller and sway; `(n,)`."""
    gain, sway = rng.uniform(1.0, 2.0), 0.0
    if fibrillating:
        gain, sway = rng.uniform(0.2, 1.1), rng.uniform(0.4, 1.0)
    turns = 2 * np.pi * (time_s + rng.uniform(0.0, 100.0))
    angle = hz * turns + 2.0 * sway * np.sin(0.3 * turns)
    swell = 1.0 + 0.5 * sway * np.sin(0.43 * turns)
    return gain * swell * (np.sin(angle) + np.sin(2 * angle) / 2)


def _in_leads(rng: np.random.Generator, wave: Wave, r_axis_deg: float) -> Floats:
    """Height of one person's wave in leads I, II, V1 to V6 in mV, for a heart of average size."""
    axis = (r_axis_deg if wave.axis_deg is None else wave.axis_deg) + rng.normal(0.0, 8.0)
    limb = wave.mv * np.exp(rng.normal(0.0, 0.2)) * np.cos(np.deg2rad((axis, axis - 60.0)))
    return np.concatenate((limb, np.array(wave.chest_mv) * rng.uniform(0.7, 1.3, 6)))
