"""What hand, muscle, mains and electrode add to an ECG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.records.synthetic.rhythms import LEAD_IN_S, Breathing, pink_noise
from ecg_mlflow.records.synthetic.waves import bumps

Floats = NDArray[np.float64]

_BAND_HZ = (0.5, 40.0)  # the pass band of the Challenge's handheld recorder


@dataclass(frozen=True)
class Disturbance:
    """How strongly one recording is disturbed; sizes in mV, rates per second.

    Attributes
    ----------
    muscle_mv, hum_mv, hum_hz
        Root mean square of muscle noise, amplitude and frequency of mains hum.
    wander_mv
        Root mean square of the slow baseline wander.
    motion_per_s, motion_mv
        How often a hand moves, and how far the baseline then typically goes.
    contact
        How much of the heart's signal passes the electrodes, 0 to 1.
    loss_share
        Share of the recording without contact.
    range_mv
        The amplifier saturates beyond this.
    """

    muscle_mv: float
    hum_mv: float
    hum_hz: float
    wander_mv: float
    motion_per_s: float
    motion_mv: float
    contact: float = 1.0
    loss_share: float = 0.0
    range_mv: float = 8.0


def draw_disturbance(rng: np.random.Generator, *, unreadable: bool) -> Disturbance:
    """Disturbance of a usual recording, or of one whose rhythm can hardly be read."""
    hum_hz = 50.0 if rng.random() < 0.5 else 60.0
    if not unreadable:
        return Disturbance(
            muscle_mv=float(np.exp(rng.normal(np.log(0.007), 0.6))),
            hum_mv=float(np.exp(rng.normal(np.log(0.007), 0.8))),
            hum_hz=hum_hz,
            wander_mv=float(np.exp(rng.normal(np.log(0.045), 0.5))),
            motion_per_s=float(np.exp(rng.normal(np.log(0.15), 0.9))),
            motion_mv=float(np.exp(rng.normal(np.log(0.28), 0.5))),
        )
    moving, tense, loose = rng.permutation([1.0, rng.uniform(0.2, 1.0), rng.uniform(0.0, 0.7)])
    return Disturbance(
        muscle_mv=0.02 + 0.16 * tense * rng.uniform(0.3, 1.0),
        hum_mv=float(np.exp(rng.normal(np.log(0.03), 0.8))),
        hum_hz=hum_hz,
        wander_mv=rng.uniform(0.05, 0.2),
        motion_per_s=rng.uniform(1.5, 3.5) * (0.4 + 0.6 * moving),
        motion_mv=0.25 + rng.uniform(0.4, 1.4) * moving,
        contact=rng.uniform(0.2, 0.8),
        loss_share=float(max(0.0, 0.7 * loose - 0.1)),
        range_mv=rng.uniform(1.2, 6.0),
    )


def disturb(
    rng: np.random.Generator,
    heart_mv: Floats,
    disturbance: Disturbance,
    breathing: Breathing,
    fs: float,
) -> Floats:
    """One lead as its recorder gives it out.

    Steps: (1) the heart's signal fades where contact is lost; (2) wander, motion, muscle noise
    and hum are added; (3) the recorder's band-pass runs over the sum, once and forwards as in
    the device; (4) the amplifier saturates.

    Parameters
    ----------
    rng
        Draws what is random in it.
    heart_mv
        One lead from `LEAD_IN_S` before the recording's start on, in mV, shape `(n_samples,)`.
    disturbance
        How much of what there is.
    breathing
        Moves the baseline.
    fs
        Sampling frequency in Hz.

    Returns
    -------
    Shape `(n_samples,)`, with the lead-in.
    """
    n = len(heart_mv)
    time_s = np.arange(n) / fs - LEAD_IN_S
    slow = _filtered(pink_noise(rng, n), fs, 0.6, "lowpass")
    wander = disturbance.wander_mv * (0.6 * breathing.at(time_s) + slow)
    motion = _motion(rng, disturbance, fs, n)
    hum = disturbance.hum_mv * np.sin(
        2 * np.pi * disturbance.hum_hz * time_s + rng.uniform(0, 2 * np.pi)
    )
    muscle = disturbance.muscle_mv * _swelling(rng, fs, n) * rng.standard_normal(n) * 1.5
    contact = disturbance.contact * _contact(rng, disturbance.loss_share, fs, n)
    raw = contact * heart_mv + wander + motion + hum + muscle
    low, high = _BAND_HZ[0], min(_BAND_HZ[1], 0.45 * fs)
    passed = _filtered(_filtered(raw, fs, low, "highpass"), fs, high, "lowpass", order=3)
    return np.clip(passed, -disturbance.range_mv, disturbance.range_mv)


def _motion(rng: np.random.Generator, disturbance: Disturbance, fs: float, n: int) -> Floats:
    """Rounded swings and sudden steps of the baseline, shape `(n,)`."""
    duration_s = n / fs
    n_swings = int(rng.poisson(disturbance.motion_per_s * duration_s))
    height = disturbance.motion_mv * rng.standard_normal(n_swings) * rng.gamma(2.0, 0.5, n_swings)
    swings = bumps(
        rng.uniform(0, duration_s, n_swings),
        rng.uniform(0.03, 0.25, n_swings),
        rng.uniform(0.05, 0.35, n_swings),
        height,
        fs,
        n,
    )
    n_steps = int(rng.poisson(0.15 * n_swings))
    step = np.zeros(n)
    np.add.at(
        step,
        rng.integers(0, n, n_steps),
        1.5 * disturbance.motion_mv * rng.standard_normal(n_steps),
    )
    return swings + _filtered(np.cumsum(step), fs, 0.4, "highpass")


def _swelling(rng: np.random.Generator, fs: float, n: int) -> Floats:
    """Slow envelope of muscle noise around 1, shape `(n,)`."""
    return np.exp(0.6 * _filtered(pink_noise(rng, n), fs, 1.0, "lowpass"))


def _contact(rng: np.random.Generator, loss_share: float, fs: float, n: int) -> Floats:
    """1 where the electrodes touch and 0 where they don't, with soft edges; shape `(n,)`."""
    if loss_share <= 0.0:
        return np.ones(n)
    level = _filtered(rng.standard_normal(n), fs, 0.3, "lowpass", order=3)
    touching = (level > np.quantile(level, loss_share)).astype(np.float64)
    return np.clip(_filtered(touching, fs, 5.0, "lowpass"), 0.0, 1.0)


def _filtered(signal: Floats, fs: float, corner_hz: float, kind: str, order: int = 1) -> Floats:
    """The signal after a Butterworth filter that runs forwards."""
    # Half a second to import, which no process that only opens a corpus should pay.
    from scipy.signal import butter, sosfilt

    sos = butter(order, corner_hz, kind, fs=fs, output="sos")
    return np.asarray(sosfilt(sos, signal), dtype=np.float64)
