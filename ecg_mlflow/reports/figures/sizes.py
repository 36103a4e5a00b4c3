"""A metric against the number of parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures.forest import NOT_SIGNIFICANT
from ecg_mlflow.reports.figures.sheet import (
    BLUE,
    EDGE,
    GREY,
    PIXELS_PER_MM,
    SMALL_PT,
    TEXT_PT,
    VERMILION,
    Look,
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
_LEFT, _WIDE, _TALL, _KEY, _TOP, _BOTTOM = 18, 115, 96, 128, 16, 26
_LIST = _LEFT + _WIDE + 8
#: Half of a point's width, and places around it that are tried for its rank, the nearest first; at
#: one distance beside is better than above.
_DOT = 0.9 * PIXELS_PER_MM
_ANGLES = np.pi * np.array([0, 1, 0.25, 0.75, -0.25, -0.75, 0.12, 0.88, -0.12, -0.88, 0.5, -0.5])
_DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1).round(6)
_OFFSETS = np.concatenate([mm * PIXELS_PER_MM * _DIRECTIONS for mm in (3.4, 5, 7.5, 10, 14, 18)])

#: How configurations look that are in the group of the best, or not, or marked in the list.
_GROUP: Look = {"color": BLUE, "marker": "o"}
_OTHERS: Look = {"color": "#8a8a8a", "marker": "s", "markerfacecolor": "white"}
_MARKED: Look = {"color": VERMILION, "marker": "o", "markersize": 10, "markerfacecolor": "none",
                 "markeredgewidth": 1.3, "linewidth": 0}  # fmt: skip
_FRONT: Look = {"color": GREY, "linestyle": "--", "linewidth": 0.9}
#: Behind a rank, and from a rank that is far from its point.
_BEHIND: Look = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5}
_ARROW: Look = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}


class Point(NamedTuple):
    """A configuration: its rank, number of parameters, and mean of the decisive metric."""

    rank: int
    one: Standing
    size: float
    mean: float


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
    points = [
        Point(rank, one, one.parameters, one.estimates[metric].mean)
        for rank, one in enumerate(comparison.standings, start=1)
        if one.parameters and math.isfinite(one.estimates[metric].mean)
    ]
    if not points:
        raise PredictionsError(
            f"none of {n} configurations has a number of parameters and a {metric}"
        )
    left = f"{n - len(points)} of {n} configurations have no such number and are left out"
    note = left if len(points) < n else ""
    sheet = Sheet(_LIST + _KEY + EDGE, _TOP + _TALL + _BOTTOM, title, note)
    axes = sheet.place(_LEFT, _BOTTOM, _WIDE, _TALL)
    plain_axes(axes)
    _scale(axes, points, metric)
    _draw_points(axes, points, comparison)
    front = size_front(points, higher_is_better(metric))
    sizes, means = ([getattr(point, name) for point in front] for name in ("size", "mean"))
    axes.step(sizes, means, where="post", gid="front", zorder=1.5, **_FRONT)
    named = sorted(
        points,
        key=lambda point: (
            point is not points[0] and not comparison.marks(point.one),
            point not in front,
            not point.one.in_group,
        ),
    )
    named = sorted(named[:MOST_NAMED], key=lambda point: point.rank)
    _list(sheet, _write_ranks(axes, points, named), comparison)
    entries: list[tuple[str, Look]] = [
        (f"mean, {comparison.level:.0%} interval over records", _OTHERS | {"markersize": 5}),
        ("no smaller one is better", _FRONT),
        ("marked in the list", _MARKED | {"markersize": 9, "markeredgewidth": 1}),
        (NOT_SIGNIFICANT, _GROUP | {"markersize": 5}),
    ]
    sheet.legend(_LEFT, 11, entries, ncols=2)
    return sheet.figure


def size_front(points: Sequence[Point], higher_is_better: bool = True) -> list[Point]:
    """Return those whose metric no other with as few parameters exceeds, smallest first."""
    sign = -1 if higher_is_better else 1
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (one.size, sign * one.mean)):
        if not front or sign * point.mean < sign * front[-1].mean:
            front.append(point)
    return front


def short_number(value: float) -> str:
    """Return ``850``, ``2.4k`` or ``11.2M``."""
    rounded = float(f"{value:.3g}")
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if rounded >= size:
            return f"{rounded / size:g}{letter}"
    return f"{rounded:g}"


def _list(sheet: Sheet, named: Sequence[Point], comparison: Comparison) -> None:
    """List rank, size, metric and name at the right."""
    top = sheet.height - _TOP - 2.5
    marks = [shorten(", ".join(comparison.marks(p.one)), 32, SMALL_PT, "bold") for p in named]
    rooms = [_KEY - 49 - (text_width(mark, SMALL_PT, "bold") + 3) * bool(mark) for mark in marks]
    names = [shorten(p.one.name, room, SMALL_PT) for p, room in zip(named, rooms, strict=True)]
    numbers = {
        6: ("#", [f"{point.rank}" for point in named]),
        26: ("parameters", [short_number(point.size) for point in named]),
        46: (shorten(comparison.decisive, 18, SMALL_PT), [f"{point.mean:.3f}" for point in named]),
    }
    for x, (heading, texts) in numbers.items():
        sheet.column(_LIST + x, top, heading, texts, ha="right", fontsize=SMALL_PT)
    sheet.column(_LIST + 49, top, "configuration", names, fontsize=SMALL_PT)
    sheet.column(
        _LIST + _KEY, top, "", marks, ha="right", fontsize=SMALL_PT, weight="bold", color=VERMILION
    )


def _draw_points(axes: Axes, points: Sequence[Point], comparison: Comparison) -> None:
    crowd = len(points) > 40
    for _, one, size, mean in points:
        look = _GROUP if one.in_group else _OTHERS
        interval = one.estimates[comparison.decisive].over_records
        axes.errorbar(
            size, mean, np.maximum([[mean - interval.low], [interval.high - mean]], 0), gid="point",
            markersize=4 if crowd else 5, elinewidth=0.5 if crowd else 0.9, linestyle="none",
            ecolor=(look["color"], 0.5 if crowd else 1.0), zorder=3 if one.in_group else 2, **look,
        )  # fmt: skip
        if comparison.marks(one):
            axes.plot(size, mean, gid="marked", zorder=4, **_MARKED)


def _scale(axes: Axes, points: Sequence[Point], metric: str) -> None:
    """Make room for all points and intervals, with round numbers on a logarithmic axis."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    sizes = [point.size for point in points]
    margin = max((max(sizes) / min(sizes)) ** 0.06, 1.15)
    low, high = min(sizes) / margin, max(sizes) * margin
    intervals = [point.one.estimates[metric].over_records for point in points]
    ends = [(p.mean, one.low, one.high) for p, one in zip(points, intervals, strict=True)]
    bottom, top = float(np.nanmin(ends)), float(np.nanmax(ends))
    room = 0.05 * (top - bottom) or 0.02
    axes.set(xscale="log", xlim=(low, high), ylim=(bottom - room, top + room))
    decades = math.log10(high / low)
    logarithmic = LogLocator(subs=(1,) if decades > 4 else (1, 2, 5))
    axes.xaxis.set_major_locator(MaxNLocator(8) if decades < 0.7 else logarithmic)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.set_xlabel("parameters", fontsize=TEXT_PT)
    axes.set_ylabel(shorten(metric, _TALL), fontsize=TEXT_PT, parse_math=False)


