"""Forest plots: a row of text and interval for each configuration, or for each subgroup."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_mlflow.reports.figures.sheet import (
    BLUE,
    EDGE,
    GREY,
    GROUP,
    ROW,
    SKY,
    SMALL_PT,
    VERMILION,
    Look,
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
_HEADER, _AXIS = 19.0, 11.0
_RANK, _NAME, _MARKS, _KEY = 8.0, 92.0, 32.0, 14.0
_GROUP = 68.0
#: What an estimate is drawn of, by its gid.
_LOOKS: dict[str, Look] = {
    "over records": {"color": SKY, "linewidth": 5, "solid_capstyle": "butt", "zorder": 2},
    "over repetitions": {"color": "black", "linewidth": 0.9, "marker": "|", "markersize": 5},
    "repetitions": {"color": VERMILION, "linewidth": 0, "marker": "o", "markersize": 2.6,
                    "markeredgewidth": 0, "zorder": 4},
    "mean": {"color": "white", "linewidth": 0, "marker": "D", "markeredgecolor": "black",
             "markersize": 4.5, "markeredgewidth": 1.0, "zorder": 5},
}  # fmt: skip


def interval_plot(comparison: Comparison, *, title: str = "") -> Figure:
    """Draw each configuration's mean and intervals of the decisive metric, the best first.

    Parameters
    ----------
    comparison
        Of the configurations. The worst beyond `MOST_ROWS` are left out, except the smallest and
        the fastest of the group of the best; the plot says how many.
    title
        Above the plot.
    """
    from matplotlib.patches import Patch

    metric, level = comparison.decisive, comparison.level
    every = list(enumerate(comparison.standings, start=1))
    marked = [row for row in every if comparison.marks(row[1])]
    rest = [row for row in every if row not in marked][: MOST_ROWS - len(marked)]
    rows = sorted(marked + rest, key=lambda row: row[0])
    left = f"{len(every) - len(rows)} of {len(every)} configurations, worse ones, are left out"
    before, after = _RANK + _NAME, 3 + _VALUE + (_MARKS if marked else 0)
    note = left if len(rows) < len(every) else ""
    sheet, axes = _forest(len(rows), before, after, _KEY, title, note)
    estimates = [one.estimates[metric] for _, one in rows]
    right, top = EDGE + before + _PLOT + 3, sheet.height - _HEADER + ROW / 2
    names = [shorten(one.name, _NAME - 6) for _, one in rows]
    values = [value_text(one.mean, one.over_records) for one in estimates]
    marks = [shorten(", ".join(comparison.marks(one)), _MARKS, weight="bold") for _, one in rows]
    sheet.column(EDGE + _RANK, top, "#", [f"{rank}" for rank, _ in rows], ha="right", color=GREY)
    sheet.column(EDGE + _RANK + 3, top, "configuration", names)
    sheet.column(right, top, f"mean [{level:.0%}, records]", values)
    sheet.column(right + _VALUE, top, "", marks, weight="bold", color=BLUE)
    for at, (rank, one) in enumerate(rows):
        if at and rank > rows[at - 1][0] + 1:
            axes.axhline(at - 0.5, color=GREY, linewidth=0.6, linestyle=":", gid="left out")
        if one.in_group:
            axes.axhspan(at - 0.5, at + 0.5, color=GROUP, linewidth=0, gid="group", zorder=0)
        _draw_estimate(axes, at, one.estimates[metric])
    intervals = [ends for one in estimates for ends in (one.over_records, one.over_repetitions)]
    _scale(axes, [value for one in estimates for value in one.each], intervals, metric)
    texts = (
        f"{level:.0%} interval over records",
        f"{level:.0%} interval over repetitions",
        "one repetition",
        "mean",
    )
    entries: list[tuple[str, Artist | Look]] = list(zip(texts, _LOOKS.values(), strict=True))
    entries.append((NOT_SIGNIFICANT, Patch(color=GROUP)))
    sheet.legend(EDGE + 3, EDGE + _KEY - 4, entries, ncols=3)
    return sheet.figure


def subgroup_plot(
    subgroups: Sequence[Subgroup],
    metric: str,
    *,
    overall: Subgroup | None = None,
    title: str = "",
    level: float = 0.95,
) -> Figure:
    """Draw a metric for each subgroup, in the order given, below that of all records.

    Parameters
    ----------
    subgroups
        At least one; those of one column one after the other. Those beyond `MOST_ROWS` are left
        out; the plot says how many.
    metric
        One of theirs.
    overall
        All records; its `group` names the row, and a broken line goes through its metric.
    title
        Above the plot.
    level
        Of the intervals.
    """
    rows = [*([overall] if overall else []), *subgroups[:MOST_ROWS]]
    left = len(subgroups) - MOST_ROWS
    note = f"{left} of {len(subgroups)} subgroups are left out" if left > 0 else ""
    sheet, axes = _forest(len(rows), _GROUP + 22, 3 + _VALUE, 0.0, title, note)
    top = sheet.height - _HEADER + ROW / 2
    names = [f"{one.column}: {one.group}" if one.column else one.group for one in rows]
    values, intervals = ([getattr(one, kind)[metric] for one in rows] for kind in
                         ("metrics", "intervals"))  # fmt: skip
    written = sheet.column(EDGE, top, "subgroup", [shorten(name, _GROUP - 15) for name in names])
    for x, heading, kind in ((0, "records", "n_records"), (17, "positive", "n_positive")):
        counts = [f"{getattr(one, kind)}" for one in rows]
        sheet.column(EDGE + _GROUP + x, top, heading, counts, ha="right")
    texts = list(map(value_text, values, intervals))
    heading = f"{shorten(metric, _VALUE - 14)} [{level:.0%}]"
    sheet.column(EDGE + _GROUP + 22 + _PLOT + 3, top, heading, texts)
    for at, (one, value, interval) in enumerate(zip(rows, values, intervals, strict=True)):
        if at and one.column != rows[at - 1].column:
            axes.axhline(at - 0.5, color="0.8", linewidth=0.6, gid="column")
        ends = (interval.low, interval.high)
        axes.plot(ends, (at, at), color=BLUE, linewidth=1.6, gid="interval")
        axes.plot(value, at, "s", color=BLUE, markersize=5, gid="mean")
    if overall:
        written[0].set_fontweight("bold")
    if overall and math.isfinite(values[0]):
        axes.axvline(values[0], color=GREY, linestyle="--", linewidth=0.8, gid="overall")
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
    size = (before + _PLOT + after + 2 * EDGE, _HEADER + n_rows * ROW + below)
    sheet = Sheet(*size, title, note)
    axes = sheet.place(EDGE + before, below, _PLOT, n_rows * ROW)
    axes.set(ylim=(n_rows - 0.5, -0.5), yticks=[])
    plain_axes(axes)
    axes.spines["left"].set_visible(False)
    return sheet, axes


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
    places: dict[str, tuple[Any, Any]] = {
        "over records": ((one.over_records.low, one.over_records.high), (at, at)),
        "over repetitions": ((one.over_repetitions.low, one.over_repetitions.high), (at, at)),
        "repetitions": (one.each, [at + 0.33] * len(one.each)) if len(one.each) > 1 else ([], []),
        "mean": (one.mean, at),
    }
    for gid, place in places.items():
        axes.plot(*place, gid=gid, **_LOOKS[gid])
