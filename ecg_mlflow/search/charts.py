"""The drawing of a search, on figures that no global state knows of.

Optuna's own plots go through pyplot, whose windows, style and open figures are the whole process's.

matplotlib is imported when a figure is drawn: half a second that a driver need not spend.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int_]
Column: TypeAlias = "Sequence[str | float | None]"
Objectives: TypeAlias = "Sequence[tuple[str, bool]]"
"""Name of each, and whether it is maximized."""

_ABSENT = "-"
_MOST_COLUMNS = 4
_MOST_TICKS = 16
_MOST_NUMBERED = 12
_LONGEST = 22
_WIDE = 100
"""Ratio of the largest to the least value from which on a scale is logarithmic."""


def history(
    numbers: Integers, reached: Floats, others: Mapping[str, Sequence[int]], objectives: Objectives
) -> Figure:
    """Draw what was reached by trial, and the best so far.

    Parameters
    ----------
    numbers
        Of the complete trials, ascending, shape (n,).
    reached
        Their values, shape (n, n_objectives).
    others
        Numbers of trials that have no values to compare, by what they are.
    objectives
        One panel each.
    """
    figure, panels = _panels(len(objectives), 1, (7.0, 2.6), share_x=True)
    for i, ((name, is_maximized), [axes]) in enumerate(zip(objectives, panels, strict=True)):
        best = (np.maximum if is_maximized else np.minimum).accumulate(reached[:, i])
        axes.plot(numbers, reached[:, i], "o", color="C0", markersize=4, label="complete")
        axes.step(numbers, best, where="post", color="C3", label="best so far")
        for (label, where), marker in zip(others.items(), "|x", strict=False):
            if where:  # along the lower edge
                axes.plot(
                    where, [0.03] * len(where), marker, color="0.4", markersize=6, label=label,
                    transform=axes.get_xaxis_transform(),
                )  # fmt: skip
        axes.set_ylabel(_short(name))
        axes.set_yscale(_scale(reached[:, i]))
    last = panels[-1][0]
    last.set_xlabel("trial")
    last.locator_params(axis="x", integer=True)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=4, frameon=False)
    return figure


def importances(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the options' importances for each objective as bars, the greatest on top.

    Parameters
    ----------
    shares
        By objective and option, between 0 and 1.
    """
    options = sorted(
        {option for one in shares.values() for option in one},
        key=lambda option: (sum(one.get(option, 0.0) for one in shares.values()), option),
    )
    height = 0.8 / len(shares)
    figure, [[axes]] = _panels(1, 1, (7.0, 1.2 + len(options) * (0.2 + 0.2 * len(shares))))
    for i, (name, one) in enumerate(shares.items()):
        widths = [one.get(option, 0.0) for option in options]
        places = np.arange(len(options)) + 0.4 - height * (i + 0.5)
        bars = axes.barh(places, widths, 0.9 * height, color=f"C{i}", label=_short(name))
        axes.bar_label(bars, [f"{width:.2f}" for width in widths], padding=3, fontsize=8)
    axes.set_yticks(range(len(options)), [_short(option) for option in options])
    axes.set_xlabel("share of the variance")
    axes.margins(x=0.1)
    figure.legend(loc="outside upper right", ncols=len(shares), frameon=False)
    return figure


def slices(
    numbers: Integers,
    reached: Floats,
    columns: Mapping[str, Column],
    objectives: Objectives,
    log: Container[str],
) -> Figure:
    """Draw what was reached by the value of each option.

    Parameters
    ----------
    numbers, reached
        As for `history`; numbers are the points' colours.
    columns
        By option, its value in each trial: a string, or a number if it is a range; None in trials
        without it.
    objectives
        One row of panels each, and again where there are more options than fit into a row.
    log
        Options on a logarithmic scale.
    """
    width = min(len(columns), _MOST_COLUMNS)
    items = list(columns.items())
    blocks = [items[i : i + width] for i in range(0, len(items), width)]
    figure, panels = _panels(len(blocks) * len(objectives), width, (max(2.6, 6.0 / width), 2.6))
    rows = iter(panels)
    for block, (i, (name, _)) in itertools.product(blocks, enumerate(objectives)):
        row = next(rows)
        for axes in row[len(block) :]:
            axes.set_visible(False)
        for axes, (option, column) in zip(row, block, strict=False):
            points = axes.scatter(
                _place(axes, column, option in log), reached[:, i], 14, numbers,
                vmin=numbers[0], vmax=numbers[-1],
            )  # fmt: skip
            axes.set_title(_short(option), fontsize=10)
            axes.set_yscale(_scale(reached[:, i]))
            if axes is row[0]:
                axes.set_ylabel(_short(name))
            else:
                axes.sharey(row[0])
                axes.tick_params(axis="y", which="both", labelleft=False)
    figure.colorbar(points, ax=[axes for row in panels for axes in row], label="trial", aspect=40)
    return figure


