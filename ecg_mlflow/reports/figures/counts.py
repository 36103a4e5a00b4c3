"""How many there are of each: bars for classes, and a histogram of a quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_mlflow.reports.figures.sheet import (
    BLUE,
    EDGE,
    SMALL_PT,
    TEXT_PT,
    Sheet,
    plain_axes,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

#: Further bars would make a picture that no page holds.
MOST_BARS = 40
MOST_BINS = 12
_NAMES, _BARS, _ROW, _TOP = 55.0, 95.0, 5.5, 16.0
_WIDE, _TALL, _LEFT, _BOTTOM = 130.0, 60.0, 18.0, 14.0


def bar_chart(counts: Mapping[str, int], *, title: str = "", note: str = "") -> Figure:
    """Draw a bar for each name, with its number, in the order given.

    Parameters
    ----------
    counts
        How many there are of each, at least one; beyond `MOST_BARS` names are left out, and the
        note says so.
    title, note
        Above the bars.
    """
    names = list(counts)[:MOST_BARS]
    if len(names) < len(counts):
        note = f"{note} The first {len(names)} of {len(counts)} are shown.".strip()
    body = _ROW * len(names)
    sheet = Sheet(2 * EDGE + _NAMES + _BARS + 18, _TOP + body + EDGE, title, note)
    axes = sheet.place(EDGE + _NAMES, EDGE, _BARS, body)
    bars = axes.barh(range(len(names)), [counts[name] for name in names], height=0.7, color=BLUE)
    axes.bar_label(bars, fmt="{:,.0f}", padding=4, fontsize=SMALL_PT)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, max(counts.values())), xticks=[])
    texts = [shorten(name, _NAMES - 3) for name in names]
    axes.set_yticks(range(len(names)), texts, fontsize=TEXT_PT, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return sheet.figure


def histogram(values: Sequence[float] | Floats, across: str, *, title: str = "") -> Figure:
    """Draw how many values lie in each of some equal intervals with round ends.

    Parameters
    ----------
    values
        At least two different ones.
    across
        What they are, with their unit.
    title
        Above.
    """
    from matplotlib.ticker import MaxNLocator

    edges = round_edges(values)
    sheet = Sheet(
        _LEFT + _WIDE + 2 * EDGE, _TOP + _TALL + _BOTTOM, title, f"{len(values):,} records"
    )
    axes = sheet.place(_LEFT, _BOTTOM, _WIDE, _TALL)
    plain_axes(axes)
    axes.hist(values, edges.tolist(), color=BLUE, edgecolor="white")
    axes.set(xlim=(edges[0], edges[-1]), xticks=edges)
    axes.set_xlabel(across, fontsize=TEXT_PT)
    axes.set_ylabel("records", fontsize=TEXT_PT)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return sheet.figure


def round_edges(values: Sequence[float] | Floats, most: int = MOST_BINS) -> Floats:
    """Return the edges of equal intervals that hold all values, at most so many.

    They are 1, 2 or 5 times a power of ten apart, and 0 would be one of them.
    """
    from matplotlib.ticker import MaxNLocator

    low, high = np.min(values), np.max(values)
    for n_bins in (most, most - 1):  # matplotlib may give one more
        edges = MaxNLocator(n_bins, steps=[1, 2, 5, 10]).tick_values(low, high)
        if len(edges) <= most + 1:
            break
    return np.asarray(np.round(edges, 9), np.float64)
