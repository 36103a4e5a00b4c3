"""ECG paper: its grid, a row of traces on it, the calibration pulse, marks; all in mm.

A row's axes have 1 mm of paper as their unit in both directions. x = 0 is the row's first instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.reports.figures.sheet import SMALL_PT, TEXT_PT, VERMILION, shorten, text_width
from ecg_mlflow.reports.figures.strip_rows import (
    BEFORE,
    BIG_BOX,
    MM_PER_MV,
    MM_PER_S,
    ROW_S,
    Floats,
    LeadTrace,
    Line,
    Row,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

_PAPER, _THIN, _THICK = "#fffdfc", "#f7cfcf", "#e79c9c"


def draw_paper(axes: Axes, width: float, height: float) -> None:
    """Draw the grid: thin lines each mm, thick ones each 5 mm, from x = -`BEFORE` and y = 0.

    Parameters
    ----------
    axes
        Of that size, so that their unit is a mm.
    width, height
        In mm; whole big boxes.
    """
    left, right = -BEFORE, width - BEFORE
    axes.set_facecolor(_PAPER)
    axes.set(xlim=(left, right), ylim=(0, height), autoscale_on=False)
    axes.set_aspect("equal")
    across, up = np.arange(left, right + 0.5), np.arange(height + 0.5)
    for big, colour, thickness in ((False, _THIN, 0.35), (True, _THICK, 0.6)):
        upright = axes.vlines(across[(across % BIG_BOX == 0) == big], 0, height)
        level = axes.hlines(up[(up % BIG_BOX == 0) == big], left, right)
        for lines in (upright, level):
            lines.set(
                color=colour, linewidth=thickness, zorder=1.1 if big else 1.0, snap=True,
                gid="thick grid" if big else "thin grid", clip_on=not big,
            )  # fmt: skip
    axes.spines[:].set_visible(False)
    axes.set_yticks([])


def draw_line(axes: Axes, line: Line, top: float) -> None:
    """Draw traces side by side, on paper that begins at the height `top` in mm."""
    baseline = top - line.above
    _draw_pulse(axes, baseline)
    alone = len(line.traces) == 1
    for trace in line.traces:
        _draw_trace(axes, trace, baseline)
        # Alone it has its name over the pulse, else where its column begins.
        start = 0.7 - BEFORE if alone else float(trace.x[0]) if len(trace.x) else 0.0
        if start > BIG_BOX / 2:
            axes.plot(
                [start, start], [baseline - 3, baseline + 3], color="black", linewidth=0.7,
                zorder=3, gid="column",
            )  # fmt: skip
        axes.text(
            start + 0.8, top - 0.8, shorten(trace.lead, 30.0, weight="bold"), fontsize=TEXT_PT,
            weight="bold", va="top", parse_math=False, zorder=4,
        )  # fmt: skip


def _draw_trace(axes: Axes, trace: LeadTrace, baseline: float) -> None:
    """Draw one lead's part of a row about its baseline, a height in mm."""
    from matplotlib.patches import Rectangle

    (line,) = axes.plot(
        trace.x, baseline + trace.y, color="black", linewidth=0.7, solid_joinstyle="round",
        gid="trace", zorder=3,
    )  # fmt: skip
    # It runs off, as over a paper's edge: a flat line at the limit would look like a wave.
    width = axes.get_xlim()[1]
    room = Rectangle((0, baseline - trace.limit), width, 2 * trace.limit)
    line.set_clip_path(room.get_path(), room.get_patch_transform() + axes.transData)
    for x, side in trace.cut:
        edge = baseline + side * (trace.limit - 1.2)
        axes.plot(x, edge, "^" if side > 0 else "v", color=VERMILION, markersize=5, gid="cut")


def draw_importance(axes: Axes, cells: Floats, last: float) -> None:
    """Colour the paper under the grid by the importance for the network.

    Parameters
    ----------
    axes
        A row's.
    cells
        ``(n_cells,)`` in [0, 1]: one for each mm from x = 0; the last may be narrower.
    last
        Where in mm the last cell ends.
    """
    edges = np.append(np.arange(len(cells), dtype=np.float64), last)
    axes.pcolormesh(
        edges, axes.get_ylim(), cells[None, :], cmap=importance_colours(), vmin=0, vmax=1,
        gid="importance", zorder=0.5, antialiased=False, linewidth=0,
    )  # fmt: skip


def importance_colours() -> Colormap:
    """From the paper's white to a light blue, on which grid and trace stay legible."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("importance", [_PAPER, "#d3e8f8", "#8fc3ee"])


def draw_marks(axes: Axes, marks: Sequence[tuple[float, str]]) -> None:
    """Draw arrow heads at the row's upper edge, with their texts where these have room.

    Parameters
    ----------
    axes
        A row's.
    marks
        Of each its x in mm, and the text.
    """
    top = axes.get_ylim()[1]
    free = -np.inf
    for x, text in sorted(marks):
        axes.plot(x, top + 0.8, "v", color="black", markersize=3, clip_on=False, gid="mark")
        width = text_width(text, SMALL_PT)
        if text and x - width / 2 > free and x + width / 2 < axes.get_xlim()[1]:
            axes.text(
                x, top + 1.6, text, fontsize=SMALL_PT, ha="center", va="bottom", parse_math=False
            )
            free = x + width / 2 + 1.0


def draw_seconds(axes: Axes, row: Row) -> None:
    """Mark each second of a row below it, counted from the recording's first sample."""
    seconds = np.arange(int(min(row.end - row.start, ROW_S) + 1e-6) + 1)
    axes.set_xticks(MM_PER_S * seconds, [f"{row.start + second:g} s" for second in seconds])
    axes.tick_params(length=2, width=0.5)


def _draw_pulse(axes: Axes, baseline: float) -> None:
    """1 mV for 0.2 s, as recorders write it before the trace."""
    high = baseline + MM_PER_MV
    wide = 0.2 * MM_PER_S
    x = -5.0 + np.array([-wide - 2.5, -wide, -wide, 0.0, 0.0, 2.5])
    y = [baseline, baseline, high, high, baseline, baseline]
    axes.plot(x, y, color="black", linewidth=0.7, solid_joinstyle="miter", gid="pulse", zorder=3)
