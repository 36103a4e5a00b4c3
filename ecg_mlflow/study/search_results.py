"""A study's search: its sampler, its board, and what the parent run shows of it in the end."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids import Grid
from ecg_mlflow.search.grid_sampler import GridSampler
from ecg_mlflow.search.sampler import Sampler, TrialState
from ecg_mlflow.study.best_grid import best_grid_file
from ecg_mlflow.study.finalists import finalists
from ecg_mlflow.study.grid_update import Narrowing
from ecg_mlflow.study.journals import ARTIFACTS, fetch_journal, journal_path
from ecg_mlflow.study.plan import StudyPlan
from ecg_mlflow.study.resuming import Stock
from ecg_mlflow.study.search_config import GRID, SearchDesign
from ecg_mlflow.study.trial_scheduler import TrialBoard
from ecg_mlflow.study.trials import OpenTrial, Tests
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.leaderboard import as_columns
from ecg_mlflow.tracking.ledger import LedgerEntry
from ecg_mlflow.tracking.run_log import csv_text
from ecg_mlflow.tracking.study_run import Study
from ecg_mlflow.training.schedule import Schedule

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_sampler(
    plan: StudyPlan, client: MlflowClient, design: SearchDesign, run_id: str
) -> Sampler:
    """Make the study's sampler, with the history that its journal holds.

    Raises
    ------
    SearchError
        If the journal is damaged, or is of another search.
    TrackingError
        If the store fails.
    """
    assert isinstance(plan.research.grid, Grid)
    if design.sampler == GRID:
        return GridSampler(plan.research.grid)
    from ecg_mlflow.search.samplers import make_sampler

    path = journal_path(client, run_id)
    fetch_journal(client, run_id, path)
    return make_sampler(
        design.sampler,
        plan.research.grid,
        n_trials=design.trials,
        directions=[one.direction for one in design.contest.objectives],
        seed=_seed(plan, design),
        journal=path,
    )


def _seed(plan: StudyPlan, design: SearchDesign) -> int:
    if design.seed is not None:
        return design.seed
    seed = plan.research.seed
    return seed if isinstance(seed, int) else 0  # an option may stand for it


def make_board(
    plan: StudyPlan, sampler: Sampler, stock: Stock, design: SearchDesign, client: MlflowClient
) -> TrialBoard:
    """Make the board of a study, which then has to be opened."""
    research = plan.research
    narrowing = None
    if research.update_grid is not None:
        narrowing = Narrowing(research.update_grid, Schedule.parse(research.update_every))
    return TrialBoard(
        plan,
        sampler,
        stock,
        design.contest,
        narrowing=narrowing,
        read_tests=partial(_read_tests, client, design.contest.first.metric),
        note=lambda text: tqdm.write(f"note: {text}", file=sys.stderr),
    )


def _read_tests(client: MlflowClient, metric: str, entry: LedgerEntry) -> Tests:
    """Read the evaluations of a run from the store."""
    with store_errors(f"read {metric} of run {entry.run_id}"):
        history = client.get_metric_history(entry.run_id, metric)
    return [(one.step, {metric: one.value}) for one in history]


def conclude_search(
    study: Study, plan: StudyPlan, board: TrialBoard, design: SearchDesign, grid_file: Path
) -> None:
    """Write what a search has come to into the parent run: table, pictures, the best as a file.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    from ecg_mlflow.search.plots import Result, figures

    client, run_id, objectives = study.client, study.run_id, design.contest.objectives
    results = [
        Result(
            trial.number,
            trial.options(),
            tuple(trial.values(objectives)) if trial.state is TrialState.COMPLETE else None,
            trial.state,
        )
        for trial in sorted(board.trials.values(), key=lambda one: one.number)
        if not trial.is_running
    ]
    drawn = figures(results, objectives)
    best = finalists(board, design)
    with store_errors(f"write the results of the search into run {run_id}"):
        client.log_text(run_id, csv_text(as_columns(board.rows())), f"{ARTIFACTS}/trials.csv")
        for name, figure in drawn.items():
            whole = {"bbox_inches": "tight", "dpi": 120}  # values' names stick out
            client.log_figure(run_id, figure, f"{ARTIFACTS}/{name}.png", save_kwargs=whole)
        if best and (text := _best(plan, best[0], design, study, grid_file)) is not None:
            client.log_text(run_id, text, f"{ARTIFACTS}/best.py")


def _best(
    plan: StudyPlan, trial: OpenTrial, design: SearchDesign, study: Study, grid_file: Path
) -> str | None:
    """Write the best configuration's grid file; None where the grid file's own lacks it."""
    try:
        plan.research.grid.only(trial.options())
    except GridError:  # update_grid has brought values that the grid file does not begin with
        return None
    reached = ", ".join(
        f"{one.metric} {value:.4f}"
        for one, value in zip(
            design.contest.objectives, trial.values(design.contest.objectives), strict=True
        )
    )
    why = f"{reached}, the mean of {len(trial.metrics)} runs, in study {study.run_id}"
    return best_grid_file(grid_file.read_text(), trial, str(plan.research.name), why)
