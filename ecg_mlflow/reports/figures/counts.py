"""How many there are of each: bars for classes, and a histogram of a quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import EcgMlflowError
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
        How many there are of each; beyond `MOST_BARS` names are left out, and the note says so.
    title, note
        Above the bars.

    Raises
    ------
    EcgMlflowError
        If there is nothing to draw.
    """
    if not counts or max(counts.values()) <= 0:
        raise EcgMlflowError(f"bars are drawn of numbers above 0; given are {dict(counts)}")
    shown = list(counts.items())[:MOST_BARS]
    if len(shown) < len(counts):
        note = f"{note} The first {len(shown)} of {len(counts)} are shown.".strip()
    body = _ROW * len(shown)
    sheet = Sheet(2 * EDGE + _NAMES + _BARS + 18, _TOP + body + EDGE, title, note)
    axes = sheet.place(EDGE + _NAMES, EDGE, _BARS, body)
    places = np.arange(len(shown))
    axes.barh(places, [count for _, count in shown], height=0.7, color=BLUE)
    axes.set(ylim=(len(shown) - 0.5, -0.5), xlim=(0, max(counts.values())), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for row, (name, count) in enumerate(shown):
        height = EDGE + body - _ROW * (row + 0.5)
        fitting = shorten(name, _NAMES - 3)
        sheet.write(EDGE + _NAMES - 2, height, fitting, ha="right")
        axes.annotate(
            f"{count:,}", (count, row), (4, 0), textcoords="offset points", va="center",
            fontsize=SMALL_PT, annotation_clip=False,
        )  # fmt: skip
    return sheet.figure


def histogram(values: Sequence[float] | Floats, across: str, *, title: str = "") -> Figure:
    """Draw how many values lie in each of some equal intervals with round ends.

    Parameters
    ----------
    values
        At least one, all finite.
    across
        What they are, with their unit.
    title
        Above.

    Raises
    ------
    EcgMlflowError
        If there is none.
    """
    from matplotlib.ticker import MaxNLocator

    edges = round_edges(values)
    counts, _ = np.histogram(values, edges)
    note = f"{len(values):,} records"
    sheet = Sheet(_LEFT + _WIDE + 2 * EDGE, _TOP + _TALL + _BOTTOM, title, note)
    axes = sheet.place(_LEFT, _BOTTOM, _WIDE, _TALL)
    plain_axes(axes)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BLUE, edgecolor="white")
    axes.set(xlim=(edges[0], edges[-1]), xticks=edges)
    axes.set_xlabel(across, fontsize=TEXT_PT)
    axes.set_ylabel("records", fontsize=TEXT_PT)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return sheet.figure


def round_edges(values: Sequence[float] | Floats, most: int = MOST_BINS) -> Floats:
    """Return the edges of equal intervals that hold all values, at most so many.

    They are 1, 2 or 5 times a power of ten apart, and 0 would be one of them.

    Raises
    ------
    EcgMlflowError
        If there are no values, or one isn't finite.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not numbers.size or not np.isfinite(numbers).all():
        raise EcgMlflowError("a histogram is drawn of numbers, and there are none, or not all are")
    low, high = float(numbers.min()), float(numbers.max())
    least = max((high - low) / most, 1e-3) if high > low else 1.0
    power = 10.0 ** np.floor(np.log10(least))
    for step in power * np.array([1.0, 2.0, 5.0, 10.0, 20.0]):
        first = np.floor(low / step + 1e-9)
        # The last interval includes its end; a value on it needs no further one.
        last = max(np.ceil(high / step - 1e-9), first + 1)
        if last - first <= most:
            break
    return np.asarray(np.round(np.arange(first, last + 1) * step, 9), dtype=np.float64)
