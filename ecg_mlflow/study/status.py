"""Show in the parent run of a study how its runs have ended."""

from __future__ import annotations

import json
import math

from ecg_mlflow.search.objective import pareto_front
from ecg_mlflow.study.descriptions import describe_state
from ecg_mlflow.study.plan import StudyPlan
from ecg_mlflow.study.trial_scheduler import TrialScheduler
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.leaderboard import RunResult, leaderboard_rows
from ecg_mlflow.tracking.stored_study import REUSED
from ecg_mlflow.tracking.study_run import Study

#: Beginnings of the metrics that the leaderboard has.
SHOWN = ("test_", "validation_", "best_")


def leaderboard(plan: StudyPlan, scheduler: TrialScheduler) -> list[dict[str, object]]:
    """Rank the configurations by what has finished so far.

    Of several objectives the first decides; a column says which are on the Pareto front.
    """
    objectives = plan.search.objectives
    names = {one.metric for one in objectives}
    results = [
        RunResult(
            trial.config.config.alias(),
            {n: value for n, value in metrics.items() if n.startswith(SHOWN) or n in names},
        )
        for trial in scheduler.trials.values()
        for metrics in trial.metrics.values()
    ]
    rows = leaderboard_rows(
        results,
        objectives[0].metric,
        higher_is_better=objectives[0].maximize,
        n_repetitions=plan.research.repetitions if plan.search.selects else 1,
    )
    if len(objectives) > 1:
        values = [[_as_float(row.get(one.metric)) for one in objectives] for row in rows]
        front = pareto_front(values, objectives)
        for place, row in enumerate(rows):
            row["pareto_front"] = place in front
    return rows


def show_status(study: Study, plan: StudyPlan, scheduler: TrialScheduler) -> None:
    """Bring the parent run of a study up to date."""
    counts, reused, first = scheduler.counts, scheduler.reused, plan.search.first
    rows = leaderboard(plan, scheduler)
    progress: dict[str, float] = {
        "runs_done": counts.finished,
        "runs_failed": counts.failed,
        "runs_waiting": counts.waiting,
    }
    if plan.search.selects:
        progress["runs_pruned"] = counts.pruned
    if rows and math.isfinite(best := _as_float(rows[0][first.metric])):
        progress[f"best_mean_{first.metric}"] = best
    study.progress(progress)
    if rows:
        study.leaderboard(rows)
    text = describe_state(plan, rows, counts, reused)
    study.describe(text, first.metric, higher_is_better=first.maximize, n_runs=counts.n_runs)
    if reused:
        taken = {one.identity: one.run_id for one in reused}
        with store_errors(f"write {REUSED} of run {study.run_id}"):
            study.client.log_text(study.run_id, json.dumps(taken), REUSED)


def _as_float(value: object) -> float:
    """Return a number of a table; NaN for what is none."""
    return float(value) if isinstance(value, float | int) else math.nan
