"""What forest plots share: a row of text and interval for each thing compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ecg_mlflow.reports.figures.sheet import (
    EDGE,
    GREY,
    SMALL_PT,
    head,
    place,
    plain_axes,
    sheet,
    shorten,
    size_mm,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 40
PLOT, TOLD = 80.0, 42.0
_ROW, _HEADER, _AXIS = 5.0, 19.0, 11.0


def forest(
    n_rows: int, before: float, after: float, key: float, title: str, note: str
) -> tuple[Figure, Axes]:
    """A sheet with its title, and axes whose y is the row's number; all lengths in mm."""
    below = EDGE + key + _AXIS
    figure = sheet(before + PLOT + after + 2 * EDGE, _HEADER + n_rows * _ROW + below)
    head(figure, title, note)
    axes = place(figure, EDGE + before, below, PLOT, n_rows * _ROW)
    axes.set(ylim=(n_rows - 0.5, -0.5), yticks=[])
    plain_axes(axes)
    axes.spines["left"].set_visible(False)
    return figure, axes


def heading(figure: Figure, x: float, text: str, side: str = "left") -> None:
    """Name a column that begins, or ends, at x mm."""
    write(figure, x, size_mm(figure)[1] - _HEADER + 3, text, ha=side, color=GREY)


def height_of(figure: Figure, at: int) -> float:
    """Return the height of the middle of a row in mm."""
    return size_mm(figure)[1] - _HEADER - (at + 0.5) * _ROW


def scale(axes: Axes, values: Sequence[float], metric: str) -> None:
    """Make the x axis hold all that is finite, with ticks that have room."""
    from matplotlib.ticker import MaxNLocator

    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    lowest, highest = min(finite), max(finite)
    margin = 0.04 * (highest - lowest) or 0.02
    axes.set_xlim(lowest - margin, highest + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel(shorten(metric, PLOT), fontsize=SMALL_PT + 1, parse_math=False)
