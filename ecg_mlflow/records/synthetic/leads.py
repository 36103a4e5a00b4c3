"""The twelve standard leads from those that are independent of each other.

I, II and V1 to V6 determine the others by Einthoven's law (III = II - I) and Goldberger's formulas
(aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def lead_names(n_leads: int) -> tuple[str, ...]:
    """Names of the first `n_leads` standard leads; a single one is "ECG", as in the Challenge."""
    return ("ECG",) if n_leads == 1 else STANDARD_LEADS[:n_leads]


def independent_leads(n_leads: int) -> int:
    """How many of I, II, V1 to V6 determine the first `n_leads` standard leads."""
    if n_leads == 1:
        return 1
    return 2 + max(0, n_leads - 6)


def standard_leads(independent: Floats, n_leads: int) -> Floats:
    """The first `n_leads` of the twelve standard leads.

    Parameters
    ----------
    independent
        Leads I, II, V1, ... as far as needed, shape `(n_samples, independent_leads(n_leads))`.
    n_leads
        1 to 12.

    Returns
    -------
    Shape `(n_samples, n_leads)`.
    """
    if n_leads == 1:
        return independent
    one, two = independent[:, :1], independent[:, 1:2]
    limb = (one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2)
    return np.concatenate((*limb, independent[:, 2:]), axis=1)[:, :n_leads]


def swap_arms(independent: Floats) -> Floats:
    """Leads I, II, V1, ... with left and right hand exchanged: I turns over, II becomes III."""
    swapped = independent.copy()
    swapped[:, 0] = -independent[:, 0]
    if independent.shape[1] > 1:
        swapped[:, 1] = independent[:, 1] - independent[:, 0]
    return swapped
