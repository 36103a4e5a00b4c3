"""Forest plots: a row of text and interval for each configuration, or for each subgroup."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures.sheet import (
    BLUE,
    EDGE,
    GREY,
    GROUP,
    SKY,
    SMALL_PT,
    VERMILION,
    Sheet,
    plain_axes,
    shorten,
)
from ecg_mlflow.stats.comparison import Comparison, Estimate
from ecg_mlflow.stats.intervals import Interval
from ecg_mlflow.stats.subgroups import Subgroup

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 40
NOT_SIGNIFICANT = "not significantly different from the best"
_PLOT, _VALUE = 80.0, 42.0
_ROW, _HEADER, _AXIS = 5.0, 19.0, 11.0
_RANK, _NAME, _MARKS, _KEY = 8.0, 92.0, 32.0, 14.0
_GROUP = 68.0


def interval_plot(comparison: Comparison, *, title: str = "", most_rows: int = MOST_ROWS) -> Figure:
    """Draw each configuration's mean and intervals of the decisive metric, the best first.

    Parameters
    ----------
    comparison
        Of the configurations.
    title
        Above the plot.
    most_rows
        The worst beyond so many are left out, except the smallest and the fastest of the group of
        the best; the plot says how many.
    """
    metric, level = comparison.decisive, comparison.level
    every = list(enumerate(comparison.standings, start=1))
    marked = [row for row in every if comparison.marks(row[1])]
    rest = [row for row in every if row not in marked][: max(0, most_rows - len(marked))]
    rows = sorted(marked + rest, key=lambda row: row[0])
    left = f"{len(every) - len(rows)} of {len(every)} configurations, worse ones, are left out"
    before, after = _RANK + _NAME, 3 + _VALUE + (_MARKS if marked else 0)
    note = left if len(rows) < len(every) else ""
    sheet, axes = _forest(len(rows), before, after, _KEY, title, note)
    right = EDGE + before + _PLOT + 3
    _heading(sheet, EDGE + _RANK, "#", "right")
    _heading(sheet, EDGE + _RANK + 3, "configuration")
    _heading(sheet, right, f"mean [{level:.0%}, records]")
    for at, (rank, one) in enumerate(rows):
        height, estimate = _height_of(sheet, at), one.estimates[metric]
        sheet.write(EDGE + _RANK, height, f"{rank}", ha="right", color=GREY)
        sheet.write(EDGE + _RANK + 3, height, shorten(one.name, _NAME - 6))
        sheet.write(right, height, value_text(estimate.mean, estimate.over_records))
        marks = shorten(", ".join(comparison.marks(one)), _MARKS, weight="bold")
        sheet.write(right + _VALUE, height, marks, weight="bold", color=BLUE)
        if at and rank > rows[at - 1][0] + 1:
            axes.axhline(at - 0.5, color=GREY, linewidth=0.6, linestyle=":", gid="left out")
        if one.in_group:
            axes.axhspan(at - 0.5, at + 0.5, color=GROUP, linewidth=0, gid="group", zorder=0)
        _draw_estimate(axes, at, estimate)
    estimates = [one.estimates[metric] for _, one in rows]
    intervals = [ends for one in estimates for ends in (one.over_records, one.over_repetitions)]
    _scale(axes, [value for one in estimates for value in one.each], intervals, metric)
    _explain(sheet, level)
    return sheet.figure


def subgroup_plot(
    subgroups: Sequence[Subgroup],
    metric: str,
    *,
    overall: Subgroup | None = None,
    title: str = "",
    level: float = 0.95,
    most_rows: int = MOST_ROWS,
) -> Figure:
    """Draw a metric for each subgroup, in the order given, below that of all records.

    Parameters
    ----------
    subgroups
        Those of one column one after the other.
    metric
        One of theirs.
    overall
        All records; its `group` names the row, and a broken line goes through its metric.
    title
        Above the plot.
    level
        Of the intervals.
    most_rows
        Further ones are left out; the plot says how many.

    Raises
    ------
    PredictionsError
        If there are no subgroups.
    """
    if not subgroups:
        raise PredictionsError("a plot of subgroups needs at least one of them")
    rows = [*([overall] if overall else []), *subgroups[:most_rows]]
    left = len(subgroups) - most_rows
    note = f"{left} of {len(subgroups)} subgroups are left out" if left > 0 else ""
    sheet, axes = _forest(len(rows), _GROUP + 22, 3 + _VALUE, 0.0, title, note)
    right = EDGE + _GROUP + 22 + _PLOT + 3
    _heading(sheet, EDGE, "subgroup")
    _heading(sheet, EDGE + _GROUP, "records", "right")
    _heading(sheet, EDGE + _GROUP + 17, "positive", "right")
    _heading(sheet, right, f"{shorten(metric, _VALUE - 14)} [{level:.0%}]")
    for at, one in enumerate(rows):
        height, value, interval = _height_of(sheet, at), one.metrics[metric], one.intervals[metric]
        name = f"{one.column}: {one.group}" if one.column else one.group
        weight = "bold" if one is overall else "normal"
        sheet.write(EDGE, height, shorten(name, _GROUP - 15, weight=weight), weight=weight)
        sheet.write(EDGE + _GROUP, height, f"{one.n_records}", ha="right")
        sheet.write(EDGE + _GROUP + 17, height, f"{one.n_positive}", ha="right")
        sheet.write(right, height, value_text(value, interval))
        if at and one.column != rows[at - 1].column:
            axes.axhline(at - 0.5, color="0.8", linewidth=0.6, gid="column")
        ends = (interval.low, interval.high)
        axes.plot(ends, (at, at), color=BLUE, linewidth=1.6, gid="interval")
        axes.plot(value, at, "s", color=BLUE, markersize=5, gid="mean")
    if overall and math.isfinite(overall.metrics[metric]):
        line = overall.metrics[metric]
        axes.axvline(line, color=GREY, linestyle="--", linewidth=0.8, gid="overall")
    values, intervals = ([getattr(one, kind)[metric] for one in rows] for kind in
                         ("metrics", "intervals"))  # fmt: skip
    _scale(axes, values, intervals, metric)
    return sheet.figure


def value_text(value: float, interval: Interval) -> str:
    """Return ``0.812 [0.751, 0.864]``, or what is known of it."""
    if math.isnan(value):
        return "not defined"
    return f"{value:.3f}" + (f" [{interval.low:.3f}, {interval.high:.3f}]" * interval.is_known)


def _forest(
    n_rows: int, before: float, after: float, key: float, title: str, note: str
) -> tuple[Sheet, Axes]:
    """A sheet with its title, and axes whose y is the row's number; all lengths in mm."""
    below = EDGE + key + _AXIS
    size = (before + _PLOT + after + 2 * EDGE, _HEADER + n_rows * _ROW + below)
    sheet = Sheet(*size, title, note)
    axes = sheet.place(EDGE + before, below, _PLOT, n_rows * _ROW)
    axes.set(ylim=(n_rows - 0.5, -0.5), yticks=[])
    plain_axes(axes)
    axes.spines["left"].set_visible(False)
    return sheet, axes


