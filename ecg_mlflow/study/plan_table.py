"""The plan of a study as a plain-text table."""

from __future__ import annotations

from ecg_mlflow.reports.text_tables import aligned
from ecg_mlflow.study.descriptions import n_configs
from ecg_mlflow.study.plan import StudyPlan
from ecg_mlflow.study.search_config import SearchConfig


def plan_table(plan: StudyPlan, search: SearchConfig, n_workers: int) -> str:
    """Write a plan: one line per configuration, and what the study takes in all.

    Parameters
    ----------
    plan, search
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
    n_planned, what = _size(plan, search)
    # No worker is idle before the end, except that one run is on one worker.
    share = n_planned * plan.seconds / len(plan.runs) / n_workers
    seconds = max(share, max(config.seconds for config in plan.configs))
    early = ", less what is given up early" if search.selects else ""
    return "\n".join(
        [
            *aligned([header, *rows]),
            "",
            f"{plan.research.name}: {what} x "
            f"{plan.research.repetitions} repetitions = {n_planned} runs, plan "
            f"{plan.digest[:12]}",
            *([f"chosen by {search}"] if search.selects else []),
            f"records: {parts} of {len(plan.corpus)} from {plan.corpus.source}",
            f"estimated time: {_duration(seconds)} with {n_workers} CPU workers of one core "
            f"(within a factor of about 2){early}",
        ]
    )


def _size(plan: StudyPlan, search: SearchConfig) -> tuple[int, str]:
    """Return how many runs there are at most, and of what."""
    if not plan.sampled:
        return len(plan.runs), f"{len(plan.configs)} configurations"
    n = n_configs(plan)
    trials = n if search.trials is None else search.trials
    if isinstance(n, int) and isinstance(trials, int):
        trials = min(n, trials)
    assert isinstance(trials, int), "a search without an end has been refused"
    what = f"{trials} of {n} configurations (examples above)"
    return trials * plan.research.repetitions, what


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
