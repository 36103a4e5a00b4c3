"""A recording laid out in rows of paper: which samples stand where, in mm, before any is drawn.

In the clinical layout three lines of four leads, 2.5 s each, stand above one lead over all 10 s.
The columns follow each other in time, as recorders print them: I, II, III begin at 0 s, aVR, aVL,
aVF at 2.5 s, V1 to V3 at 5 s, V4 to V6 at 7.5 s. The rhythm strip below is lead II.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import RecordError

Floats = npt.NDArray[np.float64]

#: The usual speed and gain, at which a big box of 5 mm is 0.2 s by 0.5 mV (IEC 60601-2-25).
MM_PER_S, MM_PER_MV = 25.0, 10.0
BIG_BOX = 5.0
ROW_S = 10.0
#: A trace is not drawn farther than so many mm from its baseline: 5 mV.
LIMIT = 50.0
#: Paper left of a row's first instant, for the calibration pulse, and right of its last one.
BEFORE, AFTER = 3 * BIG_BOX, BIG_BOX

CLINICAL_LINES = (
    ("I", "aVR", "V1", "V4"),
    ("II", "aVL", "V2", "V5"),
    ("III", "aVF", "V3", "V6"),
)
RHYTHM_LEAD = "II"


class LeadTrace(NamedTuple):
    """One lead's part of a row.

    Attributes
    ----------
    lead
        Its name.
    x, y
        ``(n_samples,)`` mm from the row's first instant, and from the lead's baseline; NaN in gaps.
    """

    lead: str
    x: Floats
    y: Floats


@dataclass(frozen=True, eq=False)
class Row:
    """A part of a recording that stands on one row of paper.

    Attributes
    ----------
    start, end
        In s from the recording's first sample.
    lines
        From top to bottom; the traces of a line stand side by side on one baseline.
    """

    start: float
    end: float
    lines: tuple[tuple[LeadTrace, ...], ...]

    @property
    def paper(self) -> list[tuple[float, float]]:
        """The paper above and below each line's baseline in mm: whole big boxes.

        At least there is room for the pulse and the lead's name.
        """
        return [
            (max(3 * BIG_BOX, _boxes(line, 1)), max(BIG_BOX, _boxes(line, -1)))
            for line in self.lines
        ]

    @property
    def height(self) -> float:
        """In mm."""
        return sum(chain.from_iterable(self.paper))


def lay_out(values: Floats, fs: float, leads: Sequence[str], most_rows: int) -> list[Row]:
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
    most_rows
        Further ones are left out.
    """
    duration = len(values) / fs
    n_rows = max(1, int(np.ceil(round((duration - AFTER / MM_PER_S) / ROW_S, 6))))
    known = (column[~np.isnan(column)] for column in values.T)
    levels = np.array([np.median(column) if len(column) else 0.0 for column in known])
    rows = []
    for number in range(min(n_rows, most_rows)):
        start = ROW_S * number
        end = duration if number == n_rows - 1 else start + ROW_S
        first = int(np.ceil(round(start * fs, 6)))
        # One sample more joins it to the next row.
        part = values[first : int(np.ceil(round(end * fs, 6))) + 1] - levels
        x = MM_PER_S * (np.arange(first, first + len(part)) / fs - start)
        traces = zip(leads, MM_PER_MV * part.T, strict=True)
        rows.append(Row(start, end, tuple((LeadTrace(lead, x, y),) for lead, y in traces)))
    return rows


def has_twelve_leads(leads: Sequence[str]) -> bool:
    """Tell whether the twelve standard leads are there, each once, whatever their order."""
    names = [lead.casefold() for lead in leads]
    return all(names.count(lead.casefold()) == 1 for line in CLINICAL_LINES for lead in line)


def lay_out_clinical(values: Floats, fs: float, leads: Sequence[str]) -> Row:
    """Lay out the first 10 s of twelve leads as one page; a shorter one gets narrower columns.

    Parameters
    ----------
    values, fs, leads
        See `lay_out`. A lead's baseline is its median over the 10 s.

    Raises
    ------
    RecordError
        If one of the twelve standard leads is missing.
    """
    if not has_twelve_leads(leads):
        raise RecordError(
            f"a twelve-lead page needs each of {', '.join(sum(CLINICAL_LINES, ()))} once; given "
            f"are {', '.join(leads)}. The layout 'rows' takes any leads"
        )
    (row,) = lay_out(values[: round(min(len(values) / fs, ROW_S) * fs)], fs, leads, 1)
    whole = {trace.lead.casefold(): trace for line in row.lines for trace in line}
    edges = MM_PER_S * row.end * np.linspace(0, 1, 5)

    def column(lead: str, number: int) -> LeadTrace:
        """Cut its time out; the last sample is the next column's first instant."""
        _, x, y = whole[lead.casefold()]
        inside = (x >= edges[number] - 1e-6) & (x <= edges[number + 1] + 1e-6)
        return LeadTrace(lead, x[inside], y[inside])

    lines = (tuple(map(column, names, range(4))) for names in CLINICAL_LINES)
    return Row(0.0, row.end, (*lines, (whole[RHYTHM_LEAD.casefold()],)))


def _boxes(line: Sequence[LeadTrace], side: int) -> float:
    """Return the mm that traces need above (1) or below (-1) their baseline."""
    most = max(min(np.nanmax(side * trace.y, initial=0), LIMIT) for trace in line)
    return BIG_BOX * float(np.ceil(most / BIG_BOX))