def _heading(sheet: Sheet, x: float, text: str, side: str = "left") -> None:
    """Name a column that begins, or ends, at x mm."""
    sheet.write(x, sheet.height - _HEADER + 3, text, ha=side, color=GREY)


def _height_of(sheet: Sheet, at: int) -> float:
    """Return the height of the middle of a row in mm."""
    return sheet.height - _HEADER - (at + 0.5) * _ROW


def _scale(axes: Axes, values: Iterable[float], intervals: Iterable[Interval], metric: str) -> None:
    """Make the x axis hold all that is finite, with ticks that have room."""
    from matplotlib.ticker import MaxNLocator

    every = np.array([*values, *(end for one in intervals for end in (one.low, one.high))])
    finite = every[np.isfinite(every)] if np.isfinite(every).any() else np.array([0.0, 1.0])
    margin = 0.04 * np.ptp(finite) or 0.02
    axes.set_xlim(finite.min() - margin, finite.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel(shorten(metric, _PLOT), fontsize=SMALL_PT + 1, parse_math=False)


def _draw_estimate(axes: Axes, at: int, one: Estimate) -> None:
    """Thick: over records; thin with ends: over repetitions; dots: the repetitions."""
    axes.plot(
        (one.over_records.low, one.over_records.high), (at, at), color=SKY, linewidth=5,
        solid_capstyle="butt", gid="over records", zorder=2,
    )  # fmt: skip
    axes.plot(
        (one.over_repetitions.low, one.over_repetitions.high), (at, at), "|-", color="black",
        linewidth=0.9, markersize=5, gid="over repetitions", zorder=3,
    )  # fmt: skip
    if len(one.each) > 1:
        axes.plot(
            one.each, np.full(len(one.each), at + 0.33), "o", color=VERMILION, markersize=2.6,
            markeredgewidth=0, gid="repetitions", zorder=4,
        )  # fmt: skip
    axes.plot(
        one.mean, at, "D", color="white", markeredgecolor="black", markersize=4.5,
        markeredgewidth=1.0, gid="mean", zorder=5,
    )  # fmt: skip


def _explain(sheet: Sheet, level: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: dict[str, Artist] = {
        f"{level:.0%} interval over records": Line2D([], [], color=SKY, linewidth=5),
        f"{level:.0%} interval over repetitions": Line2D([], [], color="black", linewidth=0.9),
        "mean": Line2D([], [], marker="D", color="white", markeredgecolor="black", markersize=4.5),
        "one repetition": Line2D([], [], marker="o", color=VERMILION, markersize=3, linewidth=0),
        NOT_SIGNIFICANT: Patch(color=GROUP),
    }
    sheet.legend(EDGE + 3, EDGE + _KEY - 4, list(handles.values()), list(handles), ncols=3)
