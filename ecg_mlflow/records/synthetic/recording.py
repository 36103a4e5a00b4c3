"""One made-up recording: rhythm, waves and noise put together and digitised."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.records.synthetic.heart import heart_signal
from ecg_mlflow.records.synthetic.noise import SETTINGS, disturb
from ecg_mlflow.records.synthetic.rhythms import LEAD_IN_S, draw_rhythm

UNITS_PER_MV = 1000
STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_SWAPPED_SHARE = 0.15  # how many people hold a handheld recorder the wrong way round


@dataclass(frozen=True)
class Recording:
    """A digitised recording.

    Attributes
    ----------
    samples
        int16, shape `(n_samples, n_leads)`, `UNITS_PER_MV` units per mV, zero at 0 mV.
    leads
        Their names.
    fs
        Sampling frequency in Hz.
    diagnoses
        Abbreviations of its rhythm and other findings.
    """

    samples: NDArray[np.int16]
    leads: tuple[str, ...]
    fs: float
    diagnoses: tuple[str, ...]


def make_recording(rng: np.random.Generator, diagnoses: Collection[str], setting: str) -> Recording:
    """Make one recording: at the bedside 10 s of twelve leads at 500 Hz, else a lead at 300 Hz.

    Twelve leads keep Einthoven's law to the last unit: II = I + III.

    Parameters
    ----------
    rng
        All randomness comes from here.
    diagnoses
        Abbreviations: a rhythm as in `rhythms.draw_rhythm`, and any of IAVB (not with AF), RBBB or
        LBBB, and LAD.
    setting
        How it is recorded, one of `noise.SETTINGS`.
    """
    heart_rng, noise_rng = rng.spawn(2)
    # Lengths by hand are as in the Challenge of 2017: mostly 30 s, now and then 60, else 9 to 61.
    duration_s = rng.choice((30.0, 60.0, rng.uniform(9.05, 60.95)), p=(0.72, 0.08, 0.2))
    arms_swapped = rng.random() < _SWAPPED_SHARE
    fs, n_independent = 300.0, 1
    if setting == "bedside":
        duration_s, arms_swapped, fs, n_independent = 10.0, False, 500.0, 8
    rhythm = draw_rhythm(rng, diagnoses, duration_s)
    lead_in, n_samples = round(LEAD_IN_S * fs), round(LEAD_IN_S * fs) + round(duration_s * fs)
    heart_mv = heart_signal(heart_rng, diagnoses, rhythm, fs, n_samples)[:n_independent]
    if arms_swapped:  # lead I turns over
        heart_mv = -heart_mv
    breath = rhythm.breath(np.arange(n_samples) / fs - LEAD_IN_S)
    mv = disturb(noise_rng, heart_mv, SETTINGS[setting], breath, fs)[:, lead_in:]
    digital = np.rint(UNITS_PER_MV * mv).astype(np.int16)
    if setting == "bedside":
        return Recording(standard_leads(digital), STANDARD_LEADS, fs, tuple(diagnoses))
    return Recording(digital.T, ("ECG",), fs, tuple(diagnoses))


def standard_leads(independent: NDArray[np.int16]) -> NDArray[np.int16]:
    """Compute the twelve standard leads in whole units, so that rounding breaks no law.

    I, II and V1 to V6 determine the others by Einthoven's law (III = II - I) and Goldberger's
    formulas (aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2).

    Parameters
    ----------
    independent
        Leads I, II, V1 to V6, shape `(8, n_samples)`.

    Returns
    -------
    Shape `(n_samples, 12)`.
    """
    one, two, *chest = independent
    limb = (one, two, two - one, -((one + two) // 2), one - two // 2, two - one // 2)
    return np.stack((*limb, *chest), axis=1)
