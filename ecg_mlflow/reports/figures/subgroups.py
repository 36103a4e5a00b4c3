"""A metric by subgroup of the records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

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
from ecg_mlflow.reports.figures.scores import Subgroup, told
from ecg_mlflow.reports.figures.sheet import BLUE, EDGE, GREY, shorten, write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GROUP = 68.0


def subgroup_plot(
    subgroups: Sequence[Subgroup],
    metric: str,
    *,
    overall: Subgroup | None = None,
    title: str = "",
    level: float = 0.95,
    most_rows: int = MOST_ROWS,
) -> Figure:
    """Draw a metric for each subgroup, in the order given, under the one of all records.

    Parameters
    ----------
    subgroups
        Those of one column one after the other.
    metric
        Its name.
    overall
        All records; its `value` names the row, and a broken line goes through its metric.
    title
        Above the plot.
    level
        Of the intervals.
    most_rows
        Further ones are left out; the plot says how many.

    Raises
    ------
    PredictionsError
        If there are no subgroups.
    """
    if not subgroups:
        raise PredictionsError("a plot of subgroups needs at least one of them")
    first = [] if overall is None else [overall]
    rows = first + list(subgroups)[:most_rows]
    left = len(subgroups) - most_rows
    note = f"{left} of {len(subgroups)} subgroups are left out" if left > 0 else ""
    figure, axes = forest(len(rows), _GROUP + 22, 3 + TOLD, 0.0, title, note)
    right = EDGE + _GROUP + 22 + PLOT + 3
    heading(figure, EDGE, "subgroup")
    heading(figure, EDGE + _GROUP, "records", "right")
    heading(figure, EDGE + _GROUP + 17, "positive", "right")
    heading(figure, right, f"{shorten(metric, TOLD - 14)} [{level:.0%}]")
    for at, one in enumerate(rows):
        height = height_of(figure, at)
        name = f"{one.column}: {one.value}" if one.column else one.value
        weight = "bold" if one is overall else "normal"
        name = shorten(name, _GROUP - 15, weight=weight)
        write(figure, EDGE, height, name, weight=weight)
        write(figure, EDGE + _GROUP, height, f"{one.n_records}", ha="right")
        write(figure, EDGE + _GROUP + 17, height, f"{one.n_positive}", ha="right")
        write(figure, right, height, told(one.metric, one.interval))
        if at and one.column != rows[at - 1].column:
            axes.axhline(at - 0.5, color="0.8", linewidth=0.6, gid="column")
        if one.interval:
            axes.plot(one.interval, (at, at), color=BLUE, linewidth=1.6, gid="interval")
        axes.plot(one.metric, at, "s", color=BLUE, markersize=5, gid="mean")
    if overall is not None and math.isfinite(overall.metric):
        axes.axvline(overall.metric, color=GREY, linestyle="--", linewidth=0.8, gid="overall")
    scale(axes, [v for one in rows for v in (one.metric, *(one.interval or ()))], metric)
    return figure
