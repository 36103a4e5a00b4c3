"""Find faults of readable leads: flat, constant for a while, saturated, or NaN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: A lead that is constant for so long has no contact: a signal has noise between two beats.
STILL_S = 1.0
#: A lead is saturated if it stays at its highest or lowest value for so long at a time, and for so
#: long in total: a wave's peak lasts for a sample or two.
CUT_RUN_S, CUT_TOTAL_S = 0.02, 0.1
_LEAST_RUN = 4
_IN_WORDS = {
    "still": "doesn't move",
    "saturated": "stands at its highest or lowest value (saturated)",
    "NaN": "has no numbers (NaN)",
}


@dataclass(frozen=True)
class LeadFault:
    """One fault of one lead.

    Attributes
    ----------
    lead
        The lead's name.
    kind
        "flat", "still", "saturated" or "NaN".
    seconds
        Duration of the fault.
    """

    lead: str
    kind: str
    seconds: float

    def __str__(self) -> str:
        if self.kind == "flat":
            return f"lead {self.lead} is flat"
        return f"lead {self.lead} {_IN_WORDS[self.kind]} for {self.seconds:.1f} s"


def lead_faults(
    samples: npt.NDArray[Any], fs: float, leads: Sequence[str]
) -> tuple[LeadFault, ...]:
    """Find the faults of all leads, in the order of the leads.

    Parameters
    ----------
    samples
        ``(n_samples, n_leads)``, in any scale.
    fs
        Sampling frequency in Hz.
    leads
        The leads' names.
    """
    return tuple(
        fault
        for position, lead in enumerate(leads)
        for fault in _faults(np.ascontiguousarray(samples[:, position]), fs, lead)
    )


def _faults(values: npt.NDArray[Any], fs: float, lead: str) -> list[LeadFault]:
    found = []
    missing = ~np.isfinite(values)
    if missing.any():
        found.append(LeadFault(lead, "NaN", float(missing.sum() / fs)))
        values = values[~missing]
    if not len(values):
        return found
    low, high = values.min(), values.max()
    if low == high:
        return [*found, LeadFault(lead, "flat", len(values) / fs)]
    # Between n equal samples there are n - 1 differences.
    still = _runs(values[1:] == values[:-1], round(STILL_S * fs)).max(initial=-1) + 1
    if still:
        found.append(LeadFault(lead, "still", float(still / fs)))
    run = max(_LEAST_RUN, int(np.ceil(CUT_RUN_S * fs)))
    cut = sum(_runs(values == extreme, run).sum() for extreme in (low, high))
    if cut >= CUT_TOTAL_S * fs and cut > still:
        found.append(LeadFault(lead, "saturated", float(cut / fs)))
    return found


def _runs(true: npt.NDArray[np.bool_], least: int) -> npt.NDArray[np.int64]:
    """Return the lengths of all runs of True that have the least length."""
    lengths = np.diff(np.flatnonzero(np.diff(true, prepend=False, append=False)))[::2]
    return lengths[lengths >= least]
