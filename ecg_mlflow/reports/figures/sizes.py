"""A metric against the number of parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures.forest import NOT_SIGNIFICANT
from ecg_mlflow.reports.figures.sheet import (
    BLUE,
    DPI,
    EDGE,
    GREY,
    MM_PER_INCH,
    SMALL_PT,
    TEXT_PT,
    VERMILION,
    Sheet,
    plain_axes,
    shorten,
    text_width,
)
from ecg_mlflow.stats.comparison import Comparison, Standing
from ecg_mlflow.stats.metrics import higher_is_better

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

MOST_NAMED = 18
_LEFT, _WIDE, _TALL, _KEY, _TOP, _BOTTOM, _LINE = 18, 115, 96, 128, 16, 26, 5.0
#: Distances from a point in mm, and directions, that are tried; beside is better than above.
_DISTANCES = (3.4, 5.0, 7.5, 10.0, 14.0, 18.0)
_ANGLES = np.pi * np.array([0, 1, 0.25, 0.75, -0.25, -0.75, 0.12, 0.88, -0.12, -0.88, 0.5, -0.5])

#: Rank, candidate, parameters and mean of the decisive metric.
Point = tuple[int, Standing, float, float]


def size_plot(comparison: Comparison, *, title: str = "") -> Figure:
    """Draw a comparison's decisive metric against the number of parameters.

    Points carry the rank that `interval_plot` gives them; a line joins those that nothing smaller
    exceeds. The best, the smallest and the fastest, those on the line and those in the group of the
    best are named beside the plot, as far as there is room.

    Parameters
    ----------
    comparison
        Those without parameters or with a mean that is NaN are left out; the plot says how many.
    title
        Above the plot.

    Raises
    ------
    PredictionsError
        If no configuration has both.
    """
    metric, n = comparison.decisive, len(comparison.standings)
    points: list[Point] = [
        (rank, one, one.parameters, one.estimates[metric].mean)
        for rank, one in enumerate(comparison.standings, start=1)
        if one.parameters and math.isfinite(one.estimates[metric].mean)
    ]
    if not points:
        raise PredictionsError(
            f"none of {n} configurations has a number of parameters and a {metric}"
        )
    left = f"{n - len(points)} of {n} configurations have no such number and are left out"
    note = left if len(points) < n else ""
    sheet = Sheet(_LEFT + _WIDE + 8 + _KEY + EDGE, _TOP + _TALL + _BOTTOM, title, note)
    axes = sheet.place(_LEFT, _BOTTOM, _WIDE, _TALL)
    plain_axes(axes)
    _scales(axes, points, metric)
    _draw_points(axes, points, comparison)
    front = size_front(points, higher_is_better(metric))
    axes.step(
        [size for *_, size, _ in front], [mean for *_, mean in front], where="post", color=GREY,
        linestyle="--", linewidth=0.9, gid="front", zorder=1.5,
    )  # fmt: skip

    def importance(point: Point) -> tuple[bool, bool, bool, bool, int]:
        rank, one, *_ = point
        return rank != points[0][0], not comparison.marks(one), point not in front, \
            not one.in_group, rank  # fmt: skip

    named = sorted(sorted(points, key=importance)[:MOST_NAMED], key=lambda point: point[0])
    _list(sheet, _write_ranks(axes, points, named), comparison)
    _explain(sheet, comparison.level)
    return sheet.figure


def size_front(points: Sequence[Point], higher_is_better: bool = True) -> list[Point]:
    """Return those whose metric no other with as few parameters exceeds, smallest first."""
    sign = -1 if higher_is_better else 1
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (one[2], sign * one[3])):
        if not front or sign * point[3] < sign * front[-1][3]:
            front.append(point)
    return front


def short_number(value: float) -> str:
    """Return ``850``, ``2.4k`` or ``11.2M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"


def label_places(
    points: Floats, wanted: Sequence[int], sizes: Floats, frame: tuple[float, float]
) -> list[tuple[float, float] | None]:
    """Find a place for the label of each wanted point, one after the other.

    Of the places inside the frame that are clear of the labels before it, a label takes the one
    that covers the fewest points, and of these the nearest.

    Parameters
    ----------
    points
        ``(n_points, 2)`` places of all points in mm.
    wanted
        Which of them get a label, the most important first.
    sizes
        ``(n_wanted, 2)`` width and height of the labels in mm.
    frame
        Width and height of the frame in mm; its lower left corner is (0, 0).

    Returns
    -------
    list
        The middle of each wanted label, None where there was no room.
    """
    turns = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    offsets = np.concatenate([distance * turns for distance in _DISTANCES])
    taken = np.empty((0, 4))
    found: list[tuple[float, float] | None] = []
    for index, size in zip(wanted, sizes, strict=True):
        # A wide label stands farther off to the side.
        sideways = np.sign(offsets[:, 0].round(6)) * (size[0] - size[1]) / 2
        middles = points[index] + offsets + np.stack([sideways, np.zeros(len(offsets))], axis=1)
        boxes = np.concatenate([middles - size / 2, middles + size / 2], axis=1)
        clear = (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] <= frame).all(axis=1)
        clear &= ~_meet(boxes, taken).any(axis=1)
        if not clear.any():
            found.append(None)
            continue
        covered = _meet(boxes, np.concatenate([points - 0.9, points + 0.9], axis=1)).sum(axis=1)
        best = int(np.argmin(np.where(clear, covered, np.inf)))
        taken = np.concatenate([taken, boxes[best : best + 1]])
        found.append((float(middles[best, 0]), float(middles[best, 1])))
    return found


