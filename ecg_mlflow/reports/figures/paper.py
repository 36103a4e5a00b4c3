"""ECG paper: its grid, a row of traces on it, the calibration pulse; all in mm.

A row's axes have 1 mm of paper as their unit in both directions. x = 0 is the row's first instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.reports.figures.sheet import TEXT_PT, VERMILION, shorten
from ecg_mlflow.reports.figures.strip_rows import (
    BEFORE,
    BIG_BOX,
    LIMIT,
    MM_PER_MV,
    MM_PER_S,
    ROW_S,
    LeadTrace,
    Row,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

_PAPER, _THIN, _THICK = "#fffdfc", "#f7cfcf", "#e79c9c"
_INK: dict[str, Any] = {"color": "black", "linewidth": 0.7, "zorder": 3}


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
    """Colour the paper under the grid by the importance for the network, a mean for each mm.

    Parameters
    ----------
    axes
        A row's.
    importance
        ``(n_samples,)`` in [0, 1] of the recording; a sample's lasts until the next sample.
    fs
        In Hz.
    row
        Its last cell may be narrower than a mm.
    """
    total = np.concatenate([[0.0], np.cumsum(importance, dtype=np.float64)])
    last = (row.end - row.start) * MM_PER_S
    edges = np.minimum(np.arange(max(1, int(np.ceil(round(last, 6)))) + 1), last)
    times = row.start + edges / MM_PER_S
    means = np.diff(np.interp(times * fs, np.arange(len(total)), total)) / (np.diff(times) * fs)
    axes.pcolormesh(
        edges, axes.get_ylim(), np.clip(means, 0, 1)[None, :], cmap=importance_colours(), vmin=0,
        vmax=1, gid="importance", zorder=0.5, antialiased=False, linewidth=0,
    )  # fmt: skip


def importance_colours() -> Colormap:
    """From the paper's white to a light blue, on which grid and trace stay legible."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("importance", [_PAPER, "#d3e8f8", "#8fc3ee"])
