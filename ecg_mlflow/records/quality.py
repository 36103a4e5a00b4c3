"""What is wrong with leads that can be read all the same: flat, standing still, or cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: A lead that doesn't move for so long has no contact: between two beats there is always noise.
STILL_S = 1.0
#: So long at the lead's own highest or lowest value, and in all so long, it is cut off: a wave's
#: peak lasts for a sample or two.
CUT_RUN_S, CUT_TOTAL_S = 0.02, 0.1
_LEAST_RUN = 4


@dataclass(frozen=True)
class LeadFault:
    """One fault of one lead.

    Attributes
    ----------
    lead
        Its name.
    kind
        "flat", "still", "saturated" or "NaN".
    seconds
        How much of the recording is affected.
    """

    lead: str
    kind: str
    seconds: float

    def __str__(self) -> str:
        if self.kind == "flat":
            return f"lead {self.lead} is flat"
        what = {
            "still": "doesn't move",
            "saturated": "stands at its highest or lowest value (saturated)",
            "NaN": "has no numbers (NaN)",
        }
        return f"lead {self.lead} {what[self.kind]} for {self.seconds:.1f} s"


def lead_faults(
    samples: npt.NDArray[Any], fs: float, leads: Sequence[str]
) -> tuple[LeadFault, ...]:
    """Find the faults of all leads, in the order of the leads.

    Parameters
    ----------
    samples
        ``(n_samples, n_leads)``, as stored or in mV: the scale doesn't matter.
    fs
        Sampling frequency in Hz.
    leads
        Their names.
    """
    return tuple(
        fault
        for position, lead in enumerate(leads)
        for fault in _faults(np.ascontiguousarray(samples[:, position]), fs, lead)
    )


def _faults(values: npt.NDArray[Any], fs: float, lead: str) -> list[LeadFault]:
    found = []
    if np.issubdtype(values.dtype, np.floating):
        missing = ~np.isfinite(values)
        if missing.any():
            found.append(LeadFault(lead, "NaN", float(missing.sum() / fs)))
            values = values[~missing]
    if not len(values):
        return found
    low, high = values.min(), values.max()
    if low == high:
        return [*found, LeadFault(lead, "flat", len(values) / fs)]
    still = _longest(values[1:] == values[:-1], round(STILL_S * fs))
    if still:
        found.append(LeadFault(lead, "still", still / fs))
    run = max(_LEAST_RUN, int(np.ceil(CUT_RUN_S * fs)))
    cut = sum(_runs(values == extreme, run).sum() for extreme in (low, high))
    if cut >= CUT_TOTAL_S * fs and cut / fs > still / fs:
        found.append(LeadFault(lead, "saturated", float(cut / fs)))
    return found


def _longest(true: npt.NDArray[np.bool_], least: int) -> int:
    """Return the length of the longest run of True, if it is at least so long, else 0."""
    runs = _runs(true, least)
    return int(runs.max()) if len(runs) else 0


def _runs(true: npt.NDArray[np.bool_], least: int) -> npt.NDArray[np.int64]:
    """Return the lengths of all runs of True that are at least so long."""
    if np.count_nonzero(true) < least:
        return np.zeros(0, np.int64)
    edges = np.flatnonzero(np.diff(true, prepend=False, append=False))
    lengths = np.diff(edges)[::2]
    return lengths[lengths >= least]
