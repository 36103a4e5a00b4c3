"""Plain-text tables: a plan, a leaderboard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile

from ecg_mlflow.descriptions import n_configs
from ecg_mlflow.plan import StudyPlan
from ecg_mlflow.search_design import SearchDesign

SHOWN_METRICS = tuple(
    f"{side}_{name}" for side in ("validation", "test") for name in ("f1", "accuracy", "roc_auc")
)


def plan_table(plan: StudyPlan, design: SearchDesign, n_workers: int) -> str:
    """Write a plan: one line per configuration, and what the study takes in all.

    Parameters
    ----------
    plan, design
        The plan, and how it chooses among its configurations.
    n_workers
        How many runs train at once, for the estimate of the time.
    """
    rows = [
        [
            str(config.index),
            config.name,
            f"{config.network.parameters:,}" if config.network else "?",
            f"{config.n_iterations:,}",
            _duration(config.seconds),
        ]
        for config in plan.configs
    ]
    header = ["#", "configuration", "parameters", "iterations", "time of one run"]
    parts = ", ".join(f"{len(part)} {name}" for name, part in plan.parts.items())
    n_planned, what = _size(plan, design)
    # No worker is idle before the end, except that one run is on one worker.
    share = n_planned * plan.seconds / len(plan.runs) / n_workers
    seconds = max(share, max(config.seconds for config in plan.configs))
    early = ", less what is given up early" if design.selects else ""
    return "\n".join(
        [
            *aligned([header, *rows]),
            "",
            f"{plan.research.name}: {what} x "
            f"{plan.research.repetitions} repetitions = {n_planned} runs, plan "
            f"{plan.digest[:12]}",
            *([f"chosen by {design}"] if design.selects else []),
            f"records: {parts} of {len(plan.corpus)} from {plan.corpus.source}",
            f"estimated time: {_duration(seconds)} with {n_workers} CPU workers of one core "
            f"(within a factor of about 2){early}",
        ]
    )


def _size(plan: StudyPlan, design: SearchDesign) -> tuple[int, str]:
    """Return how many runs there are at most, and of what."""
    if not plan.sampled:
        return len(plan.runs), f"{len(plan.configs)} configurations"
    n = n_configs(plan)
    trials = n if design.trials is None else design.trials
    if isinstance(n, int) and isinstance(trials, int):
        trials = min(n, trials)
    assert isinstance(trials, int), "a search without an end has been refused"
    what = f"{trials} of {n} configurations (examples above)"
    return trials * plan.research.repetitions, what


def result_table(rows: Sequence[Mapping[str, object]], shown: int = 10) -> str:
    """Write the head of a leaderboard."""
    if not rows:
        return "no run has finished"
    # Not those of the first row alone: a sum of grids has rows with different options.
    options = dict.fromkeys(n for row in rows for n in takewhile(lambda n: n != "runs", row))
    metrics = [name for name in (ranked_by(rows), *SHOWN_METRICS) if name in rows[0]]
    metrics = list(dict.fromkeys(metrics))
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


def ranked_by(rows: Sequence[Mapping[str, object]]) -> str:
    """Return the metric that a leaderboard is ranked by: the one behind the number of runs."""
    names = list(rows[0])
    return names[names.index("runs") + 1]


def _mean_and_std(mean: object, std: object) -> str:
    """Write a metric: its standard deviation over repetitions too, where there is one."""
    if not (isinstance(mean, float) and math.isfinite(mean)):
        return "-"
    spread = isinstance(std, float) and math.isfinite(std)
    return f"{mean:.4f} ± {std:.4f}" if spread else f"{mean:.4f}"


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Write a table as lines of text, numbers to the right; the first row is the header."""
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


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
