"""Rank configurations by their mean over repetitions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class RunResult:
    """What one run of a study reached.

    Attributes
    ----------
    config
        Option names and value names, without the repetition.
    metrics
        Final metrics, NaN where a run has none.
    """

    config: Mapping[str, str]
    metrics: Mapping[str, float]


def leaderboard_rows(
    results: Sequence[RunResult],
    metric: str,
    *,
    higher_is_better: bool = True,
    n_repetitions: int = 1,
) -> list[dict[str, object]]:
    """Summarise the repetitions of each configuration, best mean first.

    Parameters
    ----------
    results
        Finished runs, in any order.
    metric
        What to rank by. Configurations without a finite value of it come last.
    higher_is_better
        Its direction.
    n_repetitions
        Configurations with fewer runs come after all others: where runs are given up for being
        worse, those that have few are not in contention, whatever the first of them reached.

    Returns
    -------
    One row per configuration: ``rank``, its options, ``runs`` (how many repetitions there are),
    and for each metric ``<metric>`` (mean) and ``<metric>_std`` (sample standard deviation, NaN
    for a single repetition). The metric ranked by comes first.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Mapping[str, float]]] = {}
    for result in results:
        groups.setdefault(tuple(result.config.items()), []).append(result.metrics)
    names = dict.fromkeys([metric, *(key for r in results for key in r.metrics)])
    rows: list[dict[str, object]] = []
    for config, runs in groups.items():
        row: dict[str, object] = {"rank": 0, **dict(config), "runs": len(runs)}
        for name in names:
            row[name], row[f"{name}_std"] = _mean_and_std([run.get(name, math.nan) for run in runs])
        rows.append(row)

    def worst_last(row: Mapping[str, object]) -> tuple[bool, float]:
        mean, n_runs = float(row[metric]), int(row["runs"])  # type: ignore[arg-type, call-overload]
        loss = -mean if higher_is_better else mean
        return n_runs < n_repetitions, loss if math.isfinite(mean) else math.inf

    rows.sort(key=worst_last)
    for rank, row in enumerate(rows, start=1):
        row["rank"] = rank
    return rows


def as_columns(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    """Turn rows into columns in order of first appearance; a missing cell is None."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return math.nan, math.nan
    return fmean(known), stdev(known) if len(known) > 1 else math.nan
