"""A made-up twelve-lead ECG of 10 s, as recorded at rest in a hospital, with several diagnoses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.records.synthetic.conduction import left_axis, left_block, right_block, usual_axis
from ecg_mlflow.records.synthetic.leads import STANDARD_LEADS
from ecg_mlflow.records.synthetic.recording import UNITS_PER_MV, Recording
from ecg_mlflow.records.synthetic.rhythms import (
    LEAD_IN_S,
    Breathing,
    Rhythm,
    atrial_fibrillation,
    ectopic_beats,
    sinus_rhythm,
)
from ecg_mlflow.records.synthetic.waves import Heart, draw_heart, render_sources

Floats = NDArray[np.float64]

FS, DURATION_S = 500.0, 10.0
#: Rates in beats per minute; normal is 60 to 100 by the diagnoses' definitions.
_SINUS = {
    "NSR": ("sinus rhythm", 62.0, 96.0),
    "SB": ("sinus bradycardia", 40.0, 55.0),
    "STach": ("sinus tachycardia", 106.0, 140.0),
}
_LONG_PQ_S = (0.235, 0.32)  # first degree is beyond 0.2 s
_IN_WORDS = {
    "IAVB": "first-degree AV block",
    "RBBB": "right bundle branch block",
    "LBBB": "left bundle branch block",
    "LAD": "left axis deviation",
}
_COARSEST = 0.9  # fibrillatory waves, so that they stay below the T waves
_AMPLIFIER_MV = 10.0
_WANDER_HZ, _MUSCLE_HZ = (0.05, 0.5), (15.0, 150.0)


@dataclass(frozen=True)
class Patient:
    """Whom a recording is of.

    Attributes
    ----------
    age
        In years.
    sex
        "Male" or "Female".
    """

    age: int
    sex: str


def draw_patient(rng: np.random.Generator, diagnoses: Collection[str]) -> Patient:
    """Draw an adult; those with a block or fibrillation are older."""
    older = {"AF", "IAVB", "RBBB", "LBBB"} & set(diagnoses)
    age = rng.normal(71.0 if older else 56.0, 11.0 if older else 16.0)
    return Patient(int(np.clip(age, 19, 89)), str(rng.choice(("Male", "Female"))))


def record_bedside(diagnoses: Collection[str], seeds: np.random.SeedSequence) -> Recording:
    """Make a recording of 10 s at 500 Hz in the twelve standard leads.

    Leads keep Einthoven's law to the last unit: II = I + III.

    Parameters
    ----------
    diagnoses
        Abbreviations: one of NSR, SB, STach and AF, and any of IAVB (not with AF), RBBB or LBBB,
        LAD, and PVC.
    seeds
        All randomness comes from here.
    """
    rng, heart_rng, noise_rng = (np.random.default_rng(s) for s in seeds.spawn(3))
    breathing = Breathing(rng.uniform(0.17, 0.38), rng.uniform(0, 2 * np.pi))
    heart = _heart(heart_rng, diagnoses)
    rhythm = _rhythm(rng, diagnoses, breathing, heart)
    n_samples, lead_in = round(DURATION_S * FS), round(LEAD_IN_S * FS)
    sources = render_sources(heart_rng, rhythm, heart, breathing, FS, n_samples + lead_in)
    heart_mv = sources[lead_in:] @ heart.projection
    signal = np.clip(heart_mv + _noise(noise_rng, heart_mv.shape), -_AMPLIFIER_MV, _AMPLIFIER_MV)
    digital = np.rint(UNITS_PER_MV * signal).astype(np.int64)
    return Recording(_all_leads(digital), STANDARD_LEADS, _name(rhythm, diagnoses))


def _heart(rng: np.random.Generator, diagnoses: Collection[str]) -> Heart:
    heart = usual_axis(rng, draw_heart(rng))
    if "RBBB" in diagnoses:
        heart = right_block(rng, heart)
    if "LBBB" in diagnoses:
        heart = left_block(rng, heart)
    if "LAD" in diagnoses:
        heart = left_axis(rng, heart)
    # A narrow complex stays below 0.11 s, so that a broad one says what it is.
    return replace(heart, qrs_width=float(np.clip(heart.qrs_width, 0.85, 1.1)))


def _rhythm(
    rng: np.random.Generator, diagnoses: Collection[str], breathing: Breathing, heart: Heart
) -> Rhythm:
    # Premature beats may pull later ones forward: more are made than fit.
    duration_s = 1.25 * DURATION_S
    if "AF" in diagnoses:
        rhythm = atrial_fibrillation(rng, duration_s)
        assert rhythm.atrial is not None
        amplitude = min(rhythm.atrial.amplitude, _COARSEST)
        rhythm = replace(rhythm, atrial=replace(rhythm.atrial, amplitude=amplitude))
    else:
        (kind,) = (kind for kind in _SINUS if kind in diagnoses)
        name, slow, fast = _SINUS[kind]
        rhythm = sinus_rhythm(rng, duration_s, breathing, rng.uniform(slow, fast), name)
    if "PVC" in diagnoses:
        rhythm = _with_premature_beats(rng, rhythm)
    if "IAVB" in diagnoses:
        pq_s = rng.uniform(*_LONG_PQ_S)
        rhythm = replace(rhythm, long_pq_s=max(0.06, pq_s - heart.pq_s))
    for block in ("RBBB", "LBBB"):
        if block in diagnoses:
            rhythm = replace(rhythm, qrs=_IN_WORDS[block])
    return rhythm


def _with_premature_beats(rng: np.random.Generator, base: Rhythm) -> Rhythm:
    """Add ventricular beats; at least one of them is whole within the recording."""
    while True:
        rhythm = ectopic_beats(rng, base, ventricular=True)
        early_s = rhythm.r_s[rhythm.ventricular]
        if ((early_s > 0.5) & (early_s < DURATION_S - 1.0)).any():
            return rhythm


def _noise(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Wander, muscle and mains of each independent lead in mV, shape `(n_samples, n_leads)`.

    Noise is made in the spectrum: white, but in the bands that breathing and muscles have.
    """
    n_samples, n_leads = shape
    hz = np.arange(n_samples // 2 + 1) * FS / n_samples
    wander_mv = np.exp(rng.normal(np.log(0.035), 0.5, n_leads))
    muscle_mv = np.exp(rng.normal(np.log(0.008), 0.5, n_leads))
    noise = _band(rng, hz, _WANDER_HZ, shape) * wander_mv
    noise += _band(rng, hz, _MUSCLE_HZ, shape) * muscle_mv
    hum_mv = np.exp(rng.normal(np.log(0.003), 0.7, n_leads))
    time_s = np.arange(n_samples)[:, None] / FS
    mains_hz = 50.0 if rng.random() < 0.5 else 60.0
    phase = rng.uniform(0, 2 * np.pi, n_leads)
    return np.asarray(noise + hum_mv * np.sin(2 * np.pi * mains_hz * time_s + phase), np.float64)


def _band(
    rng: np.random.Generator, hz: Floats, band: tuple[float, float], shape: tuple[int, int]
) -> Floats:
    """Noise of one band with unit standard deviation, the shape given."""
    inside = (hz >= band[0]) & (hz <= band[1])
    spectrum = np.zeros((len(hz), shape[1]), np.complex128)
    parts = rng.standard_normal((2, int(inside.sum()), shape[1]))
    spectrum[inside] = parts[0] + 1j * parts[1]
    noise = np.fft.irfft(spectrum, shape[0], axis=0)
    return np.asarray(noise / noise.std(axis=0), np.float64)


def _all_leads(digital: NDArray[np.int64]) -> NDArray[np.int16]:
    """Compute all leads from I, II, V1 to V6 in units, so that rounding breaks no law.

    Parameters
    ----------
    digital
        Shape `(n_samples, 8)`.

    Returns
    -------
    int16, shape `(n_samples, 12)`.
    """
    one, two = digital[:, :1], digital[:, 1:2]
    limb = (one, two, two - one, -((one + two) // 2), one - two // 2, two - one // 2)
    return np.concatenate((*limb, digital[:, 2:]), axis=1).astype(np.int16)


def _name(rhythm: Rhythm, diagnoses: Collection[str]) -> str:
    more = [words for name, words in _IN_WORDS.items() if name in diagnoses]
    return ", ".join([rhythm.name, *more])