def _write_ranks(axes: Axes, points: Sequence[Point], named: Sequence[Point]) -> list[Point]:
    """Write ranks beside points, clear of each other; return the points whose rank found room.

    Of the places inside the axes that are clear of the ranks before it, a rank takes the one that
    covers the fewest points, and of these the nearest.
    """
    pixels = axes.transData.transform([(point.size, point.mean) for point in points])
    dots = np.stack([pixels - _DOT, pixels + _DOT], axis=1)
    taken, written = np.empty((0, 2, 2)), []
    for point in named:
        at = pixels[points.index(point)]
        width = text_width(f"{point.rank}", SMALL_PT, "bold") + 0.6
        size = PIXELS_PER_MM * np.array([width, 2.8])
        # A wide rank stands farther off to the side.
        middles = at + _OFFSETS + np.sign(_OFFSETS[:, :1]) * [(size[0] - size[1]) / 2, 0]
        boxes = np.stack([middles - size / 2, middles + size / 2], axis=1)
        is_inside = (boxes >= axes.bbox.min).all((1, 2)) & (boxes <= axes.bbox.max).all((1, 2))
        is_clear = is_inside & (_overlaps(boxes, taken) == 0)
        if not is_clear.any():
            continue
        best = np.argmin(np.where(is_clear, _overlaps(boxes, dots), len(dots) + 1))
        taken = np.append(taken, boxes[[best]], axis=0)
        written.append(point)
        x, y = axes.transAxes.inverted().transform(middles[best])
        axes.annotate(
            f"{point.rank}", (point.size, point.mean), (x, y), textcoords="axes fraction",
            ha="center", va="center_baseline", fontsize=SMALL_PT, weight="bold", gid="rank",
            zorder=5, bbox=_BEHIND,
            arrowprops=_ARROW if math.dist(at, middles[best]) > 6 * PIXELS_PER_MM else None,
        )  # fmt: skip
    return written


def _overlaps(boxes: Floats, others: Floats) -> npt.NDArray[np.int64]:
    """Count the others that each of ``(n_boxes, 2, 2)`` boxes, low and high ends, overlaps."""
    low, high = others[:, 0], others[:, 1]
    meet = (boxes[:, None, 0] < high) & (boxes[:, None, 1] > low)
    return np.asarray(meet.all(axis=2).sum(axis=1))
