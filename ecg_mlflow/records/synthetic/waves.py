"""What electrodes see of the beats: P, Q, R, S and T waves, and their projection on leads.

Each wave is a Gaussian with a side of its own before and after its peak, placed relative to the
R peak (the waves of McSharry et al., IEEE Trans. Biomed. Eng. 50(3), 2003, laid out along time
instead of around a limit cycle). The QT interval follows the RR interval by Fridericia's cube
root, with a memory of a few beats. Fibrillatory waves are the swaying sawtooth of Stridh and
Sörnmo, IEEE Trans. Biomed. Eng. 48(1), 2001.

A wave is one electrical source. In the frontal plane it has a size and an axis, of which leads I
and II are projections; on the chest it has a size per lead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.records.synthetic.rhythms import LEAD_IN_S, AtrialActivity, Breathing, Rhythm

Floats = NDArray[np.float64]

# Source: size in mV and axis in degrees in the frontal plane, spread of the axis between people,
# sizes in V1 to V6. R sets the axis of Q, S, late and T, theirs being the angle away from it.
SOURCES: dict[str, tuple[float, float, float, tuple[float, ...]]] = {
    "P": (0.15, 52.0, 12.0, (0.05, 0.07, 0.07, 0.06, 0.06, 0.05)),
    "Q": (0.11, 180.0, 25.0, (0.0, 0.0, 0.0, -0.03, -0.08, -0.08)),
    "R": (1.30, 38.0, 20.0, (0.25, 0.45, 0.85, 1.40, 1.35, 1.00)),
    "S": (0.30, 180.0, 25.0, (-0.95, -1.40, -1.00, -0.50, -0.20, -0.10)),
    "T": (0.34, 5.0, 14.0, (0.05, 0.40, 0.45, 0.40, 0.32, 0.25)),
    "late": (0.42, 0.0, 15.0, (-0.5, -0.5, -0.2, 0.1, 0.45, 0.5)),
    "ventricular QRS": (1.45, 20.0, 38.0, (-1.2, -1.5, -0.8, 0.4, 1.0, 1.1)),
    "ventricular T": (0.45, 200.0, 30.0, (0.4, 0.5, 0.3, -0.2, -0.35, -0.4)),
    "atrial": (0.12, 60.0, 12.0, (0.11, 0.06, 0.04, 0.03, 0.03, 0.03)),
}
_NAMES = tuple(SOURCES)


@dataclass(frozen=True)
class Heart:
    """One person's conduction and the size of each source on the independent leads.

    Attributes
    ----------
    projection
        mV of each source in leads I, II, V1 to V6; shape `(n_sources, 8)`.
    pq_s, qtc_s
        PQ interval, and QT interval at an RR interval of 1 s.
    qrs_width, p_width, t_width
        Widths relative to the average.
    """

    projection: Floats
    pq_s: float
    qtc_s: float
    qrs_width: float
    p_width: float
    t_width: float


def draw_heart(rng: np.random.Generator) -> Heart:
    """One person's heart, of the sizes that adults have."""
    overall = np.exp(rng.normal(0.0, 0.32))
    rows = []
    r_axis = float(np.clip(rng.normal(SOURCES["R"][1], SOURCES["R"][2]), -25.0, 72.0))
    for name, (size, axis, spread, chest) in SOURCES.items():
        angle = axis + rng.normal(0.0, spread)
        if name in ("Q", "S", "T", "late"):
            angle += r_axis
        elif name == "R":
            angle = r_axis
        size *= overall * np.exp(rng.normal(0.0, 0.3))
        limb = size * np.cos(np.deg2rad((angle, angle - 60.0)))  # lead I at 0, lead II at 60 deg
        rows.append(np.concatenate((limb, overall * np.array(chest) * rng.uniform(0.7, 1.3, 6))))
    return Heart(
        projection=np.array(rows),
        pq_s=float(np.clip(rng.normal(0.155, 0.017), 0.122, 0.195)),
        qtc_s=float(np.clip(rng.normal(0.405, 0.018), 0.36, 0.45)),
        qrs_width=rng.uniform(0.85, 1.25),
        p_width=rng.uniform(0.85, 1.2),
        t_width=rng.uniform(0.85, 1.2),
    )


def bumps(
    centre_s: Floats, before_s: Floats, after_s: Floats, height: Floats, fs: float, n_samples: int
) -> Floats:
    """Sum of two-sided Gaussians.

    Parameters
    ----------
    centre_s, before_s, after_s, height
        Peak time from the first sample, widths (sigma) before and after the peak in s, and
        height of each; shapes `(n_bumps,)`.
    fs
        Sampling frequency in Hz.
    n_samples
        Length of the sum.

    Returns
    -------
    Shape `(n_samples,)`.
    """
    if len(centre_s) == 0:
        return np.zeros(n_samples)
    reach = int(4.0 * fs * max(before_s.max(), after_s.max())) + 1
    index = np.rint(centre_s * fs).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    off_s = index / fs - centre_s[:, None]
    sigma = np.where(off_s < 0, before_s[:, None], after_s[:, None])
    value = height[:, None] * np.exp(-0.5 * (off_s / sigma) ** 2)
    inside = (index >= 0) & (index < n_samples)
    summed = np.bincount(index[inside], weights=value[inside], minlength=n_samples)
    return np.asarray(summed, dtype=np.float64)


