"""Plain-text tables: a leaderboard, and the layout of every table on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile

from ecg_mlflow.terminal import shortened

SHOWN_METRICS = tuple(
    f"{side}_{name}" for side in ("validation", "test") for name in ("f1", "accuracy", "roc_auc")
)


def result_table(rows: Sequence[Mapping[str, object]], shown: int = 10) -> str:
    """Write the head of a leaderboard."""
    if not rows:
        return "no run has finished"
    # Not those of the first row alone: a sum of grids has rows with different options.
    options = dict.fromkeys(n for row in rows for n in takewhile(lambda n: n != "runs", row))
    # The metric behind the number of runs is the one that the rows are ranked by.
    first = list(rows[0])
    decisive = first[first.index("runs") + 1]
    metrics = list(dict.fromkeys(name for name in (decisive, *SHOWN_METRICS) if name in first))
    names = [*options, "runs", *metrics]
    table = [
        [
            *(str(row.get(name, "-")) for name in (*options, "runs")),
            *(_mean_and_std(row.get(name), row.get(f"{name}_std")) for name in metrics),
        ]
        for row in rows[:shown]
    ]
    more = [f"... and {len(rows) - shown} more"] if len(rows) > shown else []
    return "\n".join([*aligned([names, *table]), *more])


def _mean_and_std(mean: object, std: object) -> str:
    """Write a metric: its standard deviation over repetitions too, where there is one."""
    if not (isinstance(mean, float) and math.isfinite(mean)):
        return "-"
    spread = isinstance(std, float) and math.isfinite(std)
    return f"{mean:.4f} ± {std:.4f}" if spread else f"{mean:.4f}"


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Write a table as lines of text, numbers to the right; the first row is the header.

    A cell is one line, and long ones are shortened; those that differ stay different.
    """
    table = [[shortened(" ".join(cell.split())) for cell in row] for row in table]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = (
            cell.rjust(width) if _is_number(table[-1][i]) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return lines


def _is_number(text: str) -> bool:
    return text.translate(str.maketrans("", "", ",.± ")).isdigit()
