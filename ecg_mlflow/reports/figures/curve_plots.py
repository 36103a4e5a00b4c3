"""ROC and precision-recall curves with their bands, and reliability diagrams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures.sheet import (
    EDGE,
    GREY,
    LINE_STYLES,
    PALETTE,
    SMALL_PT,
    TEXT_PT,
    Sheet,
    plain_axes,
    shorten,
    text_width,
)
from ecg_mlflow.stats.calibration import Reliability
from ecg_mlflow.stats.curves import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CURVES = len(PALETTE)
#: Bars of the histogram of probabilities.
_BARS = 20
_LEFT, _SIDE, _TOP = 17.0, 82.0, 16.0
_BETWEEN, _BOTTOM, _LINE = 24.0, 14.0, 4.3
_KEY, _TALL = 52.0, 26.0


def ranking_plot(
    roc: Sequence[tuple[str, Curve, str]],
    precision_recall: Sequence[tuple[str, Curve, str]],
    prevalence: float,
    *,
    title: str = "",
    level: float = 0.95,
) -> Figure:
    """Draw ROC and precision-recall curves side by side, each with that of chance.

    Parameters
    ----------
    roc, precision_recall
        Name, curve, and the area below it in words, such as ``0.93 [0.90, 0.95]``. The best come
        first; beyond `MOST_CURVES` they are left out, and the plot says how many.
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
    left = max(len(roc), len(precision_recall)) - MOST_CURVES
    keys = (min(len(roc), MOST_CURVES) + 1) * _LINE
    note = f"bands: {level:.0%}"
    note += f"; {left} more configurations are left out" if left > 0 else ""
    size = (_LEFT + 2 * _SIDE + _BETWEEN + EDGE + 3, _TOP + _SIDE + _BOTTOM + keys + EDGE)
    sheet = Sheet(*size, title, note)
    kinds = (
        (roc, "AUC", "1 - specificity", "sensitivity", "chance", (0.0, 1.0)),
        (precision_recall, "AP", "recall (sensitivity)", "precision",
         f"prevalence {prevalence:.3f}", (prevalence, prevalence)),
    )  # fmt: skip
    for number, (curves, area_name, across, up, chance, heights) in enumerate(kinds):
        x = _LEFT + number * (_SIDE + _BETWEEN)
        axes = _square(sheet, x, EDGE + keys + _BOTTOM, across, up)
        handles, names = [], []
        for index, (name, curve, area) in enumerate(curves[:MOST_CURVES]):
            colour = PALETTE[index]
            axes.fill_between(
                curve.x, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0, gid="band"
            )
            handles += axes.plot(
                curve.x, curve.y, color=colour, linewidth=1.4, linestyle=LINE_STYLES[index],
                gid="curve", clip_on=False,
            )  # fmt: skip
            told = f"   {area_name} {area}" if area else ""
            room = _SIDE - text_width(told, SMALL_PT)
            names.append(f"{shorten(name, room, SMALL_PT)}{told}")
        handles += axes.plot((0, 1), heights, ":", color=GREY, linewidth=1, gid="chance")
        sheet.legend(
            x - 8,
            EDGE + keys,
            handles,
            [*names, chance],
            fontsize=SMALL_PT,
            handlelength=2.5,
        )
    return sheet.figure


def reliability_plot(
    reliabilities: Mapping[str, Reliability], *, title: str = "", level: float = 0.95
) -> Figure:
    """Draw the share of positive records against probability, and a histogram of probabilities.

    Parameters
    ----------
    reliabilities
        By name, such as before and after calibration; at most `MOST_CURVES`.
    title
        Above the plot.
    level
        Of the Wilson bounds.

    Raises
    ------
    PredictionsError
        If there are none, or more than there are colours.
    """
    if not 0 < len(reliabilities) <= MOST_CURVES:
        raise PredictionsError(
            f"1 to {MOST_CURVES} reliability curves can be drawn together; given are "
            f"{len(reliabilities)}"
        )
    low = EDGE + 9.0
    note = f"bars: {level:.0%} Wilson interval of the share of positive records"
    size = (_LEFT + _SIDE + 16 + _KEY + EDGE, _TOP + _SIDE + 6 + _TALL + low)
    sheet = Sheet(*size, title, note)
    axes = _square(sheet, _LEFT, low + _TALL + 6, "", "share of positive records")
    below = sheet.place(_LEFT, low, _SIDE, _TALL)
    plain_axes(below)
    # As far beyond 0 and 1 as a marker or a bar's end needs.
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    below.set(xlim=(-0.02, 1.02), yscale="symlog")
    _name_axes(below, "probability", "records")
    axes.tick_params(labelbottom=False)
    handles, names, most = [], [], 1
    for index, (name, one) in enumerate(reliabilities.items()):
        look: dict[str, Any] = {"color": PALETTE[index], "linestyle": LINE_STYLES[index]}
        spans = np.stack([one.observed - one.low, one.high - one.observed])
        bars = axes.errorbar(
            one.probability, one.observed, np.maximum(spans, 0), fmt="o", color=PALETTE[index],
            markersize=4, elinewidth=1, capsize=2, gid="reliability",
        )  # fmt: skip
        axes.plot(one.probability, one.observed, linewidth=0.8, **look)
        counts, edges = np.histogram(one.scores, bins=_BARS, range=(0, 1))
        below.stairs(counts, edges, linewidth=1.3, gid="counts", **look)
        most = max(most, int(counts.max()))
        handles.append(bars.lines[0])
        error = f"expected calibration error {one.error:.3f}"
        names.append(f"{shorten(name, _KEY, SMALL_PT)}\n{error}")
    handles += axes.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1, gid="perfect")
    below.set_ylim(0, max(2, 1.5 * most))
    # Zero and powers of ten; every other one where they would stand too close.
    powers = [10**digits for digits in range(len(str(most)))]
    below.set_yticks([0, *(powers if len(powers) <= 4 else powers[1::2])])
    below.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    below.minorticks_off()
    top = sheet.height - _TOP - 2
    sheet.legend(_LEFT + _SIDE + 6, top, handles, [*names, "perfect"], fontsize=SMALL_PT)
    return sheet.figure


def _square(sheet: Sheet, x: float, y: float, across: str, up: str) -> Axes:
    """Axes from 0 to 1 in both directions."""
    axes = sheet.place(x, y, _SIDE, _SIDE)
    plain_axes(axes)
    ticks = np.linspace(0, 1, 6)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=ticks, yticks=ticks)
    _name_axes(axes, across, up)
    return axes


def _name_axes(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across, fontsize=TEXT_PT)
    axes.set_ylabel(up, fontsize=TEXT_PT)
