"""Studies that are gone on with, and the runs that ``mlflow run`` has created for a command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from ecg_mlflow.errors import EcgMlflowError, ResumeError, TrackingError
from ecg_mlflow.provenance import ProcessMark, living_process
from ecg_mlflow.study.reaping import reap
from ecg_mlflow.study.request import DESIGN, StudyRequest
from ecg_mlflow.study.search_config import SEARCH_OPTIONS
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.runs import EndStatus
from ecg_mlflow.tracking.stored_run import PLAN_TAG, REQUEST_TAG
from ecg_mlflow.tracking.study_run import Study


def resumed(
    client: MlflowClient, request: StudyRequest, project_run: str | None
) -> tuple[str | None, StudyRequest]:
    """Find the study to go on with, if any, and complete the request by what it began with.

    It is the one that was asked for, or the one that ``mlflow run --run-id`` was given.

    Returns
    -------
    The parent run to work in, None for a new one; and the request.

    Raises
    ------
    ResumeError
        If that run is no study's parent run.
    TrackingError
        If the store has no such run, or fails.
    """
    run_id = request.resume or project_run
    if run_id is None:
        return None, request
    with store_errors(f"find the study {run_id}", "Is MLFLOW_TRACKING_URI its store?"):
        tags = client.get_run(run_id).data.tags
    if PLAN_TAG not in tags:
        if request.resume:
            raise ResumeError(
                f"run {run_id} is no study of ecg_mlflow; resume takes the id of a parent run, "
                "which the study prints when it starts and the MLflow UI shows"
            )
        return run_id, request
    process = living_process(tags)
    if process is not None and process != ProcessMark.own():
        raise ResumeError(
            f"study {run_id} is being run by {process}; end that first. If that process is on "
            "another machine and has died, this is known three minutes after its last sign of life"
        )
    before = json.loads(tags.get(REQUEST_TAG, "{}"))
    missing = {
        name: value
        for name, value in before.items()
        if name in DESIGN and getattr(request, name) in (None, "")
    }
    search = {name: value for name, value in before.items() if name in SEARCH_OPTIONS}
    return run_id, replace(request, **missing, search=search | {**request.search})


def reap_dead_studies(client: MlflowClient, run_id: str | None) -> None:
    """End studies whose drivers have died, and tell of them."""
    for parent, name in reap(client, except_for=run_id).items():
        print(
            f"note: the driver of study {name} had died; go on with: "
            f"ecg-mlflow run --resume {parent}",
            file=sys.stderr,
        )


@contextmanager
def stand_in(client: MlflowClient, project_run: str | None, run_id: str | None) -> Iterator[None]:
    """Let the run that ``mlflow run`` has created for a resumed study say which one that is."""
    if project_run is None or run_id is None or project_run == run_id:
        yield
        return
    experiment = client.get_run(run_id).info.experiment_id
    note = f"Went on with [the study {run_id}](#/experiments/{experiment}/runs/{run_id})."
    tags = {"ecg_mlflow.resumes": run_id, MLFLOW_RUN_NOTE: note}
    with Study.open(client, "", f"resume of {run_id}", run_id=project_run, tags=tags):
        yield


def end_project_run(client: MlflowClient, run_id: str, error: BaseException) -> None:
    """End the run that ``mlflow run`` has created, with what kept the study from starting."""
    status = EndStatus.FAILED if isinstance(error, Exception) else EndStatus.KILLED
    reason = str(error) if isinstance(error, EcgMlflowError) else f"{type(error).__name__}: {error}"
    try:
        Study.open(client, "", "study", run_id=run_id).close(status, reason)
    except TrackingError as closing:
        error.add_note(str(closing))
