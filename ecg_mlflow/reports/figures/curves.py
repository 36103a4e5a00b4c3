"""ROC and precision-recall curves with their bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures.sheet import (
    EDGE,
    GREY,
    LINE_STYLES,
    PALETTE,
    SMALL_PT,
    head,
    legend,
    sheet,
    shorten,
    text_width,
)
from ecg_mlflow.reports.figures.squares import LEFT, MOST_CURVES, SIDE, TOP, Floats, square

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_BETWEEN, _BOTTOM, _LINE = 24.0, 14.0, 4.3


@dataclass(frozen=True, eq=False)
class Curve:
    """One configuration's curve with its band.

    Attributes
    ----------
    name
        Of the configuration.
    x, y
        ``(n_points,)``, `x` ascending: false positive rate and sensitivity, or recall and
        precision.
    low, high
        ``(n_points,)`` bounds of `y`; None where there are none.
    area
        What the key says of it, such as ``0.93 [0.90, 0.95]``.
    """

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    area: str = ""


def ranking_plot(
    roc: Sequence[Curve],
    precision_recall: Sequence[Curve],
    prevalence: float,
    *,
    title: str = "",
    level: float = 0.95,
) -> Figure:
    """Draw ROC and precision-recall curves side by side, each with what chance would give.

    Parameters
    ----------
    roc, precision_recall
        The best first; beyond `MOST_CURVES` they are left out, and the plot says how many.
    prevalence
        Share of positive records: the precision of chance.
    title
        Above the plot.
    level
        Of the bands.

    Raises
    ------
    PredictionsError
        If there are no curves.
    """
    if not roc or not precision_recall:
        raise PredictionsError("a plot of curves needs at least one of each kind")
    shown = min(MOST_CURVES, max(len(roc), len(precision_recall)))
    keys = (shown + 1) * _LINE
    figure = sheet(LEFT + 2 * SIDE + _BETWEEN + EDGE + 3, TOP + SIDE + _BOTTOM + keys + EDGE)
    left = max(len(roc), len(precision_recall)) - shown
    note = f"bands: {level:.0%}" + (f"; {left} more configurations are left out" if left else "")
    head(figure, title, note)
    chance = np.array([0.0, 1.0])
    for number, (curves, label, across, up, at) in enumerate((
        (roc, "AUC", "1 - specificity", "sensitivity", chance),
        (precision_recall, "AP", "recall (sensitivity)", "precision",
         np.full(2, prevalence)),
    )):  # fmt: skip
        x = LEFT + number * (SIDE + _BETWEEN)
        axes = square(figure, x, EDGE + keys + _BOTTOM, across, up)
        (line,) = axes.plot(chance, at, ":", color=GREY, linewidth=1, gid="chance", label="chance")
        handles, names = [line], ["chance" if at is chance else f"prevalence {prevalence:.3f}"]
        for index, curve in enumerate(curves[:MOST_CURVES]):
            handles.insert(-1, _draw_curve(axes, curve, index))
            area = f"   {label} {curve.area}" if curve.area else ""
            room = SIDE - text_width(area, SMALL_PT)
            names.insert(-1, f"{shorten(curve.name, room, SMALL_PT)}{area}")
        legend(figure, x - 8, EDGE + keys, handles, names, fontsize=SMALL_PT, handlelength=2.5)
    return figure


def _draw_curve(axes: Axes, curve: Curve, index: int) -> Line2D:
    colour = PALETTE[index]
    if curve.low is not None and curve.high is not None:
        axes.fill_between(
            curve.x, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0, gid="band"
        )
    (line,) = axes.plot(
        curve.x, curve.y, color=colour, linewidth=1.4, linestyle=LINE_STYLES[index], gid="curve",
        clip_on=False,
    )  # fmt: skip
    return line
