"""A recording as a figure: a page where it has the twelve standard leads, else strips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecg_mlflow.records import Record
from ecg_mlflow.records.snomed import abbreviated
from ecg_mlflow.reports.figures import draw_strip
from ecg_mlflow.reports.figures.ecg_paper import MOST_ROWS
from ecg_mlflow.reports.figures.twelve_leads import draw_twelve_leads, has_twelve_leads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLINICAL, ROWS = "clinical", "rows"


def draw_record(
    record: Record,
    *,
    start_s: float = 0.0,
    layout: str | None = None,
    most_rows: int = MOST_ROWS,
) -> Figure:
    """Draw a recording at 25 mm/s and 10 mm/mV, with its name and label above.

    Parameters
    ----------
    record
        What of it is to be drawn.
    start_s
        Where in the whole recording that begins, in s.
    layout
        ``clinical`` for the page of `draw_twelve_leads`, ``rows`` for all leads one under the
        other; by default the page where there are the twelve standard leads.
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
    title = f"{record.id}{label} · {seconds:.1f} s{begins} at {record.fs:g} Hz"
    if layout == CLINICAL or (layout is None and has_twelve_leads(record.leads)):
        return draw_twelve_leads(
            record.signal, record.fs, record.leads, title=title, start_s=start_s
        )
    return draw_strip(
        record.signal, record.fs, record.leads, title=title, start_s=start_s, most_rows=most_rows
    )
