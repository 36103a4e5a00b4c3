"""Configurations, the best first, with their intervals over records and over repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures.forest import (
    MOST_ROWS,
    PLOT,
    TOLD,
    forest,
    heading,
    height_of,
    scale,
)
from ecg_mlflow.reports.figures.scores import Score, ranked, told
from ecg_mlflow.reports.figures.sheet import (
    BLUE,
    EDGE,
    GREY,
    GROUP,
    SKY,
    VERMILION,
    legend,
    shorten,
    write,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RANK, _NAME, _MARKS, _KEY = 8.0, 92.0, 32.0, 14.0


def interval_plot(
    scores: Sequence[Score],
    metric: str,
    *,
    title: str = "",
    level: float = 0.95,
    higher_is_better: bool = True,
    most_rows: int = MOST_ROWS,
) -> Figure:
    """Draw each configuration's mean and intervals, the best first.

    Parameters
    ----------
    scores
        One for each configuration, in any order.
    metric
        Its name.
    title
        Above the plot.
    level
        Of the intervals.
    higher_is_better
        Whether the best has the highest mean.
    most_rows
        The worst beyond so many are left out, except those with marks; the plot says how many.

    Raises
    ------
    PredictionsError
        If there are no scores.
    """
    if not scores:
        raise PredictionsError("a plot of intervals needs at least one configuration")
    every = ranked(scores, higher_is_better)
    marked = [row for row in every if row[1].marks]
    rest = [row for row in every if not row[1].marks][: max(0, most_rows - len(marked))]
    rows = sorted(marked + rest, key=lambda row: row[0])
    left = f"{len(every) - len(rows)} of {len(every)} configurations, worse ones, are left out"
    note = left if len(rows) < len(every) else ""
    before = _RANK + _NAME
    after = 3 + TOLD + (_MARKS if marked else 0)
    figure, axes = forest(len(rows), before, after, _KEY, title, note)
    right = EDGE + before + PLOT + 3
    heading(figure, EDGE + _RANK, "#", "right")
    heading(figure, EDGE + _RANK + 3, "configuration")
    heading(figure, right, f"mean [{level:.0%}, records]")
    for at, (rank, score) in enumerate(rows):
        height = height_of(figure, at)
        write(figure, EDGE + _RANK, height, f"{rank}", ha="right", color=GREY)
        write(figure, EDGE + _RANK + 3, height, shorten(score.name, _NAME - 6))
        write(figure, right, height, told(score.mean, score.over_records))
        marks = shorten(", ".join(score.marks), _MARKS, weight="bold")
        write(figure, right + TOLD, height, marks, weight="bold", color=BLUE)
        if at and rank > rows[at - 1][0] + 1:
            axes.axhline(at - 0.5, color=GREY, linewidth=0.6, linestyle=":", gid="left out")
        if score.in_group:
            axes.axhspan(at - 0.5, at + 0.5, color=GROUP, linewidth=0, gid="group", zorder=0)
        _draw_score(axes, at, score)
    scale(axes, [value for _, score in rows for value in _values(score)], metric)
    _explain(figure, level, any(score.in_group for score in scores))
    return figure


def _values(score: Score) -> tuple[float, ...]:
    return (
        score.mean, *score.repetitions, *(score.over_records or ()),
        *(score.over_repetitions or ()),
    )  # fmt: skip


def _draw_score(axes: Axes, at: int, score: Score) -> None:
    """Thick: over records; thin with ends: over repetitions; dots: the repetitions."""
    if score.over_records:
        axes.plot(
            score.over_records, (at, at), color=SKY, linewidth=5, solid_capstyle="butt",
            gid="over records", zorder=2,
        )  # fmt: skip
    if score.over_repetitions:
        axes.plot(
            score.over_repetitions, (at, at), "|-", color="black", linewidth=0.9, markersize=5,
            gid="over repetitions", zorder=3,
        )  # fmt: skip
    axes.plot(
        score.repetitions, np.full(len(score.repetitions), at + 0.33), "o", color=VERMILION,
        markersize=2.6, markeredgewidth=0, gid="repetitions", zorder=4,
    )  # fmt: skip
    axes.plot(
        score.mean, at, "D", color="white", markeredgecolor="black", markersize=4.5,
        markeredgewidth=1.0, gid="mean", zorder=5,
    )  # fmt: skip


def _explain(figure: Figure, level: float, group: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: dict[str, Artist] = {
        f"{level:.0%} interval over records": Line2D([], [], color=SKY, linewidth=5),
        f"{level:.0%} interval over repetitions": Line2D([], [], color="black", linewidth=0.9),
        "mean": Line2D([], [], marker="D", color="white", markeredgecolor="black", markersize=4.5),
        "one repetition": Line2D([], [], marker="o", color=VERMILION, markersize=3, linewidth=0),
    }
    if group:
        handles["can't be told from the best"] = Patch(color=GROUP)
    legend(figure, EDGE + 3, EDGE + _KEY - 4, list(handles.values()), list(handles), ncols=3)
