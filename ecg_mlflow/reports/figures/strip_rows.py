"""A recording laid out in rows of paper: which samples stand where, in mm, before any is drawn.

In the clinical layout three lines of four leads, 2.5 s each, stand above one lead over all 10 s.
The columns follow each other in time, as recorders print them: I, II, III begin at 0 s, aVR, aVL,
aVF at 2.5 s, V1 to V3 at 5 s, V4 to V6 at 7.5 s. The rhythm strip below is lead II.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: The usual speed and gain, at which a big box of 5 mm is 0.2 s by 0.5 mV (IEC 60601-2-25).
MM_PER_S, MM_PER_MV = 25.0, 10.0
BIG_BOX = 5.0
ROW_S = 10.0
#: Paper left of a row's first instant, for the calibration pulse, and right of its last one.
BEFORE, AFTER = 3 * BIG_BOX, BIG_BOX
#: The least paper above and below a trace's baseline: room for the pulse and the lead's name.
LEAST_ABOVE, LEAST_BELOW = 3 * BIG_BOX, BIG_BOX

CLINICAL_LINES = (
    ("I", "aVR", "V1", "V4"),
    ("II", "aVL", "V2", "V5"),
    ("III", "aVF", "V3", "V6"),
)
RHYTHM_LEAD = "II"


@dataclass(frozen=True, eq=False)
class LeadTrace:
    """One lead's part of a row.

    Attributes
    ----------
    lead
        Its name.
    x, y
        ``(n_samples,)`` mm from the row's first instant, and from the lead's baseline; NaN in gaps.
    limit
        The trace is not drawn farther than so many mm from the baseline.
    cut
        x of each stretch that is beyond, and 1 where it is above, -1 below.
    """

    lead: str
    x: Floats
    y: Floats
    limit: float
    cut: tuple[tuple[float, int], ...]


@dataclass(frozen=True, eq=False)
class Line:
    """Traces side by side on one baseline.

    Attributes
    ----------
    traces
        One after the other in time.
    above, below
        Paper above and below the baseline in mm: whole big boxes.
    """

    traces: tuple[LeadTrace, ...]
    above: float
    below: float

    @classmethod
    def of(cls, *traces: LeadTrace) -> Line:
        """Give traces the paper that they need."""

        def boxes(side: int) -> float:
            heights = [0.0, *(min(np.nanmax(side * one.y, initial=0), one.limit) for one in traces)]
            return BIG_BOX * float(np.ceil(max(heights) / BIG_BOX))

        return cls(traces, max(LEAST_ABOVE, boxes(1)), max(LEAST_BELOW, boxes(-1)))


@dataclass(frozen=True, eq=False)
class Row:
    """A part of a recording that stands on one row of paper.

    Attributes
    ----------
    start, end
        In s from the recording's first sample.
    lines
        From top to bottom.
    """

    start: float
    end: float
    lines: tuple[Line, ...]

    @property
    def height(self) -> float:
        """In mm."""
        return sum(line.above + line.below for line in self.lines)


def lay_out(
    values: Floats, fs: float, leads: Sequence[str], limit_mv: float, most_rows: int
) -> list[Row]:
    """Cut a recording into rows of 10 s.

    What exceeds the last row by no more than a big box still stands there, on the paper that is
    left at the right.

    Parameters
    ----------
    values
        ``(n_samples, n_leads)`` mV; NaN where there is no signal. A lead's baseline is its median.
    fs
        In Hz.
    leads
        Their names.
    limit_mv
        See `LeadTrace`.
    most_rows
        Further ones are left out.
    """
    duration = len(values) / fs
    n_rows = max(1, int(np.ceil(round((duration - AFTER / MM_PER_S) / ROW_S, 6))))
    levels = np.array([_median(values[:, lead]) for lead in range(len(leads))])
    rows = []
    for number in range(min(n_rows, most_rows)):
        start = ROW_S * number
        end = duration if number == n_rows - 1 else start + ROW_S
        first = int(np.ceil(round(start * fs, 6)))
        # One sample more joins it to the next row.
        part = values[first : int(np.ceil(round(end * fs, 6))) + 1] - levels
        x = MM_PER_S * (np.arange(first, first + len(part)) / fs - start)
        lines = (
            Line.of(_trace(name, x, MM_PER_MV * part[:, lead], MM_PER_MV * limit_mv))
            for lead, name in enumerate(leads)
        )
        rows.append(Row(start, end, tuple(lines)))
    return rows


def has_twelve_leads(leads: Sequence[str]) -> bool:
    """Tell whether the twelve standard leads are there, each once, whatever their order."""
    names = [lead.casefold() for lead in leads]
    return all(names.count(lead.casefold()) == 1 for line in CLINICAL_LINES for lead in line)


def lay_out_clinical(values: Floats, fs: float, leads: Sequence[str], limit_mv: float) -> Row:
    """Lay out the first 10 s of twelve leads as one page; a shorter one gets narrower columns.

    Parameters
    ----------
    values, fs, leads, limit_mv
        See `lay_out`; the twelve standard leads are among them. A lead's baseline is its median
        over the 10 s.
    """
    duration = min(len(values) / fs, ROW_S)
    (row,) = lay_out(values[: round(duration * fs)], fs, leads, limit_mv, 1)
    whole = {trace.lead.casefold(): trace for line in row.lines for trace in line.traces}
    lines = [
        Line.of(
            *(
                _column(whole[lead.casefold()], lead, column, duration)
                for column, lead in enumerate(names)
            )
        )
        for names in CLINICAL_LINES
    ]
    return Row(0.0, duration, (*lines, Line.of(whole[RHYTHM_LEAD.casefold()])))


def _column(trace: LeadTrace, lead: str, column: int, duration: float) -> LeadTrace:
    """Cut a column's time out of a lead; the last sample is the next column's first instant."""
    edges = MM_PER_S * duration * np.array([column, column + 1]) / len(CLINICAL_LINES[0])
    inside = (trace.x >= edges[0] - 1e-6) & (trace.x <= edges[1] + 1e-6)
    cut = tuple((x, side) for x, side in trace.cut if edges[0] <= x <= edges[1])
    return replace(trace, lead=lead, x=trace.x[inside], y=trace.y[inside], cut=cut)


def importance_cells(
    importance: npt.NDArray[np.floating[Any]], fs: float, start: float, end: float
) -> Floats:
    """Average importance over each mm of a row.

    Parameters
    ----------
    importance
        ``(n_samples,)``; a sample's lasts until the next sample.
    fs
        In Hz.
    start, end
        Of the row in s.

    Returns
    -------
    ndarray
        ``(n_cells,)``, the last of which may be narrower than a mm.
    """
    total = np.concatenate([[0.0], np.cumsum(importance, dtype=np.float64)])
    n_cells = max(1, int(np.ceil(round((end - start) * MM_PER_S, 6))))
    edges = np.minimum(start + np.arange(n_cells + 1) / MM_PER_S, end)
    at = np.interp(edges * fs, np.arange(len(total)), total)
    return np.asarray(np.clip(np.diff(at) / (np.diff(edges) * fs), 0, 1))


def _median(values: Floats) -> float:
    present = values[~np.isnan(values)]
    return float(np.median(present)) if len(present) else 0.0


def _trace(lead: str, x: Floats, y: Floats, limit: float) -> LeadTrace:
    cut: list[tuple[float, int]] = []
    for side in (1, -1):
        beyond = x[side * y > limit]
        # One mark for stretches that are less than a big box apart.
        breaks = np.flatnonzero(np.diff(beyond) > BIG_BOX) + 1
        cut += [(float(run.mean()), side) for run in np.split(beyond, breaks) if len(run)]
    return LeadTrace(lead, x, y, limit, tuple(cut))
