"""Write what a search has come to into the parent run."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from ecg_mlflow.errors import GridError
from ecg_mlflow.search.sampler import TrialState
from ecg_mlflow.study.plan import StudyPlan
from ecg_mlflow.study.research import Research
from ecg_mlflow.study.trial_scheduler import TrialScheduler
from ecg_mlflow.study.trials import OpenTrial, finalists
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.leaderboard import as_columns
from ecg_mlflow.tracking.run_log import csv_text
from ecg_mlflow.tracking.study_run import Study

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


def conclude_search(
    study: Study, plan: StudyPlan, scheduler: TrialScheduler, grid_file: Path
) -> None:
    """Write what a search has come to into the parent run.

    A table, pictures, the best configuration as a grid file, and Optuna's journal.

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
    with store_errors(f"write the results of the search into run {run_id}"):
        client.log_text(run_id, table, f"{ARTIFACTS}/trials.csv")
        for name, figure in drawn.items():
            whole = {"bbox_inches": "tight", "dpi": 120}  # values' names stick out
            client.log_figure(run_id, figure, f"{ARTIFACTS}/{name}.png", save_kwargs=whole)
        for best in finalists(complete, objectives, 1)[:1]:
            values = zip(objectives, best.values(objectives), strict=True)
            reached = ", ".join(f"{one.metric} {value:.4f}" for one, value in values)
            why = f"{reached}, the mean of {len(best.metrics)} runs, in study {run_id}"
            text = best_grid_file(grid_file.read_text(), plan.research, best, why)
            if text is not None:
                client.log_text(run_id, text, f"{ARTIFACTS}/best.py")
        with TemporaryDirectory() as folder:
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