def pareto_front(
    numbers: Integers, reached: Floats, front: Sequence[int], objectives: Objectives
) -> Figure:
    """Draw each two objectives against each other.

    Parameters
    ----------
    numbers, reached
        As for `history`.
    front
        Which of the trials are beaten by none.
    objectives
        Two, or few.
    """
    pairs = list(itertools.combinations(range(len(objectives)), 2))
    figure, [row] = _panels(1, len(pairs), (5.0, 4.2) if len(pairs) == 1 else (4.0, 3.6))
    for axes, pair in zip(row, pairs, strict=True):
        x, y = reached[:, pair].T
        axes.plot(x, y, "o", color="0.75", markersize=4, label="others")
        axes.plot(x[front], y[front], "o", color="C3", markersize=5, label="beaten by none")
        if len(pairs) == 1 and len(front) <= _MOST_NUMBERED:
            for one in front:
                axes.annotate(
                    str(numbers[one]), (x[one], y[one]), (4, 4), textcoords="offset points",
                    fontsize=8,
                )  # fmt: skip
        labels = [
            f"{_short(objectives[i][0])}\n({'more' if objectives[i][1] else 'less'} is better)"
            for i in pair
        ]
        axes.set(xlabel=labels[0], ylabel=labels[1], xscale=_scale(x), yscale=_scale(y))
    handles, labels = row[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    return figure


def _place(axes: Axes, column: Column, is_log: bool) -> Floats:
    """Set an axis up for an option; return where each trial stands on it, NaN where nowhere."""
    if not any(isinstance(x, str) for x in column):
        axes.set_xscale("log" if is_log else "linear")
        return np.array([np.nan if x is None else float(x) for x in column])
    names = _in_order(column)
    every = -(-len(names) // _MOST_TICKS)
    shown = [_short(name) for name in names[::every]]
    axes.set_xticks(range(0, len(names), every), shown)
    # Upright ones stay below their own panel.
    is_long = sum(map(len, shown)) > 20
    axes.tick_params(axis="x", rotation=90 if is_long else 0, labelsize=8)
    axes.set_xlim(-0.6, len(names) - 0.4)
    # Beside each other, so that they do not cover each other. By the golden ratio, so that
    # neighbours in time are not neighbours here.
    places = np.array([names.index(_ABSENT if x is None else str(x)) for x in column])
    return np.asarray(places + 0.5 * (np.arange(len(column)) * 0.618034 % 1 - 0.5), np.float64)


def _in_order(column: Column) -> list[str]:
    """Sort values as numbers if they are some, otherwise by first appearance; none comes last."""
    given = list(dict.fromkeys(str(x) for x in column if x is not None))
    with contextlib.suppress(ValueError):
        given.sort(key=float)
    return [*given, *([_ABSENT] if None in column and _ABSENT not in given else [])]


def _scale(values: Floats) -> str:
    is_wide = bool(values.min() > 0 and values.max() > _WIDE * values.min())
    return "log" if is_wide else "linear"


def _short(name: str) -> str:
    """Cut a long name in its middle, for its ends tell the most."""
    half = _LONGEST // 2
    return name if len(name) <= _LONGEST else f"{name[:half]}…{name[1 - half :]}"


def _panels(
    n_rows: int, n_columns: int, size: tuple[float, float], *, share_x: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure of panels; `size` is one panel's, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * n_columns, size[1] * n_rows), dpi=120, layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharex=share_x).tolist()
    for axes in itertools.chain(*panels):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    return figure, panels
