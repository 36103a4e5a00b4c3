"""When the heart beats: sinus rhythm, atrial fibrillation and other rhythms.

Sinus rhythm is integral pulse frequency modulation (Berger et al., IEEE Trans. Biomed. Eng.
33(9), 1986): a beat falls wherever the integral of the momentary heart rate passes a whole
number. The rate follows breathing, the 0.1 Hz rhythm of blood pressure and a 1/f wander, as in
McSharry et al., "A dynamical model for generating synthetic electrocardiogram signals", IEEE
Trans. Biomed. Eng. 50(3), 2003. In atrial fibrillation the intervals are next to independent
draws from a skewed distribution above the refractory time of the AV node.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAD_IN_S = 3.0  # filters and the QT interval's memory have settled when the recording starts
TAIL_S = 1.5  # P waves of the beat after the end still reach into the recording
_PAC_P_GAINS = (0.7, 1.2, -0.6)  # a premature atrial P wave starts elsewhere in the atrium


@dataclass(frozen=True)
class Breathing:
    """Respiration, which sways the heart rate, the amplitude and the baseline together."""

    frequency_hz: float
    phase: float

    def at(self, time_s: Floats) -> Floats:
        """Depth of breath between -1 and 1 at each time, the shape of `time_s`."""
        return np.sin(2 * np.pi * self.frequency_hz * time_s + self.phase)


@dataclass(frozen=True)
class AtrialActivity:
    """Continuous atrial waves, fibrillatory or fluttering, in place of P waves."""

    frequency_hz: float
    frequency_sway_hz: float
    amplitude: float
    amplitude_sway: float
    n_harmonics: int


@dataclass(frozen=True)
class Rhythm:
    """The beats of one recording, in the order of time; all arrays have shape `(n_beats,)`.

    Attributes
    ----------
    name
        What a cardiologist would write on the strip.
    r_s
        Times of the R peaks in s; the recording starts at 0.
    rr_s
        Interval that ends in each beat, in s.
    p_gain
        Height of the P wave before each beat, 0 for none, 1 for the sinus node's.
    ventricular
        Whether the beat starts in a ventricle.
    qrs
        "narrow", "left bundle branch block" or "right bundle branch block".
    long_pq_s
        What is added to a normal PQ interval, in s.
    atrial
        Continuous atrial waves, if any.
    """

    name: str
    r_s: Floats
    rr_s: Floats
    p_gain: Floats
    ventricular: NDArray[np.bool_]
    qrs: str = "narrow"
    long_pq_s: float = 0.0
    atrial: AtrialActivity | None = field(default=None)


def pink_noise(rng: np.random.Generator, n: int) -> Floats:
    """Noise whose power falls as 1/f, of unit standard deviation, shape `(n,)`."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum[0] = 0.0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum, n)
    return np.asarray(noise / noise.std(), dtype=np.float64)


def sinus_rhythm(
    rng: np.random.Generator,
    duration_s: float,
    breathing: Breathing,
    rate_bpm: float,
    name: str = "sinus rhythm",
) -> Rhythm:
    """Beats of the sinus node at a mean rate of `rate_bpm`."""
    step_s = 0.1
    time_s = np.arange(-LEAD_IN_S, duration_s + TAIL_S + 60.0 / rate_bpm, step_s)
    # Arrhythmia of breathing is strong at slow rates and almost gone in tachycardia.
    calm = np.clip((130.0 - rate_bpm) / 60.0, 0.1, 1.2)
    respiratory = rng.uniform(0.01, 0.07) * calm
    blood_pressure = rng.uniform(0.005, 0.025) * calm
    wander = rng.uniform(0.01, 0.025) * calm
    modulation = (
        respiratory * breathing.at(time_s)
        + blood_pressure * np.sin(2 * np.pi * 0.1 * time_s + rng.uniform(0, 2 * np.pi))
        + wander * pink_noise(rng, len(time_s))
    )
    beats = np.cumsum(rate_bpm / 60.0 * step_s * (1.0 + modulation))
    beats += rng.uniform(0, 1) - beats[0]
    r_s = np.interp(np.arange(1, int(beats[-1]) + 1), beats, time_s)
    return _from_peaks(name, r_s, p_gain=1.0)


def atrial_fibrillation(rng: np.random.Generator, duration_s: float) -> Rhythm:
    """Irregularly irregular beats without P waves, slow to rapid, with fibrillatory waves."""
    rate_bpm = float(np.clip(rng.normal(80.0, 18.0), 50.0, 140.0))
    mean_s = 60.0 / rate_bpm
    refractory_s = max(0.28, 0.45 * mean_s)
    spread_s = mean_s * rng.uniform(0.19, 0.29)
    shape = ((mean_s - refractory_s) / spread_s) ** 2
    n = int(1.6 * (duration_s + LEAD_IN_S + TAIL_S) / mean_s) + 8
    rr_s = refractory_s + rng.gamma(shape, (mean_s - refractory_s) / shape, n)
    r_s = -LEAD_IN_S + np.cumsum(rr_s)
    rhythm = _from_peaks("atrial fibrillation", r_s[r_s < duration_s + TAIL_S], p_gain=0.0)
    return replace(
        rhythm,
        atrial=AtrialActivity(
            frequency_hz=rng.uniform(4.5, 8.5),
            frequency_sway_hz=rng.uniform(0.3, 0.9),
            amplitude=float(np.exp(rng.normal(np.log(0.8), 0.35))),
            amplitude_sway=rng.uniform(0.2, 0.6),
            n_harmonics=int(rng.integers(1, 4)),
        ),
    )


