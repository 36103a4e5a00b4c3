"""Reliability diagrams: is what is called 20 % positive in 20 % of the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures.sheet import (
    EDGE,
    GREY,
    LINE_STYLES,
    PALETTE,
    SMALL_PT,
    head,
    legend,
    place,
    plain_axes,
    sheet,
    shorten,
    size_mm,
)
from ecg_mlflow.reports.figures.squares import LEFT, MOST_CURVES, SIDE, TOP, Floats, named, square

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KEY = 52.0


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often records were positive among those of about one probability.

    Attributes
    ----------
    name
        Such as ``as trained`` or ``calibrated``.
    probability, observed
        ``(n_bins,)`` mean probability and share of positive records; NaN in empty bins.
    low, high
        ``(n_bins,)`` Wilson bounds of the share.
    counts, edges
        ``(n_bars,)`` records and ``(n_bars + 1,)`` probabilities of a histogram, of the same bins
        or others.
    note
        What the key says of it, such as ``ECE 0.04``.
    """

    name: str
    probability: Floats
    observed: Floats
    low: Floats
    high: Floats
    counts: npt.NDArray[np.int64]
    edges: Floats
    note: str = ""


def reliability_plot(
    reliabilities: Sequence[Reliability], *, title: str = "", level: float = 0.95
) -> Figure:
    """Draw the share of positive records against probability, and how many records there are.

    Parameters
    ----------
    reliabilities
        Such as before and after calibration; at most `MOST_CURVES`.
    title
        Above the plot.
    level
        Of the Wilson bounds.

    Raises
    ------
    PredictionsError
        If there are none, or more than can be told apart.
    """
    if not 0 < len(reliabilities) <= MOST_CURVES:
        raise PredictionsError(
            f"1 to {MOST_CURVES} reliability curves can be drawn together; given are "
            f"{len(reliabilities)}"
        )
    low, tall = EDGE + 9.0, 26.0
    figure = sheet(LEFT + SIDE + 16 + _KEY + EDGE, TOP + SIDE + 6 + tall + low)
    head(figure, title, f"bars: {level:.0%} of Wilson for the share of positive records")
    axes = square(figure, LEFT, low + tall + 6, "", "share of positive records")
    below = place(figure, LEFT, low, SIDE, tall)
    plain_axes(below)
    # As far beyond 0 and 1 as a marker or a bar's end needs.
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    below.set(xlim=(-0.02, 1.02), yscale="symlog")
    named(below, "probability", "records")
    axes.tick_params(labelbottom=False)
    (line,) = axes.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1, gid="perfect")
    handles, names = [line], ["perfect"]
    for index, one in enumerate(reliabilities):
        filled = np.isfinite(one.observed)
        spans = np.stack([one.observed - one.low, one.high - one.observed])[:, filled]
        bars = axes.errorbar(
            one.probability[filled], one.observed[filled], np.maximum(spans, 0), fmt="o",
            color=PALETTE[index], markersize=4, elinewidth=1, capsize=2, gid="reliability",
        )  # fmt: skip
        axes.plot(
            one.probability[filled], one.observed[filled], color=PALETTE[index], linewidth=0.8,
            linestyle=LINE_STYLES[index],
        )  # fmt: skip
        below.stairs(
            one.counts, one.edges, color=PALETTE[index], linewidth=1.3,
            linestyle=LINE_STYLES[index], gid="counts",
        )  # fmt: skip
        handles.insert(-1, bars.lines[0])
        note = f"\n{shorten(one.note, _KEY, SMALL_PT)}" if one.note else ""
        names.insert(-1, f"{shorten(one.name, _KEY, SMALL_PT)}{note}")
    most = max(int(one.counts.max()) for one in reliabilities)
    below.set_ylim(0, max(2, 1.5 * most))
    below.set_yticks(_count_ticks(most))
    below.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    below.minorticks_off()
    top = size_mm(figure)[1] - TOP - 2
    legend(figure, LEFT + SIDE + 6, top, handles, names, fontsize=SMALL_PT)
    return figure


def _count_ticks(most: int) -> list[int]:
    """Zero and powers of ten; every other one where they would stand too close."""
    powers = [10**digits for digits in range(len(str(most)))]
    return [0, *(powers if len(powers) <= 4 else powers[1::2])]
