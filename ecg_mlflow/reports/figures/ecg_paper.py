"""Recordings as a cardiologist reads them: strips at 25 mm/s and 10 mm/mV, true to scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import RecordError
from ecg_mlflow.reports.figures.paper import (
    draw_importance,
    draw_marks,
    draw_paper,
    draw_seconds,
    draw_traces,
    importance_colours,
)
from ecg_mlflow.reports.figures.sheet import (
    EDGE,
    GREY,
    SMALL_PT,
    TEXT_PT,
    TITLE_PT,
    place,
    sheet,
    shorten,
    size_mm,
    wrap,
    write,
)
from ecg_mlflow.reports.figures.strip_rows import (
    AFTER,
    BEFORE,
    BIG_BOX,
    MM_PER_MV,
    MM_PER_S,
    ROW_S,
    Floats,
    Row,
    importance_cells,
    lay_out,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: A recording of a minute is seldom one to the sample: seven rows draw it whole.
MOST_ROWS = 7
#: Rows times leads, so that a picture of twelve leads stays one that can be opened.
MOST_TRACES = 24
LIMIT_MV = 5.0
_HEADER, _AXIS, _NOTE, _MARKS = 14.0, 6.0, 4.0, 5.0
_LEAST_WIDTH = BEFORE + 110.0 + AFTER


def strip_title(
    record: str, label: str, said: str, positive: str, probability: float, n_samples: int, fs: float
) -> str:
    """Return ``A00004 · label A · said NO · p(A) = 0.08 · 30.0 s at 300 Hz``."""
    return (
        f"{record} · label {label} · said {said} · p({positive}) = {probability:.2f} · "
        f"{n_samples / fs:.1f} s at {fs:g} Hz"
    )


def draw_strip(
    signal: npt.NDArray[np.floating[Any]],
    fs: float,
    leads: Sequence[str],
    *,
    title: str = "",
    importance: npt.NDArray[np.floating[Any]] | None = None,
    marks: Sequence[tuple[float, str]] = (),
    start_s: float = 0.0,
    limit_mv: float = LIMIT_MV,
    most_rows: int = MOST_ROWS,
) -> Figure:
    """Draw a recording in rows of 10 s, its leads one under the other in each row.

    A small box is 0.04 s by 0.1 mV, a big one 0.2 s by 0.5 mV; printed at 100 % they are 1 mm and
    5 mm. What is not drawn (rows beyond the last, gaps, what is cut off) is said below.

    Parameters
    ----------
    signal
        ``(n_samples, n_leads)`` in mV; not finite where there is none. Each lead's median is taken
        as its baseline: where on the paper a trace stands has no meaning.
    fs
        Sampling frequency in Hz.
    leads
        Their names.
    title
        Above the strips; see `strip_title`.
    importance
        ``(n_samples,)`` in [0, 1]: how much the network looked at each instant, shown as the
        paper's colour, a mean for each 0.04 s.
    marks
        Instants in s with a short text, shown above the row.
    start_s
        What the seconds below the rows begin with: where in the recording `signal` starts.
    limit_mv
        A trace is cut off so far from its baseline, and marked there.
    most_rows
        Further ones are left out.

    Raises
    ------
    RecordError
        If the shapes don't agree, there is nothing to draw, or a number is out of its
        range.
    """
    if not limit_mv > 0:
        raise RecordError(f"a trace is cut off at more than 0 mV; given is {limit_mv}")
    values = _checked(signal, fs, leads, importance)
    rows = lay_out(values, fs, leads, limit_mv, max(1, min(most_rows, MOST_TRACES // len(leads))))
    width = paper_width(min(len(values) / fs, ROW_S))
    said = _notes(values, fs, rows, limit_mv)
    notes = [line for note in said for line in wrap(note, width, SMALL_PT)]
    over = _MARKS if marks else 0.0
    body = sum(over + row.height + _AXIS for row in rows)
    figure = sheet(width + 2 * EDGE, _HEADER + body + len(notes) * _NOTE + EDGE / 2)
    _head(figure, title, importance is not None)
    top = size_mm(figure)[1] - _HEADER
    for row in rows:
        top -= over + row.height
        axes = place(figure, EDGE, top, width, row.height)
        draw_paper(axes, width, row.height)
        if importance is not None:
            cells = importance_cells(importance, fs, row.start, row.end)
            draw_importance(axes, cells, (row.end - row.start) * MM_PER_S)
        draw_traces(axes, row.traces)
        here = [(at - row.start, text) for at, text in marks if row.start <= at < row.end]
        draw_marks(axes, [(MM_PER_S * at, text) for at, text in here])
        draw_seconds(axes, replace(row, start=row.start + start_s, end=row.end + start_s))
        top -= _AXIS
    for number, note in enumerate(notes):
        write(figure, EDGE, top - _NOTE * (number + 0.5), note, fontsize=SMALL_PT, color=GREY)
    return figure


def paper_width(seconds: float) -> float:
    """Return the width in mm of the paper under so much of a recording: whole big boxes."""
    boxes = float(np.ceil(round(seconds * MM_PER_S / BIG_BOX, 6)))
    return max(BEFORE + BIG_BOX * boxes + AFTER, _LEAST_WIDTH)


def draw_head(figure: Figure, title: str) -> None:
    """Write title, speed and gain above the paper."""
    width, top = size_mm(figure)
    text = shorten(title, width - 2 * EDGE, TITLE_PT, "bold")
    write(figure, EDGE, top - 4.5, text, fontsize=TITLE_PT, weight="bold")
    write(figure, EDGE, top - 10, f"{MM_PER_S:g} mm/s   {MM_PER_MV:g} mm/mV", fontsize=TEXT_PT)


def _head(figure: Figure, title: str, explain: bool) -> None:
    """Title, speed and gain, and what the paper's colour means."""
    draw_head(figure, title)
    width, top = size_mm(figure)
    if explain:
        right = width - EDGE
        write(figure, right - 39, top - 10, "what the network looked at:  little", ha="right")
        bar = place(figure, right - 38, top - 11.5, 26, 3)
        bar.imshow(np.linspace(0, 1, 100)[None, :], cmap=importance_colours(), aspect="auto")
        bar.set(xticks=[], yticks=[])
        bar.spines[:].set(linewidth=0.4)
        write(figure, right - 11, top - 10, "much")