def atrial_flutter(rng: np.random.Generator, duration_s: float) -> Rhythm:
    """Regular sawtooth waves around 300 per minute, every second to fourth conducted."""
    flutter_hz = rng.uniform(4.2, 5.4)
    block = int(rng.integers(2, 5))
    jitter = 1.0 + 0.006 * rng.standard_normal(int((duration_s + 5.0) * flutter_hz / block) + 2)
    r_s = -LEAD_IN_S + rng.uniform(0, 0.5) + np.cumsum(jitter * block / flutter_hz)
    r_s = r_s[r_s < duration_s + TAIL_S]
    return replace(
        _from_peaks(f"atrial flutter, {block}:1 conduction", r_s, p_gain=0.0),
        atrial=AtrialActivity(flutter_hz, 0.02, rng.uniform(1.0, 2.0), 0.05, 4),
    )


def ectopic_beats(
    rng: np.random.Generator, base: Rhythm, *, ventricular: bool, every: int | None = None
) -> Rhythm:
    """Premature beats on top of a sinus rhythm.

    A ventricular one leaves the sinus node alone, so its pause is fully compensatory: the two
    intervals around it add up to two normal ones. An atrial one resets the node, so that its
    pause is shorter than that.

    Parameters
    ----------
    rng
        Draws which beats come early, and how early.
    base
        The sinus rhythm.
    ventricular
        Whether they come from a ventricle, or from an atrium.
    every
        2 for bigeminy, 3 for trigeminy; none means that they come at random, about one in five.
    """
    n = len(base.r_s)
    if every is None:
        early = np.flatnonzero(rng.random(n) < rng.uniform(0.15, 0.3))
        early = early[np.diff(early, prepend=-2) > 1]
        kind, pattern = ("ventricular", "") if ventricular else ("atrial", "")
    else:
        early = np.arange(int(rng.integers(1, every + 1)), n, every)
        kind = "ventricular" if ventricular else "atrial"
        pattern = {2: " in bigeminy", 3: " in trigeminy"}[every]
    early = early[(early > 0) & (early < n - 1)]
    rr_s = base.rr_s.copy()
    normal_s, next_s = rr_s[early], rr_s[early + 1]
    coupling = rng.uniform(0.55, 0.72) + 0.03 * rng.standard_normal(len(early))
    rr_s[early] = normal_s * np.clip(coupling, 0.48, 0.8)
    if ventricular:
        rr_s[early + 1] = normal_s + next_s - rr_s[early]
    else:
        rr_s[early + 1] = next_s * rng.uniform(1.0, 1.15, len(early))
    p_gain, from_ventricle = base.p_gain.copy(), base.ventricular.copy()
    p_gain[early] = 0.0 if ventricular else rng.choice(_PAC_P_GAINS)
    from_ventricle[early] = ventricular
    r_s = base.r_s[0] + np.cumsum(rr_s) - rr_s[0]
    return replace(
        base,
        name=f"{base.name} with premature {kind} beats{pattern}",
        r_s=r_s,
        rr_s=rr_s,
        p_gain=p_gain,
        ventricular=from_ventricle,
    )


def normal_rhythm(rng: np.random.Generator, duration_s: float, breathing: Breathing) -> Rhythm:
    """Sinus rhythm at 52 to 100 beats a minute."""
    rate_bpm = float(np.clip(rng.normal(75.0, 12.0), 52.0, 100.0))
    return sinus_rhythm(rng, duration_s, breathing, rate_bpm)


def other_rhythm(rng: np.random.Generator, duration_s: float, breathing: Breathing) -> Rhythm:
    """One of the rhythms that are neither normal nor atrial fibrillation."""
    kind = int(rng.choice(8, p=(0.23, 0.21, 0.14, 0.12, 0.10, 0.14, 0.02, 0.04)))
    if kind == 3:
        return sinus_rhythm(
            rng, duration_s, breathing, rng.uniform(38.0, 49.0), "sinus bradycardia"
        )
    if kind == 4:
        return sinus_rhythm(
            rng, duration_s, breathing, rng.uniform(102.0, 125.0), "sinus tachycardia"
        )
    if kind == 6:
        return atrial_flutter(rng, duration_s)
    # Premature atrial beats pull all later ones forward: more beats are needed than fit.
    base = normal_rhythm(rng, 1.25 * duration_s, breathing)
    if kind == 5:
        side = "left" if rng.random() < 0.5 else "right"
        block = f"{side} bundle branch block"
        return replace(base, name=f"sinus rhythm with {block}", qrs=block)
    if kind == 7:
        return replace(
            base,
            name="sinus rhythm with first-degree AV block",
            long_pq_s=rng.uniform(0.07, 0.11),
        )
    every = int(rng.integers(2, 4)) if kind == 2 else None
    return ectopic_beats(rng, base, ventricular=kind != 1, every=every)


def _from_peaks(name: str, r_s: Floats, p_gain: float) -> Rhythm:
    """A rhythm of supraventricular beats at these times."""
    rr_s = np.diff(r_s, prepend=2 * r_s[0] - r_s[1])
    return Rhythm(
        name=name,
        r_s=r_s,
        rr_s=rr_s,
        p_gain=np.full(len(r_s), p_gain),
        ventricular=np.zeros(len(r_s), dtype=np.bool_),
    )