def render_sources(
    rng: np.random.Generator,
    rhythm: Rhythm,
    heart: Heart,
    breathing: Breathing,
    fs: float,
    n_samples: int,
) -> Floats:
    """Course of every source at unit height.

    Parameters
    ----------
    rng
        Draws how beats differ.
    rhythm, heart, breathing
        When the beats come, what they look like, and what turns the heart's axis.
    fs
        Sampling frequency in Hz.
    n_samples
        Samples from `LEAD_IN_S` before the recording's start on.

    Returns
    -------
    Shape `(n_samples, n_sources)`.
    """
    r_s, n = rhythm.r_s, len(rhythm.r_s)
    memory_s = _recent_mean(rhythm.rr_s)
    rate = np.cbrt(memory_s)
    sinus = ~rhythm.ventricular
    # Breathing turns the heart's axis and changes the chest's resistance a little.
    height = 1.0 + 0.05 * breathing.at(r_s) + 0.015 * rng.standard_normal(n)
    width = heart.qrs_width * (1.0 if rhythm.qrs == "narrow" else 1.7)
    t_after_s = 0.040 * heart.t_width * rate
    t_s = r_s - 0.04 + heart.qtc_s * rate - 2.0 * t_after_s
    pq_s = heart.pq_s * np.clip(rhythm.rr_s, 0.4, 1.2) ** 0.25 + rhythm.long_pq_s
    late = {"narrow": 0.0, "left bundle branch block": 1.0, "right bundle branch block": -1.0}
    # In left bundle branch block the T wave turns against the QRS complex.
    t_sign = -0.8 if rhythm.qrs == "left bundle branch block" else 1.0
    layout: dict[str, tuple[Floats, float | Floats, float | Floats, Floats]] = {
        "P": (r_s + 0.015 - pq_s, 0.021 * heart.p_width, 0.023 * heart.p_width, rhythm.p_gain),
        "Q": (r_s - 0.021 * width, 0.0065 * width, 0.0065 * width, height * sinus),
        "R": (r_s, 0.0095 * width, 0.0095 * width, height * sinus),
        "S": (r_s + 0.024 * width, 0.0085 * width, 0.011 * width, height * sinus),
        "T": (t_s, 1.6 * t_after_s, t_after_s, t_sign * height * sinus),
        "late": (r_s + 0.055, 0.016, 0.02, late[rhythm.qrs] * height * sinus),
        "ventricular QRS": (r_s + 0.015, 0.026, 0.034, height * rhythm.ventricular),
        "ventricular T": (t_s + 0.03, 1.7 * t_after_s, t_after_s, height * rhythm.ventricular),
    }
    sources = np.zeros((n_samples, len(_NAMES)))
    for column, name in enumerate(_NAMES):
        if name in layout:
            centre_s, before_s, after_s, size = layout[name]
            used = size != 0.0
            sources[:, column] = bumps(
                centre_s[used] + LEAD_IN_S,
                np.broadcast_to(before_s, n)[used],
                np.broadcast_to(after_s, n)[used],
                size[used],
                fs,
                n_samples,
            )
    if rhythm.atrial is not None:
        sources[:, _NAMES.index("atrial")] = _sawtooth(rng, rhythm.atrial, fs, n_samples)
    return sources


def _recent_mean(rr_s: Floats) -> Floats:
    """Exponential mean over about the last four intervals: QT does not follow at once."""
    mean = np.empty_like(rr_s)
    value = float(rr_s[: min(4, len(rr_s))].mean())
    for index, interval in enumerate(rr_s):
        value += 0.3 * (float(interval) - value)
        mean[index] = value
    return mean


def _sawtooth(
    rng: np.random.Generator, atrial: AtrialActivity, fs: float, n_samples: int
) -> Floats:
    """Atrial waves of mean height `atrial.amplitude`, shape `(n_samples,)`."""
    time_s = np.arange(n_samples) / fs
    sway_hz = rng.uniform(0.15, 0.5)
    angle = 2 * np.pi * atrial.frequency_hz * time_s + atrial.frequency_sway_hz / sway_hz * np.sin(
        2 * np.pi * sway_hz * time_s + rng.uniform(0, 2 * np.pi)
    )
    swell = 1.0 + atrial.amplitude_sway * np.sin(
        2 * np.pi * rng.uniform(0.2, 0.7) * time_s + rng.uniform(0, 2 * np.pi)
    )
    wave = np.zeros(n_samples)
    for harmonic in range(1, atrial.n_harmonics + 1):
        wave += np.sin(harmonic * angle) / harmonic
    return np.asarray(atrial.amplitude * swell * wave, dtype=np.float64)