def _meet(boxes: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """Whether each box ``(left, bottom, right, top)`` meets each other: ``(n_boxes, n_others)``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray((low < high).all(axis=2))


def _list(sheet: Sheet, named: Sequence[Point], comparison: Comparison) -> None:
    """List rank, size, metric and name at the right."""
    left, top = _LEFT + _WIDE + 8, sheet.height - _TOP - _LINE / 2
    ends = (left + 6, left + 26, left + 46)
    heads = ("#", "parameters", shorten(comparison.decisive, 18, SMALL_PT))
    for x, name in zip(ends, heads, strict=True):
        sheet.write(x, top, name, ha="right", fontsize=SMALL_PT, color=GREY)
    sheet.write(left + 49, top, "configuration", fontsize=SMALL_PT, color=GREY)
    for line, (rank, one, size, mean) in enumerate(named, start=1):
        y = top - line * _LINE
        for x, text in zip(ends, (f"{rank}", short_number(size), f"{mean:.3f}"), strict=True):
            sheet.write(x, y, text, ha="right", fontsize=SMALL_PT)
        marks = shorten(", ".join(comparison.marks(one)), 32, SMALL_PT, "bold")
        sheet.write(left + _KEY, y, marks, ha="right", fontsize=SMALL_PT, weight="bold",
            color=VERMILION,
        )  # fmt: skip
        room = _KEY - 49 - (text_width(marks, SMALL_PT, "bold") + 3 if marks else 0)
        sheet.write(left + 49, y, shorten(one.name, room, SMALL_PT), fontsize=SMALL_PT)


def _draw_points(axes: Axes, points: Sequence[Point], comparison: Comparison) -> None:
    crowd = len(points) > 40
    for _, one, size, mean in points:
        colour, interval = BLUE if one.in_group else "#8a8a8a", _interval(one, comparison.decisive)
        axes.errorbar(
            size, mean, np.maximum([[mean - interval[0]], [interval[1] - mean]], 0), color=colour,
            fmt="o" if one.in_group else "s", markersize=4 if crowd else 5,
            markerfacecolor=colour if one.in_group else "white", markeredgewidth=1,
            elinewidth=0.5 if crowd else 0.9, gid="point", zorder=3 if one.in_group else 2,
            ecolor=(colour, 0.5 if crowd else 1.0),
        )  # fmt: skip
        if comparison.marks(one):
            axes.plot(
                size, mean, "o", markersize=10, markerfacecolor="none", color=VERMILION,
                markeredgewidth=1.3, gid="marked", zorder=4,
            )  # fmt: skip


def _interval(one: Standing, metric: str) -> tuple[float, float]:
    found = one.estimates[metric].over_records
    return found.low, found.high


def _scales(axes: Axes, points: Sequence[Point], metric: str) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    sizes = [size for *_, size, _ in points]
    margin = max((max(sizes) / min(sizes)) ** 0.06, 1.15)
    low, high = min(sizes) / margin, max(sizes) * margin
    axes.set(xscale="log", xlim=(low, high))
    ends = np.array([(mean, *_interval(one, metric)) for _, one, _, mean in points])
    bottom, top = float(np.nanmin(ends)), float(np.nanmax(ends))
    room = 0.05 * (top - bottom) or 0.02
    axes.set_ylim(bottom - room, top + room)
    axes.xaxis.set_major_locator(FixedLocator(list(_ticks(low, high))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
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


def _write_ranks(axes: Axes, points: Sequence[Point], named: Sequence[Point]) -> list[Point]:
    """Write ranks beside points, clear of each other; return those that found room."""
    pixels = axes.transData.transform([(size, mean) for *_, size, mean in points])
    at_mm = (pixels - axes.bbox.min) * MM_PER_INCH / DPI
    sizes = np.array([(text_width(f"{rank}", SMALL_PT, "bold") + 0.6, 2.8) for rank, *_ in named])
    wanted = [points.index(point) for point in named]
    placed = []
    for point, at, middle in zip(
        named, at_mm[wanted], label_places(at_mm, wanted, sizes, (_WIDE, _TALL)), strict=True
    ):
        if middle is None:
            continue
        placed.append(point)
        if math.dist(at, middle) > 6:
            axes.plot(
                (at[0] / _WIDE, middle[0] / _WIDE), (at[1] / _TALL, middle[1] / _TALL), color=GREY,
                linewidth=0.5, transform=axes.transAxes, zorder=4, gid="leader",
            )  # fmt: skip
        axes.text(
            middle[0] / _WIDE, middle[1] / _TALL, f"{point[0]}", transform=axes.transAxes,
            ha="center", va="center_baseline", fontsize=SMALL_PT, weight="bold", gid="rank",
            zorder=5, bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
    return placed


def _explain(sheet: Sheet, level: float) -> None:
    from matplotlib.lines import Line2D

    handles = {
        f"mean, {level:.0%} interval over records": Line2D(
            [], [], marker="s", color="#8a8a8a", markerfacecolor="white", markersize=5
        ),
        "no smaller one is better": Line2D([], [], color=GREY, linestyle="--", linewidth=0.9),
        "marked in the list": Line2D(
            [], [], marker="o", markersize=9, markerfacecolor="none", color=VERMILION, linewidth=0
        ),
        NOT_SIGNIFICANT: Line2D([], [], marker="o", color=BLUE, markersize=5),
    }
    sheet.legend(_LEFT, 11, list(handles.values()), list(handles), ncols=2)
