"""Recordings on ECG paper at 25 mm/s and 10 mm/mV, true to scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records import Record
from ecg_mlflow.records.snomed import abbreviated
from ecg_mlflow.reports.figures.sheet import EDGE, GREY, SMALL_PT, Sheet, wrap
from ecg_mlflow.reports.figures.strip_rows import (
    AFTER,
    BEFORE,
    BIG_BOX,
    LIMIT,
    MM_PER_MV,
    MM_PER_S,
    ROW_S,
    Floats,
    Row,
    draw_importance,
    draw_row,
    has_twelve_leads,
    importance_colours,
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
_HEADER, _AXIS, _NOTE = 14.0, 6.0, 4.0
_LEAST_WIDTH = BEFORE + 110.0 + AFTER


def draw_ecg(
    signal: npt.NDArray[np.floating[Any]],
    fs: float,
    leads: Sequence[str],
    *,
    title: str = "",
    layout: str = ROWS,
    importance: npt.NDArray[np.floating[Any]] | None = None,
    start_s: float = 0.0,
    most_rows: int = MOST_ROWS,
) -> Figure:
    """Draw a recording on ECG paper at 25 mm/s and 10 mm/mV.

    A small box is 0.04 s by 0.1 mV, a big one 0.2 s by 0.5 mV; printed at 100 % they are 1 mm and
    5 mm. What is not drawn (rows beyond the last, gaps, what is cut off) is said below.

    Parameters
    ----------
    signal
        ``(n_samples, n_leads)`` in mV; not finite where there is none. Each lead's median is taken
        as its baseline: where on the paper a trace stands has no meaning. It is cut off at 5 mV
        from there, and marked.
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
        paper's colour.
    start_s
        What the seconds below the rows begin with: where in the recording `signal` starts.
    most_rows
        Further ones are left out.

    Raises
    ------
    RecordError
        If the shapes don't agree, there is nothing to draw, a number is out of its range, or a
        standard lead is missing for the clinical layout.
    """
    values = _checked(signal, fs, leads, importance)
    if layout == CLINICAL:
        rows = [lay_out_clinical(values, fs, leads)]
    else:
        rows = lay_out(values, fs, leads, max(1, min(most_rows, MOST_TRACES // len(leads))))
    boxes = float(np.ceil(round(min(len(values) / fs, ROW_S) * MM_PER_S / BIG_BOX, 6)))
    width = max(BEFORE + BIG_BOX * boxes + AFTER, _LEAST_WIDTH)
    found = _notes(values, fs, leads, rows, start_s)
    notes = [line for note in found for line in wrap(note, width, SMALL_PT)]
    body = sum(row.height + _AXIS for row in rows)
    scale = f"{MM_PER_S:g} mm/s   {MM_PER_MV:g} mm/mV"
    sheet = Sheet(width + 2 * EDGE, _HEADER + body + len(notes) * _NOTE + EDGE / 2, title, scale)
    if importance is not None:
        _explain_importance(sheet)
    top = sheet.height - _HEADER
    for row in rows:
        axes = sheet.place(EDGE, top - row.height, width, row.height)
        draw_row(axes, row, width, start_s + row.start)
        if importance is not None:
            draw_importance(axes, importance, fs, row)
        top -= row.height + _AXIS
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
        is_inside = ((importance >= 0) & (importance <= 1)).all()
        if importance.shape != values.shape[:1] or not is_inside:
            raise RecordError(
                f"importance is one number in [0, 1] for each of {len(values)} samples; given is "
                f"the shape {importance.shape}, {np.min(importance)} to {np.max(importance)}"
            )
    return np.where(np.isfinite(values), values, np.nan)


def _notes(
    values: Floats, fs: float, leads: Sequence[str], rows: Sequence[Row], start_s: float
) -> list[str]:
    """Say what the picture doesn't show."""
    notes, duration, end = [], len(values) / fs, rows[-1].end
    if duration > end + 1e-6:
        drawn = f"{start_s:g} to {start_s + end:g} s are drawn"
        notes.append(f"{drawn}; {duration - end:.1f} s follow")
    if any((np.abs(one.y) > LIMIT).any() for row in rows for line in row.lines for one in line):
        notes.append(f"▲▼ cut off at {LIMIT / MM_PER_MV:g} mV from the baseline")
    missing = np.isnan(values[: round(end * fs)]).sum(axis=0) / fs
    gaps = [f"{lead} {gap:.1f} s" for lead, gap in zip(leads, missing, strict=True) if gap]
    if gaps:
        notes.append(f"blank, where there is no signal: {', '.join(gaps)}")
    return notes
