"""Show in the parent run how its runs have ended, and at its end what a search has come to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from statistics import stdev
from tempfile import TemporaryDirectory
from typing import Any

from ecg_mlflow.errors import GridError
from ecg_mlflow.search.objective import mean, pareto_front
from ecg_mlflow.search.sampler import TrialState
from ecg_mlflow.study.descriptions import describe_state
from ecg_mlflow.study.plan import StudyPlan
from ecg_mlflow.study.research import Research
from ecg_mlflow.study.search_config import SearchConfig
from ecg_mlflow.study.trial_scheduler import TrialScheduler
from ecg_mlflow.study.trials import OpenTrial, finalists
from ecg_mlflow.tracking.retry import store_errors
from ecg_mlflow.tracking.run_data import as_columns, csv_text
from ecg_mlflow.tracking.stored_study import REUSED
from ecg_mlflow.tracking.study_run import Study

#: Beginnings of the metrics that the leaderboard has.
SHOWN = ("test_", "validation_", "best_")
#: Folder of the parent run's artifacts that tell of its search.
ARTIFACTS = "search"
_BEST_GRID = """

# --- The best configuration of a study -----------------------------------------------------------
# Above stands the study's grid file as it was; below, the part of its grid that was best:
# {why}

from dataclasses import replace as _replace

research = _replace(
    research,
    grid=research.grid.only({options!r}),
    name={name!r},
    update_grid=None,
)
"""


def leaderboard(
    trials: Iterable[OpenTrial], search: SearchConfig, repetitions: int
) -> list[dict[str, Any]]:
    """Rank the configurations by the mean over their finished runs, best first.

    Parameters
    ----------
    trials
        Those without a finished run are left out.
    search
        Of several objectives the first decides; a column says which are on the Pareto front.
    repetitions
        Of a configuration. Where runs are given up for being worse, configurations with fewer come
        after all others: they are not in contention, whatever the first of their runs reached.

    Returns
    -------
    One row per configuration: ``rank``, its options, ``runs`` (how many have finished), and for
    each metric ``<metric>`` (mean) and ``<metric>_std`` (sample standard deviation, NaN for a
    single run) over the finite values. The metric ranked by comes first.
    """
    objectives, first = search.objectives, search.first
    begun = [one for one in trials if one.metrics]
    known = dict.fromkeys(name for one in begun for run in one.metrics.values() for name in run)
    chosen = {one.metric for one in objectives}
    shown = [name for name in known if name in chosen or name.startswith(SHOWN)]
    rows: list[dict[str, Any]] = []
    for trial in begun:
        runs = trial.metrics.values()
        row: dict[str, Any] = {"rank": 0, **trial.config.config.alias(), "runs": len(runs)}
        for name in dict.fromkeys([first.metric, *shown]):
            values = [run[name] for run in runs if math.isfinite(run.get(name, math.nan))]
            row[name] = mean(values)
            row[f"{name}_std"] = stdev(values) if len(values) > 1 else math.nan
        rows.append(row)
    enough = repetitions if search.selects else 1
    rows.sort(key=lambda row: (row["runs"] < enough, -first.merit(row[first.metric])))
    for rank, row in enumerate(rows, start=1):
        row["rank"] = rank
    if len(objectives) > 1:
        reached = [[row.get(one.metric, math.nan) for one in objectives] for row in rows]
        front = pareto_front(reached, objectives)
        for place, row in enumerate(rows):
            row["pareto_front"] = place in front
    return rows


def show_status(study: Study, plan: StudyPlan, scheduler: TrialScheduler) -> None:
    """Bring the parent run of a study up to date."""
    counts, reused, first = scheduler.counts, scheduler.reused, plan.search.first
    rows = leaderboard(scheduler.trials.values(), plan.search, plan.research.repetitions)
    progress: dict[str, float] = {
        "runs_done": counts.finished,
        "runs_failed": counts.failed,
        "runs_waiting": counts.waiting,
    }
    if plan.search.selects:
        progress["runs_pruned"] = counts.pruned
    if counts.gone:
        progress["runs_gone"] = counts.gone
    if rows and math.isfinite(best := rows[0][first.metric]):
        progress[f"best_mean_{first.metric}"] = best
    study.progress(progress)
    if rows:
        study.leaderboard(rows)
    text = describe_state(plan, rows, counts, reused, scheduler.unplanned)
    study.describe(text, first.metric, higher_is_better=first.maximize, n_runs=counts.n_runs)
    if reused:
        taken = {one.identity: one.run_id for one in reused}
        study.client.log_text(study.run_id, json.dumps(taken), REUSED)


def conclude_search(study: Study, plan: StudyPlan, scheduler: TrialScheduler, source: str) -> None:
    """Write what a search has come to into the parent run.

    A table, pictures, the best configuration as a grid file, and Optuna's journal. `source` is the
    study's grid file as it was loaded.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    from ecg_mlflow.search.plots import figures

    client, run_id, objectives = study.client, study.run_id, plan.search.objectives
    trials = sorted(scheduler.trials.values(), key=lambda one: one.number)
    complete = [one for one in trials if one.state is TrialState.COMPLETE]
    drawn = figures([(one.options(), one.values(objectives)) for one in complete], objectives)
    table = csv_text(as_columns(scheduler.rows()))
    client.log_text(run_id, table, f"{ARTIFACTS}/trials.csv")
    for name, figure in drawn.items():
        whole = {"bbox_inches": "tight", "dpi": 120}  # values' names stick out
        client.log_figure(run_id, figure, f"{ARTIFACTS}/{name}.png", save_kwargs=whole)
    for best in finalists(complete, objectives, 1)[:1]:
        values = zip(objectives, best.values(objectives), strict=True)
        reached = ", ".join(f"{one.metric} {value:.4f}" for one, value in values)
        why = f"{reached}, the mean of {len(best.metrics)} runs, in study {run_id}"
        text = best_grid_file(source, plan.research, best, why)
        if text is not None:
            client.log_text(run_id, text, f"{ARTIFACTS}/best.py")
    doing = f"write the journal of the search into run {run_id}"
    with store_errors(doing), TemporaryDirectory() as folder:
        journal = Path(folder, f"{run_id}.journal")
        scheduler.sampler.write_journal(journal)
        if journal.exists():
            client.log_artifact(run_id, str(journal), ARTIFACTS)


def best_grid_file(source: str, research: Research, trial: OpenTrial, why: str) -> str | None:
    """Write a grid file for a trial's configuration; None where the grid file's own lacks it.

    The options' values may be anything that a grid file can say, functions too, so it is the
    study's own file, followed by a choice among its options.

    Parameters
    ----------
    source, research
        The study's grid file, as text and as loaded.
    trial
        The best one.
    why
        What it has reached, in words.
    """
    options = trial.options()
    try:
        research.grid.only(options)
    except GridError:  # update_grid has brought values that the grid file does not begin with
        return None
    text = _BEST_GRID.format(options=options, name=f"{research.name} best", why=why)
    return source.rstrip() + text
