"""Open a study's search, and write what it has come to into the parent run."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tqdm import tqdm

from ecg_mlflow.errors import GridError
from ecg_mlflow.search.sampler import TrialState
from ecg_mlflow.study.finalists import finalists
from ecg_mlflow.study.grid_update import GridUpdate
from ecg_mlflow.study.plan import StudyPlan
from ecg_mlflow.study.resume import KnownRuns
from ecg_mlflow.study.search_config import SearchConfig
from ecg_mlflow.study.search_history import SearchHistory, read_history
from ecg_mlflow.study.trial_scheduler import TrialScheduler
from ecg_mlflow.study.trials import OpenTrial, Tests
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.leaderboard import as_columns
from ecg_mlflow.tracking.run_log import csv_text
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.study_run import Study
from ecg_mlflow.training.schedule import Schedule

if TYPE_CHECKING:
    from mlflow import MlflowClient


#: Folder of the parent run's artifacts.
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


def make_scheduler(
    plan: StudyPlan, known_runs: KnownRuns, search: SearchConfig, client: MlflowClient
) -> TrialScheduler:
    """Make the scheduler of a study, which then has to be opened.

    Raises
    ------
    SearchError
        If the sampler does not work here.
    """
    research = plan.research
    history = read_history(known_runs.runs) if plan.sampled else SearchHistory()
    grid_update = None
    if research.update_grid is not None:
        grid_update = GridUpdate(research.update_grid, Schedule.parse(research.update_every))
    return TrialScheduler(
        plan,
        search.make_sampler(plan, history.options),
        known_runs,
        search.rule,
        history=history,
        grid_update=grid_update,
        read_tests=partial(_read_tests, client, search.rule.first.metric),
        note=lambda text: tqdm.write(f"note: {text}", file=sys.stderr),
    )


def _read_tests(client: MlflowClient, metric: str, entry: StoredRun) -> Tests:
    """Read the evaluations of a run from the store."""
    with store_errors(f"read {metric} of run {entry.run_id}"):
        history = client.get_metric_history(entry.run_id, metric)
    return [(one.step, {metric: one.value}) for one in history]


def conclude_search(
    study: Study, plan: StudyPlan, trials: TrialScheduler, search: SearchConfig, grid_file: Path
) -> None:
    """Write what a search has come to into the parent run.

    A table, pictures, the best configuration as a grid file, and Optuna's journal.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    from ecg_mlflow.search.plots import figures

    client, run_id, objectives = study.client, study.run_id, search.rule.objectives
    complete = [
        (trial.options(), trial.values(objectives))
        for trial in sorted(trials.trials.values(), key=lambda one: one.number)
        if trial.state is TrialState.COMPLETE
    ]
    drawn = figures(complete, objectives)
    best = finalists(trials, search)
    with store_errors(f"write the results of the search into run {run_id}"):
        client.log_text(run_id, csv_text(as_columns(trials.rows())), f"{ARTIFACTS}/trials.csv")
        for name, figure in drawn.items():
            whole = {"bbox_inches": "tight", "dpi": 120}  # values' names stick out
            client.log_figure(run_id, figure, f"{ARTIFACTS}/{name}.png", save_kwargs=whole)
        if best and (text := _best(plan, best[0], search, study, grid_file)) is not None:
            client.log_text(run_id, text, f"{ARTIFACTS}/best.py")
        with TemporaryDirectory() as folder:
            journal = Path(folder, f"{run_id}.journal")
            trials.write_journal(journal)
            if journal.exists():
                client.log_artifact(run_id, str(journal), ARTIFACTS)


def _best(
    plan: StudyPlan, trial: OpenTrial, search: SearchConfig, study: Study, grid_file: Path
) -> str | None:
    """Write the best configuration's grid file; None where the grid file's own lacks it."""
    try:
        plan.research.grid.only(trial.options())
    except GridError:  # update_grid has brought values that the grid file does not begin with
        return None
    objectives = search.rule.objectives
    reached = ", ".join(
        f"{one.metric} {value:.4f}"
        for one, value in zip(objectives, trial.values(objectives), strict=True)
    )
    why = f"{reached}, the mean of {len(trial.metrics)} runs, in study {study.run_id}"
    return best_grid_file(grid_file.read_text(), trial, str(plan.research.name), why)


def best_grid_file(source: str, trial: OpenTrial, study: str, why: str) -> str:
    """Write a grid file for a trial's configuration.

    The options' values may be anything that a grid file can say, functions too, so it is the
    study's own file, followed by a choice among its options.

    Parameters
    ----------
    source
        Text of the study's grid file.
    trial
        The best one.
    study
        Name of the study.
    why
        What it has reached, in words.
    """
    options = trial.options()
    text = _BEST_GRID.format(options=options, name=f"{study} best", why=why.replace("\n", " "))
    return source.rstrip() + text