def _checked(
    signal: npt.NDArray[np.floating[Any]],
    fs: float,
    leads: Sequence[str],
    importance: npt.NDArray[np.floating[Any]] | None,
) -> Floats:
    values = np.asarray(signal, dtype=np.float64)
    if values.ndim != 2 or values.size == 0 or values.shape[1] != len(leads) or not fs > 0:
        raise RecordError(
            f"a strip is drawn of a signal (n_samples, n_leads) with a name for each lead and a "
            f"sampling frequency above 0 Hz; given are {values.shape}, {list(leads)} and {fs} Hz"
        )
    if importance is not None:
        if importance.shape != values.shape[:1]:
            raise RecordError(
                f"importance is one number for each of {len(values)} samples; given is the shape "
                f"{importance.shape}"
            )
        if not ((importance >= 0) & (importance <= 1)).all():
            raise RecordError(
                f"importance lies in [0, 1]; given is {np.min(importance)} to {np.max(importance)}"
            )
    return np.where(np.isfinite(values), values, np.nan)


def _notes(values: Floats, fs: float, rows: Sequence[Row], limit: float) -> list[str]:
    """Say what the picture doesn't show."""
    notes, duration, end = [], len(values) / fs, rows[-1].end
    if duration > end:
        notes.append(f"the first {end:g} s of {duration:.1f} s are drawn")
    if any(trace.cut for row in rows for trace in row.traces):
        notes.append(f"▲▼ cut off at {limit:g} mV from the baseline")
    missing = np.isnan(values).sum(axis=0) / fs
    gaps = [
        f"{trace.lead} {gap:.1f} s"
        for trace, gap in zip(rows[0].traces, missing, strict=True)
        if gap
    ]
    if gaps:
        notes.append(f"blank, where there is no signal: {', '.join(gaps)}")
    return notes
