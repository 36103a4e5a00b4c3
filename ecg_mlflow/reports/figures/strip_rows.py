"""A recording in rows of ECG paper: which samples stand where, in mm, and how a row is drawn.

A row's axes have 1 mm of paper as their unit in both directions. x = 0 is the row's first instant.

In the clinical layout three lines of four leads, 2.5 s each, stand above one lead over all 10 s.
The columns follow each other in time, as recorders print them: I, II, III begin at 0 s, aVR, aVL,
aVF at 2.5 s, V1 to V3 at 5 s, V4 to V6 at 7.5 s. The rhythm strip below is lead II.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import RecordError
from ecg_mlflow.reports.figures.sheet import TEXT_PT, VERMILION, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

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
_PAPER, _THIN, _THICK = "#fffdfc", "#f7cfcf", "#e79c9c"
_INK: dict[str, Any] = {"color": "black", "linewidth": 0.7, "zorder": 3}


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


def draw_row(axes: Axes, row: Row, width: float, start_s: float) -> None:
    """Draw a row on its paper.

    Parameters
    ----------
    axes
        As large as the row, so that their unit is a mm.
    row
        What is drawn.
    width
        Of the paper in mm; whole big boxes.
    start_s
        What the seconds below begin with.
    """
    top = row.height
    left, right = -BEFORE, width - BEFORE
    axes.set(xlim=(left, right), ylim=(0, top), autoscale_on=False, facecolor=_PAPER, yticks=[])
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    across, up = np.arange(left, right + 0.5), np.arange(top + 0.5)
    for big, colour, thickness in ((False, _THIN, 0.35), (True, _THICK, 0.6)):
        upright = axes.vlines(across[(across % BIG_BOX == 0) == big], 0, top)
        level = axes.hlines(up[(up % BIG_BOX == 0) == big], left, right)
        for grid in (upright, level):
            grid.set(
                color=colour, linewidth=thickness, zorder=1.1 if big else 1.0, snap=True,
                gid="thick grid" if big else "thin grid", clip_on=not big,
            )  # fmt: skip
    seconds = np.arange(int(min(row.end - row.start, ROW_S) + 1e-6) + 1)
    axes.set_xticks(MM_PER_S * seconds, [f"{start_s + second:g} s" for second in seconds])
    axes.tick_params(length=2, width=0.5)
    for line, (above, below) in zip(row.lines, row.paper, strict=True):
        _draw_line(axes, line, top, top - above)
        top -= above + below


def _draw_line(axes: Axes, line: Sequence[LeadTrace], top: float, baseline: float) -> None:
    """Draw traces side by side on a baseline, below paper that begins at the height `top`."""
    # 1 mV for 0.2 s, as recorders write it before the trace.
    x = np.array([-12.5, -10, -10, -5, -5, -2.5])
    y = baseline + MM_PER_MV * np.array([0, 0, 1, 1, 0, 0])
    axes.plot(x, y, solid_joinstyle="miter", gid="pulse", **_INK)
    for trace in line:
        _draw_trace(axes, trace, baseline)
        # Alone it has its name over the pulse, else where its column begins.
        start = 0.7 - BEFORE if len(line) == 1 else float(trace.x[0]) if len(trace.x) else 0.0
        if start > BIG_BOX / 2:
            axes.plot([start, start], [baseline - 3, baseline + 3], gid="column", **_INK)
        axes.text(
            start + 0.8, top - 0.8, shorten(trace.lead, 30.0, weight="bold"), fontsize=TEXT_PT,
            weight="bold", va="top", parse_math=False, zorder=4,
        )  # fmt: skip


def _draw_trace(axes: Axes, trace: LeadTrace, baseline: float) -> None:
    """Draw one lead's part of a row, and mark each stretch that is beyond the limit."""
    from matplotlib.patches import Rectangle

    (line,) = axes.plot(
        trace.x, baseline + trace.y, solid_joinstyle="round", gid="trace", **_INK
    )  # fmt: skip
    # It runs off, as over a paper's edge: a flat line at the limit would look like a wave.
    room = Rectangle((0, baseline - LIMIT), axes.get_xlim()[1], 2 * LIMIT)
    line.set_clip_path(room.get_path(), room.get_patch_transform() + axes.transData)
    for side, marker in ((1, "^"), (-1, "v")):
        beyond = trace.x[side * trace.y > LIMIT]
        # One mark for stretches that are less than a big box apart.
        for stretch in np.split(beyond, np.flatnonzero(np.diff(beyond) > BIG_BOX) + 1):
            if len(stretch):
                edge = baseline + side * (LIMIT - 1.2)
                axes.plot(
                    stretch.mean(), edge, marker, color=VERMILION, markersize=5, gid="cut"
                )  # fmt: skip


def draw_importance(
    axes: Axes, importance: npt.NDArray[np.floating[Any]], fs: float, row: Row
) -> None:
    """Colour the paper under the grid of a row by the importance for the network.

    Parameters
    ----------
    axes
        Where it is drawn.
    importance
        ``(n_samples,)`` in [0, 1] of the recording; a sample's lasts until the next sample.
    fs
        In Hz.
    row
        The row.
    """
    first, last = round(row.start * fs), round(row.end * fs)
    left, right = (MM_PER_S * (sample / fs - row.start) for sample in (first, last))
    axes.imshow(
        importance[None, first:last], importance_colours(), vmin=0, vmax=1, zorder=0.5,
        extent=(left, right, *axes.get_ylim()), aspect="equal", interpolation="antialiased",
        gid="importance",
    )  # fmt: skip


def importance_colours() -> Colormap:
    """From the paper's white to a light blue, on which grid and trace stay legible."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("importance", [_PAPER, "#d3e8f8", "#8fc3ee"])
