"""RR intervals: when the heart beats in sinus rhythm, atrial fibrillation and other rhythms.

In sinus rhythm the intervals follow breathing, the 0.1 Hz rhythm of blood pressure and a 1/f
wander, as in McSharry et al., "A dynamical model for generating synthetic electrocardiogram
signals", IEEE Trans. Biomed. Eng. 50(3), 2003. In atrial fibrillation they are independent draws
from a skewed distribution above the refractory time of the AV node, and fibrillatory waves come 4
to 9 times a second (Stridh and Sörnmo, IEEE Trans. Biomed. Eng. 48(1), 2001). Flutter waves are
regular, 230 to 345 a minute.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.records.synthetic.noise import Floats, pink_noise

LEAD_IN_S = 2.0  # beats before the recording's start, in which the recorder's filters settle

#: Mean rates of the ventricles per minute. Sinus rhythm is normal from 60 to 100.
_RATES_BPM = {
    "NSR": (60.0, 98.0),
    "SB": (40.0, 55.0),
    "STach": (104.0, 138.0),
    "AF": (55.0, 115.0),
    "AFL": (65.0, 150.0),
}
_FIBRILLATION_HZ, _FLUTTER_HZ = (4.5, 8.5), 4.8
#: Premature beats come at the earliest and at the latest so many beats after each other.
_PREMATURE = {"PAC": (2, 7), "PVC": (2, 7), "VBig": (2, 2), "VTrig": (3, 3)}
_EARLIEST_S = 0.3
_PAC_P_GAINS = (0.7, 1.2, -0.6)  # a premature atrial P wave starts elsewhere in the atrium


@dataclass(frozen=True)
class Rhythm:
    """The beats of one recording, in the order of time; all arrays have shape `(n_beats,)`.

    Attributes
    ----------
    rr_s
        Interval that ends in each beat in s; the first begins `LEAD_IN_S` before the recording.
    p_gain
        Height of the P wave before each beat, 0 for none, 1 for the sinus node's.
    ventricular
        Whether the beat starts in a ventricle.
    atrial_hz
        Frequency of fibrillatory or flutter waves, 0 where there are P waves instead.
    breath_hz
        Frequency of breathing, which sways rate, amplitude and baseline together.
    """

    rr_s: Floats
    p_gain: Floats
    ventricular: NDArray[np.bool_]
    atrial_hz: float
    breath_hz: float

    @property
    def r_s(self) -> Floats:
        """Times of the R peaks in s; the recording starts at 0."""
        return np.cumsum(self.rr_s) - LEAD_IN_S

    def breath(self, time_s: Floats) -> Floats:
        """Depth of breath between -1 and 1 at each time, the shape of `time_s`."""
        return np.sin(2 * np.pi * self.breath_hz * time_s)


def draw_rhythm(rng: np.random.Generator, diagnoses: Collection[str], duration_s: float) -> Rhythm:
    """Draw a rhythm that lasts longer than the recording.

    Parameters
    ----------
    rng
        Draws it.
    diagnoses
        Abbreviations: one of NSR, SB, STach, AF and AFL (flutter), and any of PAC, PVC, VBig and
        VTrig (ventricular bigeminy and trigeminy). Others change the waves, not the rhythm.
    duration_s
        Length of the recording.
    """
    breath_hz, atrial_hz = rng.uniform(0.17, 0.38), 0.0
    mean_s = 60.0 / rng.uniform(*next(_RATES_BPM[d] for d in diagnoses if d in _RATES_BPM))
    n = int(1.3 * (duration_s + LEAD_IN_S) / mean_s) + 8  # premature beats pull later ones forward
    if "AF" in diagnoses:
        atrial_hz = rng.uniform(*_FIBRILLATION_HZ)
        rr_s = _fibrillation(rng, mean_s, n)
    elif "AFL" in diagnoses:  # the AV node conducts every second to fourth wave
        atrial_hz = round(_FLUTTER_HZ * mean_s) / mean_s
        rr_s = mean_s * (1.0 + 0.006 * rng.standard_normal(n))
    else:
        rr_s = _sinus(rng, mean_s, n, breath_hz)
    rr_s[0] *= rng.uniform()
    p_gain, ventricular = np.full(n, float(atrial_hz == 0.0)), np.zeros(n, np.bool_)
    for kind, (least, most) in _PREMATURE.items():
        if kind in diagnoses:
            early = np.cumsum(rng.integers(least, most + 1, n))
            early = early[early < n - 1]
            _bring_forward(rng, rr_s, early, resets_sinus_node=kind == "PAC")
            p_gain[early] = rng.choice(_PAC_P_GAINS) if kind == "PAC" else 0.0
            ventricular[early] = kind != "PAC"
    return Rhythm(rr_s, p_gain, ventricular, atrial_hz, breath_hz)


def _sinus(rng: np.random.Generator, mean_s: float, n: int, breath_hz: float) -> Floats:
    """Intervals of the sinus node, shape `(n,)`."""
    turns = 2 * np.pi * (mean_s * np.arange(n) - LEAD_IN_S)
    # Arrhythmia of breathing is strong at slow rates and almost gone in tachycardia.
    calm = min(max((130.0 - 60.0 / mean_s) / 60.0, 0.1), 1.2)
    sway = (
        rng.uniform(0.01, 0.08) * np.sin(breath_hz * turns)
        + rng.uniform(0.005, 0.025) * np.sin(0.1 * turns + rng.uniform(0, 2 * np.pi))
        + rng.uniform(0.01, 0.025) * pink_noise(rng, (1, n), 1.0, (0.01, 0.5))[0]
    )
    return np.asarray(mean_s * (1.0 - calm * sway), np.float64)


def _fibrillation(rng: np.random.Generator, mean_s: float, n: int) -> Floats:
    """Irregularly irregular intervals that the AV node lets through, shape `(n,)`."""
    refractory_s = max(0.28, 0.45 * mean_s)
    above_s = mean_s - refractory_s
    scale_s = (mean_s * rng.uniform(0.15, 0.27)) ** 2 / above_s
    return refractory_s + rng.gamma(above_s / scale_s, scale_s, n)


def _bring_forward(
    rng: np.random.Generator, rr_s: Floats, early: NDArray[np.int64], *, resets_sinus_node: bool
) -> None:
    """Make beats premature, in place.

    A ventricular one leaves the sinus node alone, so that its pause is fully compensatory: the two
    intervals around it add up to two usual ones. An atrial one resets the node, so that its pause
    is shorter than that.
    """
    usual_s, next_s = rr_s[early], rr_s[early + 1]
    coupling = np.clip(rng.normal(rng.uniform(0.55, 0.72), 0.04, len(early)), 0.45, 0.8)
    rr_s[early] = np.maximum(coupling * usual_s, _EARLIEST_S)
    if resets_sinus_node:
        rr_s[early + 1] = next_s * rng.uniform(1.0, 1.15, len(early))
    else:
        rr_s[early + 1] = usual_s + next_s - rr_s[early]
