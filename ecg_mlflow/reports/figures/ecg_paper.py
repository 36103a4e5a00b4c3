"""Recordings on ECG paper at 25 mm/s and 10 mm/mV, true to scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records import Record
from ecg_mlflow.records.snomed import abbreviated
from ecg_mlflow.reports.figures.paper import (
    draw_importance,
    draw_line,
    draw_marks,
    draw_paper,
    draw_seconds,
    importance_colours,
)
from ecg_mlflow.reports.figures.sheet import (
    EDGE,
    GREY,
    SMALL_PT,
    Sheet,
    wrap,
)
from ecg_mlflow.reports.figures.strip_rows import (
    AFTER,
    BEFORE,
    BIG_BOX,
    CLINICAL_LINES,
    MM_PER_MV,
    MM_PER_S,
    ROW_S,
    Floats,
    Row,
    has_twelve_leads,
    importance_cells,
    lay_out,
    lay_out_clinical,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLINICAL, ROWS = "clinical", "rows"
#: A recording of a minute is seldom one to the sample: seven rows draw it whole.
MOST_ROWS = 7
#: Rows times leads, so that a picture of twelve leads stays one that can be opened.
MOST_TRACES = 24
LIMIT_MV = 5.0
_HEADER, _AXIS, _NOTE, _MARKS = 14.0, 6.0, 4.0, 5.0
_LEAST_WIDTH = BEFORE + 110.0 + AFTER


def draw_ecg(
    signal: npt.NDArray[np.floating[Any]],
    fs: float,
    leads: Sequence[str],
    *,
    title: str = "",
    layout: str = ROWS,
    importance: npt.NDArray[np.floating[Any]] | None = None,
    marks: Sequence[tuple[float, str]] = (),
    start_s: float = 0.0,
    limit_mv: float = LIMIT_MV,
    most_rows: int = MOST_ROWS,
) -> Figure:
    """Draw a recording on ECG paper at 25 mm/s and 10 mm/mV.

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
        Above the paper.
    layout
        ``rows`` of 10 s, the leads one under the other in each; or ``clinical``, the first 10 s of
        the twelve standard leads on one page, in any case and order.
    importance
        ``(n_samples,)`` in [0, 1]: how much each instant counted for the network, shown as the
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
        If the shapes don't agree, there is nothing to draw, a number is out of its range, or a
        standard lead is missing for the clinical layout.
    """
    values = _checked(signal, fs, leads, importance, limit_mv)
    if layout == CLINICAL:
        _check_twelve_leads(leads)
        rows = [lay_out_clinical(values, fs, leads, limit_mv)]
    else:
        n_rows = max(1, min(most_rows, MOST_TRACES // len(leads)))
        rows = lay_out(values, fs, leads, limit_mv, n_rows)
    boxes = float(np.ceil(round(min(len(values) / fs, ROW_S) * MM_PER_S / BIG_BOX, 6)))
    width = max(BEFORE + BIG_BOX * boxes + AFTER, _LEAST_WIDTH)
    found = _notes(values, fs, leads, rows, start_s, limit_mv)
    notes = [line for note in found for line in wrap(note, width, SMALL_PT)]
    over = _MARKS if marks else 0.0
    body = sum(over + row.height + _AXIS for row in rows)
    scale = f"{MM_PER_S:g} mm/s   {MM_PER_MV:g} mm/mV"
    sheet = Sheet(width + 2 * EDGE, _HEADER + body + len(notes) * _NOTE + EDGE / 2, title, scale)
    if importance is not None:
        _explain_importance(sheet)
    top = sheet.height - _HEADER
    for row in rows:
        top -= over + row.height
        axes = sheet.place(EDGE, top, width, row.height)
        draw_paper(axes, width, row.height)
        if importance is not None:
            cells = importance_cells(importance, fs, row.start, row.end)
            draw_importance(axes, cells, (row.end - row.start) * MM_PER_S)
        height = row.height
        for line in row.lines:
            draw_line(axes, line, height)
            height -= line.above + line.below
        here = [(at - row.start, text) for at, text in marks if row.start <= at < row.end]
        draw_marks(axes, [(MM_PER_S * at, text) for at, text in here])
        draw_seconds(axes, replace(row, start=row.start + start_s, end=row.end + start_s))
        top -= _AXIS
    for number, note in enumerate(notes):
        sheet.write(EDGE, top - _NOTE * (number + 0.5), note, fontsize=SMALL_PT, color=GREY)
    return sheet.figure


def draw_record(
    record: Record,
    *,
    start_s: float = 0.0,
    layout: str | None = None,
    most_rows: int = MOST_ROWS,
) -> Figure:
    """Draw a recording with its name and label above.

    Parameters
    ----------
    record
        What of it is to be drawn.
    start_s
        Where in the whole recording that begins, in s.
    layout
        See `draw_ecg`; by default ``clinical`` where there are the twelve standard leads.
    most_rows
        Of strips; further ones are left out.

    Raises
    ------
    RecordError
        If the clinical page is asked for, and a standard lead is missing.
    """
    seconds = len(record.signal) / record.fs
    label = f" · {abbreviated(record.label)}" if record.label else ""
    begins = f" from {start_s:g} s" if start_s else ""
    return draw_ecg(
        record.signal,
        record.fs,
        record.leads,
        title=f"{record.id}{label} · {seconds:.1f} s{begins} at {record.fs:g} Hz",
        layout=layout or (CLINICAL if has_twelve_leads(record.leads) else ROWS),
        start_s=start_s,
        most_rows=most_rows,
    )


def _explain_importance(sheet: Sheet) -> None:
    right, height = sheet.width - EDGE, sheet.height - 10
    sheet.write(right - 39, height, "importance for the network:  low", ha="right")
    bar = sheet.place(right - 38, height - 1.5, 26, 3)
    bar.imshow(np.linspace(0, 1, 100)[None, :], cmap=importance_colours(), aspect="auto")
    bar.set(xticks=[], yticks=[])
    bar.spines[:].set(linewidth=0.4)
    sheet.write(right - 11, height, "high")


def _check_twelve_leads(leads: Sequence[str]) -> None:
    if not has_twelve_leads(leads):
        raise RecordError(
            f"a twelve-lead page needs each of {', '.join(sum(CLINICAL_LINES, ()))} once; given "
            f"are {', '.join(leads)}. The layout {ROWS!r} takes any leads"
        )


def _checked(
    signal: npt.NDArray[np.floating[Any]],
    fs: float,
    leads: Sequence[str],
    importance: npt.NDArray[np.floating[Any]] | None,
    limit_mv: float,
) -> Floats:
    if not limit_mv > 0:
        raise RecordError(f"a trace is cut off at more than 0 mV; given is {limit_mv}")
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


def _notes(
    values: Floats,
    fs: float,
    leads: Sequence[str],
    rows: Sequence[Row],
    start_s: float,
    limit_mv: float,
) -> list[str]:
    """Say what the picture doesn't show."""
    notes, duration, end = [], len(values) / fs, rows[-1].end
    if duration > end + 1e-6:
        drawn = f"{start_s:g} to {start_s + end:g} s are drawn"
        notes.append(f"{drawn}; {duration - end:.1f} s follow")
    if any(trace.cut for row in rows for line in row.lines for trace in line.traces):
        notes.append(f"▲▼ cut off at {limit_mv:g} mV from the baseline")
    missing = np.isnan(values[: round(end * fs)]).sum(axis=0) / fs
    gaps = [f"{lead} {gap:.1f} s" for lead, gap in zip(leads, missing, strict=True) if gap]
    if gaps:
        notes.append(f"blank, where there is no signal: {', '.join(gaps)}")
    return notes
