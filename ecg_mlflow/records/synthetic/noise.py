"""What breathing, movement, muscles, mains, electrodes and the recorder do to an ECG.

The kinds of noise are those of the MIT-BIH noise stress test (Moody, Muldrow and Mark, Computers
in Cardiology 11, 1984): baseline wander, electrode motion and muscle noise, with mains hum and loss
of contact. A handheld recorder passes what that of the PhysioNet/CinC Challenge 2017 does (Clifford
et al., Computing in Cardiology 44, 2017), a bedside one what the standard asks for diagnostic ECGs
(Kligfield et al., Circulation 115(10), 2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MAINS_HZ = (50.0, 60.0)
_WANDER_HZ, _SPELLS_HZ = (0.05, 0.6), (0.05, 0.5)
_MOTION_HZ, _MUSCLE_HZ = (0.3, 10.0), (15.0, 150.0)


@dataclass(frozen=True)
class Disturbance:
    """How strongly a typical recording is disturbed.

    Attributes
    ----------
    wander_mv, motion_mv, muscle_mv, hum_mv
        Root mean square of baseline wander, of the swings while a hand moves, and of muscle noise;
        amplitude of mains hum.
    motion_share, loss_share
        Shares of the recording in which a hand moves, and in which the electrodes lose contact.
    contact
        How much of the heart's signal passes the electrodes otherwise, 0 to 1.
    band_hz
        What the recorder passes.
    range_mv
        The recorder saturates beyond this.
    """

    wander_mv: float
    motion_mv: float
    muscle_mv: float
    hum_mv: float
    motion_share: float = 0.0
    loss_share: float = 0.0
    contact: float = 1.0
    band_hz: tuple[float, float] = (0.5, 40.0)
    range_mv: float = 8.0


#: How recordings are made. With the last three, the rhythm can hardly be read.
SETTINGS = {
    "bedside": Disturbance(0.035, 0.0, 0.008, 0.003, band_hz=(0.05, 150.0)),
    "handheld": Disturbance(0.06, 0.3, 0.016, 0.008, motion_share=0.15),
    "moving hand": Disturbance(0.1, 1.1, 0.1, 0.03, 0.85, 0.1, 0.3, range_mv=3.0),
    "tense hand": Disturbance(0.1, 0.5, 0.3, 0.03, 0.4, 0.1, 0.4, range_mv=3.0),
    "loose hand": Disturbance(0.1, 0.6, 0.1, 0.06, 0.5, 0.6, 0.4, range_mv=3.0),
}
UNREADABLE = ("moving hand", "tense hand", "loose hand")


def disturb(
    rng: np.random.Generator, heart_mv: Floats, typical: Disturbance, breath: Floats, fs: float
) -> Floats:
    """What the recorder gives out.

    Steps: (1) the heart's signal fades where contact is lost; (2) wander, motion, muscle noise and
    hum are added; (3) the recorder's band-pass runs over the sum, a high-pass of first order and a
    low-pass of third order without delay; (4) the recorder saturates.

    Parameters
    ----------
    rng
        Draws what is random in it, for the first lead the same whatever leads follow.
    heart_mv
        In mV, shape `(n_leads, n_samples)`.
    typical
        How strongly a typical recording of its kind is disturbed.
    breath
        Depth of breath, which moves the baseline; -1 to 1, shape `(n_samples,)`.
    fs
        Sampling frequency in Hz.

    Returns
    -------
    The shape of `heart_mv`. The first seconds hold what the band-pass carries over from the end.
    """
    shape = n_leads, n = heart_mv.shape
    typical_mv = typical.wander_mv, typical.motion_mv, typical.muscle_mv, typical.hum_mv
    wander_mv, motion_mv, muscle_mv, hum_mv = typical_mv * np.exp(rng.normal(0.0, 0.6, 4))
    wander_rng, muscle_rng, hum_rng, loss_rng, when_rng, motion_rng = rng.spawn(6)
    contact = typical.contact * (1.0 - _spells(loss_rng, typical.loss_share, shape, fs))
    raw_mv = contact * heart_mv + 0.6 * wander_mv * breath
    if motion_mv > 0.0:
        moving = _spells(when_rng, typical.motion_share, shape, fs)
        raw_mv += motion_mv * moving * pink_noise(motion_rng, shape, fs, _MOTION_HZ)
    hz, spectrum = np.fft.rfftfreq(n, 1 / fs), np.fft.rfft(raw_mv)
    _add_pink_noise(spectrum, wander_rng, wander_mv, hz, _WANDER_HZ)
    _add_pink_noise(spectrum, muscle_rng, muscle_mv, hz, _MUSCLE_HZ)
    mains = np.abs(hz - rng.choice(_MAINS_HZ)).argmin()
    phases = 2 * np.pi * hum_rng.uniform(size=n_leads)
    spectrum[:, mains] += -0.5j * n * hum_mv * np.exp(1j * phases)
    low_hz, high_hz = typical.band_hz
    spectrum *= hz / (hz - 1j * low_hz) / np.sqrt(1.0 + (hz / high_hz) ** 6)
    return np.clip(np.fft.irfft(spectrum, n), -typical.range_mv, typical.range_mv)


def pink_noise(
    rng: np.random.Generator, shape: tuple[int, int], fs: float, band_hz: tuple[float, float]
) -> Floats:
    """Noise in a band, whose power falls as 1/f there; root mean square 1.

    Parameters
    ----------
    rng
        Draws it.
    shape
        Of the result: `(n_leads, n_samples)`.
    fs
        Sampling frequency in Hz.
    band_hz
        Lowest and highest frequency.
    """
    hz = np.fft.rfftfreq(shape[1], 1 / fs)
    spectrum = np.zeros((shape[0], len(hz)), np.complex128)
    _add_pink_noise(spectrum, rng, 1.0, hz, band_hz)
    return np.fft.irfft(spectrum, shape[1])


def _add_pink_noise(
    spectrum: NDArray[np.complex128],
    rng: np.random.Generator,
    rms: float,
    hz: NDArray[np.floating[Any]],
    band_hz: tuple[float, float],
) -> None:
    """Add pink noise of a root mean square to real Fourier transforms, shape `(n_leads, n_hz)`."""
    inside = (hz >= band_hz[0]) & (hz <= band_hz[1])
    parts = rng.standard_normal((len(spectrum), 2, int(inside.sum()))) / np.sqrt(hz[inside])
    # By Parseval's theorem; a real transform of n samples has about n / 2 frequencies.
    parts *= rms * 2 * len(hz) / np.sqrt(2 * np.sum(parts**2, axis=(1, 2), keepdims=True))
    spectrum[:, inside] += parts[:, 0] + 1j * parts[:, 1]


def _spells(rng: np.random.Generator, share: float, shape: tuple[int, int], fs: float) -> Floats:
    """1 during spells that make up a share of the recording, else 0, with soft edges."""
    if share == 0.0:
        return np.zeros(shape)
    level = pink_noise(rng, shape, fs, _SPELLS_HZ)
    return np.clip(8.0 * (level - np.quantile(level, 1.0 - share, axis=1, keepdims=True)), 0.0, 1.0)
