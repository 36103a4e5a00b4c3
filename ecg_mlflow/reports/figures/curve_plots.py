"""ROC and precision-recall curves with their bands, and reliability diagrams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.reports.figures.sheet import (
    EDGE,
    GREY,
    LOOKS,
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
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
        Name, curve, and the area below it in words, such as ``0.93 [0.90, 0.95]``: one to six, as
        there are colours.
    prevalence
        Share of positive records: the precision of chance.
    title
        Above the plot.
    level
        Of the bands.
    """
    keys = (len(roc) + 1) * _LINE
    size = (_LEFT + 2 * _SIDE + _BETWEEN + EDGE + 3, _TOP + _SIDE + _BOTTOM + keys + EDGE)
    sheet = Sheet(*size, title, f"bands: {level:.0%}")
    kinds = (
        (roc, "AUC", "1 - specificity", "sensitivity", "chance", (0.0, 1.0)),
        (precision_recall, "AP", "recall (sensitivity)", "precision",
         f"prevalence {prevalence:.3f}", (prevalence, prevalence)),
    )  # fmt: skip
    for number, (curves, area_name, across, up, chance, heights) in enumerate(kinds):
        x = _LEFT + number * (_SIDE + _BETWEEN)
        axes = _square(sheet, x, EDGE + keys + _BOTTOM, across, up)
        entries: list[tuple[str, Artist]] = []
        for (name, curve, area), look in zip(curves, LOOKS, strict=False):
            band = {"color": look["color"], "alpha": 0.13, "linewidth": 0, "gid": "band"}
            axes.fill_between(curve.x, curve.low, curve.high, **band)
            (line,) = axes.plot(curve.x, curve.y, linewidth=1.4, gid="curve", clip_on=False, **look)
            told = f"   {area_name} {area}" if area else ""
            room = _SIDE - text_width(told, SMALL_PT)
            entries.append((f"{shorten(name, room, SMALL_PT)}{told}", line))
        (line,) = axes.plot((0, 1), heights, ":", color=GREY, linewidth=1, gid="chance")
        entries.append((chance, line))
        sheet.legend(x - 8, EDGE + keys, entries, fontsize=SMALL_PT, handlelength=2.5)
    return sheet.figure


def reliability_plot(
    reliabilities: Mapping[str, Reliability], *, title: str = "", level: float = 0.95
) -> Figure:
    """Draw the share of positive records against probability, and a histogram of probabilities.

    Parameters
    ----------
    reliabilities
        By name, such as before and after calibration: one to six, as there are colours.
    title
        Above the plot.
    level
        Of the Wilson bounds.
    """
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
    entries: list[tuple[str, Artist]] = []
    most = 1
    for (name, one), look in zip(reliabilities.items(), LOOKS, strict=False):
        spans = np.stack([one.observed - one.low, one.high - one.observed])
        bars = axes.errorbar(
            one.probability, one.observed, np.maximum(spans, 0), fmt="o", color=look["color"],
            markersize=4, elinewidth=1, capsize=2, gid="reliability",
        )  # fmt: skip
        axes.plot(one.probability, one.observed, linewidth=0.8, **look)
        counts, edges = np.histogram(one.scores, bins=_BARS, range=(0, 1))
        below.stairs(counts, edges, linewidth=1.3, gid="counts", **look)
        most = max(most, int(counts.max()))
        error = f"expected calibration error {one.error:.3f}"
        entries.append((f"{shorten(name, _KEY, SMALL_PT)}\n{error}", bars.lines[0]))
    (line,) = axes.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1, gid="perfect")
    below.set_ylim(0, max(2, 1.5 * most))
    # Zero and powers of ten; every other one where they would stand too close.
    powers = [10**digits for digits in range(len(str(most)))]
    below.set_yticks([0, *(powers if len(powers) <= 4 else powers[1::2])])
    below.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    below.minorticks_off()
    top = sheet.height - _TOP - 2
    sheet.legend(_LEFT + _SIDE + 6, top, [*entries, ("perfect", line)], fontsize=SMALL_PT)
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
