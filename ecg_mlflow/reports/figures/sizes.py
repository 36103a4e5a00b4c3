"""Size against quality: what a larger model buys."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures.labels import label_places
from ecg_mlflow.reports.figures.scores import (
    Score,
    count,
    interval_ends,
    pareto_front,
    ranked,
    told,
)
from ecg_mlflow.reports.figures.sheet import (
    BLUE,
    DPI,
    EDGE,
    GREY,
    MM_PER_INCH,
    SMALL_PT,
    TEXT_PT,
    VERMILION,
    head,
    legend,
    place,
    plain_axes,
    sheet,
    shorten,
    size_mm,
    text_width,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED = 18
_LEFT, _WIDE, _TALL, _KEY, _TOP, _BOTTOM, _LINE = 18, 115, 96, 128, 16, 26, 5.0


def size_plot(
    scores: Sequence[Score],
    metric: str,
    *,
    title: str = "",
    level: float = 0.95,
    higher_is_better: bool = True,
) -> Figure:
    """Draw a metric against the number of parameters, and the line that nothing smaller beats.

    Points carry the rank that `interval_plot` gives them. The best, those with marks, on the line
    and in the group of the best are named beside the plot, as far as there is room.

    Parameters
    ----------
    scores
        One for each configuration; those without parameters or with a mean that is NaN are left
        out, and the plot says how many.
    metric
        Its name.
    title
        Above the plot.
    level
        Of the intervals, which are those over records.
    higher_is_better
        Whether the best has the highest mean.

    Raises
    ------
    PredictionsError
        If no configuration has both.
    """
    every = ranked(scores, higher_is_better)
    rows = [row for row in every if row[1].parameters and math.isfinite(row[1].mean)]
    if not rows:
        raise PredictionsError(
            f"none of {len(scores)} configurations has a number of parameters and a {metric}"
        )
    figure = sheet(_LEFT + _WIDE + 8 + _KEY + EDGE, _TOP + _TALL + _BOTTOM)
    missing = len(every) - len(rows)
    note = f"{missing} of {len(every)} configurations have no such number and are left out"
    head(figure, title, note if missing else "")
    axes = place(figure, _LEFT, _BOTTOM, _WIDE, _TALL)
    plain_axes(axes)
    _scales(axes, [score for _, score in rows], metric)
    _draw_points(axes, [score for _, score in rows])
    front = pareto_front([score for _, score in rows], higher_is_better)
    axes.step(
        [score.parameters or 0 for score in front], [score.mean for score in front], where="post",
        color=GREY, linestyle="--", linewidth=0.9, gid="front", zorder=1.5,
    )  # fmt: skip
    named = _named(rows, front)
    placed = _number(axes, rows, named)
    _key(figure, placed, metric)
    _explain(figure, level, any(score.in_group for _, score in rows))
    return figure


def _named(rows: Sequence[tuple[int, Score]], front: Sequence[Score]) -> list[tuple[int, Score]]:
    """Choose whom the key names, by how much they matter, and sort by rank."""
    on_front = {id(score) for score in front}

    def matters(row: tuple[int, Score]) -> tuple[bool, bool, bool, bool, int]:
        rank, score = row
        return (
            row is not rows[0], not score.marks, id(score) not in on_front, not score.in_group,
            rank,
        )  # fmt: skip

    return sorted(sorted(rows, key=matters)[:MOST_NAMED], key=lambda row: row[0])


def _key(figure: Figure, named: Sequence[tuple[int, Score]], metric: str) -> None:
    """List rank, size, metric and name at the right."""
    left, top = _LEFT + _WIDE + 8, size_mm(figure)[1] - _TOP - _LINE / 2
    ends = (left + 6, left + 26, left + 46)
    heads = ("#", "parameters", shorten(metric, 18, SMALL_PT))
    for x, name in zip(ends, heads, strict=True):
        write(figure, x, top, name, ha="right", fontsize=SMALL_PT, color=GREY)
    write(figure, left + 49, top, "configuration", fontsize=SMALL_PT, color=GREY)
    for line, (rank, score) in enumerate(named, start=1):
        y = top - line * _LINE
        size, mean = count(score.parameters or 0), told(score.mean)
        for x, text in zip(ends, (f"{rank}", size, mean), strict=True):
            write(figure, x, y, text, ha="right", fontsize=SMALL_PT)
        marks = shorten(", ".join(score.marks), 32, SMALL_PT, "bold")
        write(
            figure, left + _KEY, y, marks, ha="right", fontsize=SMALL_PT, weight="bold",
            color=VERMILION,
        )  # fmt: skip
        room = _KEY - 49 - (text_width(marks, SMALL_PT, "bold") + 3 if marks else 0)
        write(figure, left + 49, y, shorten(score.name, room, SMALL_PT), fontsize=SMALL_PT)


def _draw_points(axes: Axes, scores: Sequence[Score]) -> None:
    crowd = len(scores) > 40
    for score in scores:
        colour = BLUE if score.in_group else "#8a8a8a"
        axes.errorbar(
            score.parameters or 0, score.mean,
            np.array(interval_ends(score.over_records, score.mean))[:, None],
            color=colour, fmt="o" if score.in_group else "s", markersize=4 if crowd else 5,
            markerfacecolor=colour if score.in_group else "white", markeredgewidth=1,
            elinewidth=0.5 if crowd else 0.9, gid="point", zorder=3 if score.in_group else 2,
            ecolor=(colour, 0.5 if crowd else 1.0),
        )  # fmt: skip
        if score.marks:
            axes.plot(
                score.parameters or 0, score.mean, "o", markersize=10, markerfacecolor="none",
                color=VERMILION, markeredgewidth=1.3, gid="marked", zorder=4,
            )  # fmt: skip


def _scales(axes: Axes, scores: Sequence[Score], metric: str) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    sizes = [score.parameters or 1 for score in scores]
    margin = max((max(sizes) / min(sizes)) ** 0.06, 1.15)
    low, high = min(sizes) / margin, max(sizes) * margin
    axes.set(xscale="log", xlim=(low, high))
    ends = [v for one in scores for v in (one.mean, *(one.over_records or ()))]
    finite = [value for value in ends if math.isfinite(value)]
    room = 0.05 * (max(finite) - min(finite)) or 0.02
    axes.set_ylim(min(finite) - room, max(finite) + room)
    axes.xaxis.set_major_locator(FixedLocator(list(_ticks(low, high))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: count(value))
    axes.set_xlabel("parameters", fontsize=TEXT_PT)
    axes.set_ylabel(shorten(metric, _TALL), fontsize=TEXT_PT, parse_math=False)


def _ticks(low: float, high: float) -> Iterator[float]:
    """Round numbers on a logarithmic axis, three a decade or fewer, and at least a few."""
    decades = math.log10(high / low)
    steps: Sequence[float] = (1,) if decades > 4 else (1, 2, 5)
    if decades < 0.7:
        steps = tuple(np.arange(1, 10, 0.25 if decades < 0.2 else 0.5))
    for decade in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for step in steps:
            if low <= step * 10.0**decade <= high:
                yield step * 10.0**decade


def _number(
    axes: Axes, rows: Sequence[tuple[int, Score]], named: Sequence[tuple[int, Score]]
) -> list[tuple[int, Score]]:
    """Write ranks beside points, clear of each other; return those that found room."""
    pixels = axes.transData.transform([(one.parameters or 0, one.mean) for _, one in rows])
    points = (pixels - axes.bbox.min) * MM_PER_INCH / DPI
    sizes = np.array([(text_width(f"{rank}", SMALL_PT, "bold") + 0.6, 2.8) for rank, _ in named])
    index = {rank: at for at, (rank, _) in enumerate(rows)}
    wanted = [index[rank] for rank, _ in named]
    places = label_places(points, wanted, sizes, (_WIDE, _TALL))
    placed = []
    for row, at, middle in zip(named, wanted, places, strict=True):
        if middle is None:
            continue
        placed.append(row)
        x, y = points[at]
        if math.dist((x, y), middle) > 6:
            axes.plot(
                (x / _WIDE, middle[0] / _WIDE), (y / _TALL, middle[1] / _TALL), color=GREY,
                linewidth=0.5, transform=axes.transAxes, zorder=4, gid="leader",
            )  # fmt: skip
        axes.text(
            middle[0] / _WIDE, middle[1] / _TALL, f"{row[0]}", transform=axes.transAxes,
            ha="center", va="center_baseline", fontsize=SMALL_PT, weight="bold", gid="rank",
            zorder=5, bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
    return placed


def _explain(figure: Figure, level: float, group: bool) -> None:
    from matplotlib.lines import Line2D

    handles = {
        f"mean, {level:.0%} interval over records": Line2D(
            [], [], marker="s", color="#8a8a8a", markerfacecolor="white", markersize=5
        ),
        "nothing smaller is better": Line2D([], [], color=GREY, linestyle="--", linewidth=0.9),
        "marked in the list": Line2D(
            [], [], marker="o", markersize=9, markerfacecolor="none", color=VERMILION, linewidth=0
        ),
    }
    if group:
        handles["can't be told from the best"] = Line2D(
            [], [], marker="o", color=BLUE, markersize=5
        )
    legend(figure, _LEFT, 11, list(handles.values()), list(handles), ncols=2)
