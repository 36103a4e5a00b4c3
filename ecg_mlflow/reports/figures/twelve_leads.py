"""A twelve-lead ECG as a page: three rows of four leads, 2.5 s each, and one lead the whole way.

The columns follow each other in time, as recorders print them: I, II, III begin at 0 s, aVR, aVL,
aVF at 2.5 s, V1 to V3 at 5 s, V4 to V6 at 7.5 s. The rhythm strip below is lead II. Paper and scale
are those of `draw_strip`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import RecordError
from ecg_mlflow.reports.figures.ecg_paper import LIMIT_MV, draw_head, paper_width
from ecg_mlflow.reports.figures.paper import draw_paper, draw_pulse, draw_seconds, draw_trace
from ecg_mlflow.reports.figures.sheet import (
    EDGE,
    GREY,
    SMALL_PT,
    TEXT_PT,
    place,
    sheet,
    size_mm,
    write,
)
from ecg_mlflow.reports.figures.strip_rows import (
    BIG_BOX,
    MM_PER_S,
    ROW_S,
    Floats,
    Row,
    Trace,
    lay_out,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAYOUT = (
    ("I", "aVR", "V1", "V4"),
    ("II", "aVL", "V2", "V5"),
    ("III", "aVF", "V3", "V6"),
)
RHYTHM_LEAD = "II"
_COLUMNS = 4
_HEADER, _AXIS, _NOTE = 14.0, 6.0, 4.0


def has_twelve_leads(leads: Sequence[str]) -> bool:
    """Tell whether the twelve standard leads are there, each once, whatever their order."""
    names = [lead.casefold() for lead in leads]
    return all(names.count(lead.casefold()) == 1 for row in LAYOUT for lead in row)


def draw_twelve_leads(
    signal: npt.NDArray[np.floating[Any]],
    fs: float,
    leads: Sequence[str],
    *,
    title: str = "",
    start_s: float = 0.0,
    limit_mv: float = LIMIT_MV,
) -> Figure:
    """Draw the first 10 s of a twelve-lead recording on one page.

    A shorter one gets narrower columns. Printed at 100 % the scale is 25 mm/s and 10 mm/mV.

    Parameters
    ----------
    signal
        ``(n_samples, n_leads)`` in mV; not finite where there is none. Each lead's median over the
        10 s is taken as its baseline.
    fs
        Sampling frequency in Hz.
    leads
        Their names, the twelve standard ones among them, in any case and order.
    title
        Above the page.
    start_s
        What the seconds below the page begin with: where in the recording `signal` starts.
    limit_mv
        A trace is cut off so far from its baseline, and marked there.

    Raises
    ------
    RecordError
        If a standard lead is missing, or the shapes don't agree.
    """
    values = _checked(signal, fs, leads)
    duration = min(len(values) / fs, ROW_S)
    rows = _rows(values, fs, leads, duration, limit_mv)
    width = paper_width(duration)
    note = _note(len(values) / fs, duration, start_s, rows, limit_mv)
    heights = [_height(row) for row in rows]
    body = sum(heights)
    figure = sheet(width + 2 * EDGE, _HEADER + body + _AXIS + _NOTE * bool(note) + EDGE / 2)
    draw_head(figure, title)
    bottom = size_mm(figure)[1] - _HEADER - body
    axes = place(figure, EDGE, bottom, width, body)
    draw_paper(axes, width, body)
    top = body
    for row, height in zip(rows, heights, strict=True):
        baseline = top - max(trace.above for trace in row)
        draw_pulse(axes, baseline)
        for trace in row:
            draw_trace(axes, trace, baseline)
            _draw_name(axes, trace, baseline, top)
        top -= height
    draw_seconds(axes, Row(start_s, start_s + duration, ()))
    if note:
        write(figure, EDGE, bottom - _AXIS - _NOTE / 2, note, fontsize=SMALL_PT, color=GREY)
    return figure


def _rows(
    values: Floats, fs: float, leads: Sequence[str], duration: float, limit_mv: float
) -> list[list[Trace]]:
    """Lay out the rows: four traces each, and one of the rhythm strip."""
    within = values[: round(duration * fs)]
    (row,) = lay_out(within, fs, leads, limit_mv, 1)
    whole = {trace.lead.casefold(): trace for trace in row.traces}
    rows = [
        [_part(whole, lead, column, duration) for column, lead in enumerate(names)]
        for names in LAYOUT
    ]
    return [*rows, [whole[RHYTHM_LEAD.casefold()]]]


def _part(whole: Mapping[str, Trace], lead: str, column: int, duration: float) -> Trace:
    """Cut a column's time out of a lead; the last sample is the next column's first instant."""
    trace = whole[lead.casefold()]
    edges = MM_PER_S * duration * np.array([column, column + 1]) / _COLUMNS
    inside = (trace.x >= edges[0] - 1e-6) & (trace.x <= edges[1] + 1e-6)
    cut = tuple((x, side) for x, side in trace.cut if edges[0] <= x <= edges[1])
    return replace(trace, lead=lead, x=trace.x[inside], y=trace.y[inside], cut=cut)


def _height(row: Sequence[Trace]) -> float:
    return max(trace.above for trace in row) + max(trace.below for trace in row)


def _draw_name(axes: Axes, trace: Trace, baseline: float, top: float) -> None:
    """Write a lead's name over its part, and mark where the part begins."""
    if not len(trace.x):
        return
    start = float(trace.x[0])
    if start > BIG_BOX / 2:
        axes.plot(
            [start, start], [baseline - 3, baseline + 3], color="black", linewidth=0.7, zorder=3,
            gid="column",
        )  # fmt: skip
    axes.text(
        start + 0.8, top - 0.8, trace.lead, fontsize=TEXT_PT, weight="bold", va="top",
        parse_math=False, zorder=4,
    )  # fmt: skip


def _checked(signal: npt.NDArray[np.floating[Any]], fs: float, leads: Sequence[str]) -> Floats:
    values = np.asarray(signal, dtype=np.float64)
    if not has_twelve_leads(leads):
        raise RecordError(
            f"a twelve-lead page needs each of {', '.join(sum(LAYOUT, ()))} once; given are "
            f"{', '.join(leads)}. `draw_strip` draws any leads"
        )
    if values.ndim != 2 or values.size == 0 or values.shape[1] != len(leads) or not fs > 0:
        raise RecordError(
            f"a page is drawn of a signal (n_samples, {len(leads)}) and a sampling frequency above "
            f"0 Hz; given are {values.shape} and {fs} Hz"
        )
    return np.where(np.isfinite(values), values, np.nan)


def _note(
    there: float, drawn: float, start_s: float, rows: Sequence[Sequence[Trace]], limit_mv: float
) -> str:
    """Say what the page doesn't show."""
    notes = []
    if there > drawn + 1e-6:
        notes.append(
            f"{start_s:g} to {start_s + drawn:g} s are drawn; {there - drawn:.1f} s follow"
        )
    if any(trace.cut for row in rows for trace in row):
        notes.append(f"▲▼ cut off at {limit_mv:g} mV from the baseline")
    if any(np.isnan(trace.y).any() for row in rows for trace in row):
        notes.append("blank, where there is no signal")
    return "; ".join(notes)
