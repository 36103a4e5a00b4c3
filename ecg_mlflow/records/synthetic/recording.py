"""One made-up recording: rhythm, waves and noise put together and digitised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.records.synthetic.leads import (
    independent_leads,
    lead_names,
    standard_leads,
    swap_arms,
)
from ecg_mlflow.records.synthetic.noise import disturb, draw_disturbance
from ecg_mlflow.records.synthetic.rhythms import (
    LEAD_IN_S,
    Breathing,
    Rhythm,
    atrial_fibrillation,
    normal_rhythm,
    other_rhythm,
)
from ecg_mlflow.records.synthetic.waves import draw_heart, render_sources

UNITS_PER_MV = 1000
_INVERTED_SHARE = 0.15  # how many people hold a handheld recorder the wrong way round


@dataclass(frozen=True)
class Recording:
    """A digitised recording.

    Attributes
    ----------
    samples
        int16, shape `(n_samples, n_leads)`, `UNITS_PER_MV` units per mV, zero at 0 mV.
    leads
        Their names.
    rhythm
        What the heart did, in words.
    """

    samples: NDArray[np.int16]
    leads: tuple[str, ...]
    rhythm: str


def synthesize(label: str, seeds: np.random.SeedSequence, fs: float, n_leads: int) -> Recording:
    """One recording of a class.

    The first lead does not depend on how many more there are, nor length, rhythm and noise level
    on the sampling frequency.

    Parameters
    ----------
    label
        "N", "A", "O" or "~".
    seeds
        All randomness comes from here.
    fs
        Sampling frequency in Hz.
    n_leads
        1 to 12.
    """
    rng, heart_rng, *lead_seeds = (np.random.default_rng(s) for s in seeds.spawn(10))
    duration_s = _draw_duration(rng)
    breathing = Breathing(rng.uniform(0.17, 0.38), rng.uniform(0, 2 * np.pi))
    inverted = rng.random() < _INVERTED_SHARE
    disturbance = draw_disturbance(rng, unreadable=label == "~")
    rhythm = _draw_rhythm(rng, label, duration_s, breathing)
    n_samples, lead_in = round(duration_s * fs), round(LEAD_IN_S * fs)
    heart = draw_heart(heart_rng)
    sources = render_sources(heart_rng, rhythm, heart, breathing, fs, n_samples + lead_in)
    needed = independent_leads(n_leads)
    signal = sources @ heart.projection[:, :needed]
    if inverted:
        signal = swap_arms(signal)
    signal = np.stack(
        [
            disturb(lead_rng, signal[:, lead], disturbance, breathing, fs)
            for lead, lead_rng in enumerate(lead_seeds[:needed])
        ],
        axis=1,
    )
    # The recorder saturates at 8 mV, and no lead is more than two of them: all fits into int16.
    samples = np.rint(UNITS_PER_MV * standard_leads(signal[lead_in:], n_leads)).astype(np.int16)
    return Recording(samples, lead_names(n_leads), rhythm.name)


def _draw_duration(rng: np.random.Generator) -> float:
    """Length in s as in the Challenge: mostly 30, now and then 60, else between 9 and 61."""
    kind, between = rng.random(), rng.uniform(9.05, 60.95)
    if kind < 0.72:
        return 30.0
    return 60.0 if kind < 0.80 else between


def _draw_rhythm(
    rng: np.random.Generator, label: str, duration_s: float, breathing: Breathing
) -> Rhythm:
    """A rhythm of the class; below the noise of class "~" lies any of the others."""
    if label == "~":
        label = str(rng.choice(("N", "A", "O"), p=(0.6, 0.15, 0.25)))
    if label == "A":
        return atrial_fibrillation(rng, duration_s)
    if label == "O":
        return other_rhythm(rng, duration_s, breathing)
    return normal_rhythm(rng, duration_s, breathing)
