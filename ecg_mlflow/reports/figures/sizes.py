"""A metric against the number of parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

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
    from matplotlib.transforms import Bbox

Floats = npt.NDArray[np.float64]

MOST_NAMED = 18
_LEFT, _WIDE, _TALL, _KEY, _TOP, _BOTTOM = 18, 115, 96, 128, 16, 26
_LIST = _LEFT + _WIDE + 8
#: Distances from a point in mm, and directions, that are tried; beside is better than above.
_DISTANCES = (3.4, 5.0, 7.5, 10.0, 14.0, 18.0)
_ANGLES = np.pi * np.array([0, 1, 0.25, 0.75, -0.25, -0.75, 0.12, 0.88, -0.12, -0.88, 0.5, -0.5])

#: How configurations look that are in the group of the best, or not, or marked in the list.
_GROUP: Look = {"color": BLUE, "marker": "o"}
_OTHERS: Look = {"color": "#8a8a8a", "marker": "s", "markerfacecolor": "white"}
_MARKED: Look = {"color": VERMILION, "marker": "o", "markersize": 10, "markerfacecolor": "none",
                 "markeredgewidth": 1.3, "linewidth": 0}  # fmt: skip
_FRONT: Look = {"color": GREY, "linestyle": "--", "linewidth": 0.9}


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

    def importance(point: Point) -> tuple[bool, bool, bool, bool, int]:
        rank, one, *_ = point
        return rank != points[0].rank, not comparison.marks(one), point not in front, \
            not one.in_group, rank  # fmt: skip

    named = sorted(sorted(points, key=importance)[:MOST_NAMED], key=lambda point: point.rank)
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
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"


def label_places(
    points: Floats, wanted: Sequence[int], sizes: Floats, frame: tuple[float, float]
) -> list[Bbox | None]:
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
        The box of each wanted label, None where there was no room.
    """
    from matplotlib.transforms import Bbox

    dots = [Bbox([point - 0.9, point + 0.9]) for point in points]
    found: list[Bbox | None] = []
    for index, size in zip(wanted, sizes, strict=True):
        clear = []
        for distance, angle in product(_DISTANCES, _ANGLES):
            turn = np.array([np.cos(angle), np.sin(angle)]).round(6)
            # A wide label stands farther off to the side.
            sideways = np.sign(turn[0]) * (size[0] - size[1]) / 2
            middle = points[index] + distance * turn + [sideways, 0]
            box = Bbox([middle - size / 2, middle + size / 2])
            is_inside = min(box.min) >= 0 and np.less_equal(box.max, frame).all()
            if is_inside and not box.count_overlaps([one for one in found if one]):
                clear.append(box)
        found.append(min(clear, key=lambda box: box.count_overlaps(dots), default=None))
    return found


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
    """Write ranks beside points, clear of each other; return those that found room."""
    pixels = axes.transData.transform([(point.size, point.mean) for point in points])
    at_mm = (pixels - axes.bbox.min) * MM_PER_INCH / DPI
    widths = [text_width(f"{point.rank}", SMALL_PT, "bold") + 0.6 for point in named]
    sizes = np.array([(width, 2.8) for width in widths])
    wanted = [points.index(point) for point in named]
    places = label_places(at_mm, wanted, sizes, (_WIDE, _TALL))
    found = [
        (point, at, place.min + size / 2)
        for point, at, place, size in zip(named, at_mm[wanted], places, sizes, strict=True)
        if place
    ]
    for point, at, middle in found:
        share = middle / (_WIDE, _TALL)
        axes.annotate(
            f"{point.rank}", at / (_WIDE, _TALL), share, "axes fraction", "axes fraction",
            ha="center", va="center_baseline", fontsize=SMALL_PT, weight="bold", gid="rank",
            zorder=5, bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5},
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0,
                        "shrinkB": 0} if math.dist(at, middle) > 6 else None,
        )  # fmt: skip
    return [point for point, *_ in found]
