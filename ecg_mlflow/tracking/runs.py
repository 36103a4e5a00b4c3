"""Reopen and end single runs; make experiments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from mlflow import MlflowClient
from mlflow.entities import Run

from ecg_mlflow.errors import RunGoneError, TrackingError
from ecg_mlflow.tracking.client import environment, sqlite_path
from ecg_mlflow.tracking.retry import store_errors, was_deleted
from ecg_mlflow.tracking.run_data import log_tags

REASON_TAG = "ecg_mlflow.reason"
#: In place of the last heartbeat, of a process that has ended in order.
ENDED = "ended"

#: The UI shows an experiment of this kind as one of models, and not of prompts and traces.
MLFLOW_EXPERIMENT_KIND, KIND = "mlflow.experimentKind", "custom_model_development"

# The names that MLflow itself makes up for a run, as "bold-cat-123".
GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")


class EndStatus(StrEnum):
    """How a run ended, in MLflow's words."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


def continue_run(
    client: MlflowClient,
    run_id: str,
    name: str,
    context: Mapping[str, str],
    tags: Mapping[str, str],
) -> Run:
    """Reopen a run that another process has created, such as ``mlflow run``.

    Parameters
    ----------
    client, run_id
        Where it is.
    name
        Its new name, where MLflow has made up the present one.
    context
        MLflow's context tags; those that the run carries already stay as they are.
    tags
        Tags that are set in any case.

    Raises
    ------
    TrackingError
        There is no such run, it was deleted, or the store fails.
    """
    run = client.get_run(run_id)
    if run.info.lifecycle_stage != "active":
        raise was_deleted(run_id)
    reopen_run(client, run_id)
    if not run.info.run_name or GENERATED_NAME.fullmatch(run.info.run_name):
        client.update_run(run_id, name=name)
    missing = {key: value for key, value in context.items() if key not in run.data.tags}
    log_tags(client, run_id, {**missing, **tags})
    return client.get_run(run_id)


def find_or_create_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of the experiment with that name, made where there is none.

    Raises
    ------
    TrackingError
        An experiment with that name was deleted; MLflow keeps its name.
    """
    # MLflow's own place for the artifacts of a sqlite store is the folder that the first command
    # happened to be called from; beside the database they are found again.
    path, location = sqlite_path(client.tracking_uri), None
    if path is not None:
        location = (path.parent / "mlruns" / re.sub(r"[^\w.-]+", "_", name)).as_uri()
    try:
        with store_errors(f"create the experiment {name!r}"):
            tags = {MLFLOW_EXPERIMENT_KIND: KIND}
            return str(client.create_experiment(name, location, tags=tags))
    except TrackingError:  # it is there, or may not be made by this user, who may use it
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"the experiment {name!r} was deleted, and MLflow keeps its name. Bring it back with"
            f" `mlflow experiments restore --experiment-id {found.experiment_id}`, remove it for"
            " good with `mlflow gc`, or choose another name."
        )
    return str(found.experiment_id)


def check_running(client: MlflowClient, run_id: str) -> None:
    """Check that a run which this program writes was not deleted or ended by anybody else.

    A reason beside its end is this package's own: another program has taken its process for dead,
    as while the store was away, and was wrong.

    Raises
    ------
    RunGoneError
        If it was.
    TrackingError
        If the store fails.
    """
    with store_errors(f"look at run {run_id}"):
        run = client.get_run(run_id)
    if run.info.lifecycle_stage != "active":
        raise was_deleted(run_id)
    if run.info.status in set(EndStatus) and REASON_TAG not in run.data.tags:
        raise RunGoneError(f"run {run_id} was ended as {run.info.status} by hand", run_id)


def end_run(client: MlflowClient, run_id: str, status: str, reason: str | None) -> None:
    """End a run, with the reason as a tag where there is one."""
    status = EndStatus(status)
    if reason:
        log_tags(client, run_id, {REASON_TAG: reason})
    # Two printed lines for each of 130 runs would tear the progress bar apart.
    with (
        environment(MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true"),
        store_errors(f"end run {run_id} as {status}"),
    ):
        client.set_terminated(run_id, status=status)


def reopen_run(client: MlflowClient, run_id: str) -> None:
    """Reopen a run that has ended: it is RUNNING again, and the reason for its end is removed."""
    client.update_run(run_id, status="RUNNING")
    if REASON_TAG in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, REASON_TAG)
