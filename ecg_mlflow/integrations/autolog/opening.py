"""The MLflow run that a script's training is logged in: the active one, or one of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient

from ecg_mlflow.provenance import ProcessMark, heartbeat
from ecg_mlflow.tracking.client import connect, store_errors
from ecg_mlflow.tracking.run_log import log_tags
from ecg_mlflow.tracking.runs import REASON_TAG, EndStatus

#: A training was logged in this run of the user's; the next one gets a run under it.
TRAINED_TAG = "ecg_mlflow.trained"


@dataclass(frozen=True)
class OpenedRun:
    """A run to log in.

    Attributes
    ----------
    client, run_id
        Where it is.
    owned
        Whether it was opened here, and is to be ended here.
    """

    client: MlflowClient
    run_id: str
    owned: bool

    def end(self, error: BaseException | None) -> None:
        """End the run, if it was opened here: KILLED by an interrupt, FAILED by an error."""
        if error is not None:
            reason = f"{type(error).__name__}: {error}"
            log_tags(self.client, self.run_id, {REASON_TAG: reason})
        if not self.owned:
            return
        status = end_status(error)
        active = mlflow.active_run()
        with store_errors(f"end run {self.run_id} as {status}"):
            if active is not None and active.info.run_id == self.run_id:
                mlflow.end_run(status.value)
            else:
                self.client.set_terminated(self.run_id, status=status.value)


def open_run(name: str | None, *, joins: bool) -> OpenedRun:
    """Find or start a run.

    Parameters
    ----------
    name
        Of a run that is started; MLflow makes one up for None.
    joins
        Log in the active run, if there is one and no training was logged in it before. Otherwise
        the new run stands under the active one.

    Raises
    ------
    TrackingError
        The store fails.
    """
    client = connect()
    active = mlflow.active_run()
    marks = {**ProcessMark.own().tags(), **heartbeat()}
    if active is not None and joins and not _is_taken(client, active.info.run_id):
        log_tags(client, active.info.run_id, {**marks, TRAINED_TAG: "true"})
        return OpenedRun(client, active.info.run_id, owned=False)
    with store_errors("start a run"):
        # MLflow's own way: it knows the experiment, and what `mlflow run` has begun.
        run = mlflow.start_run(run_name=name, nested=active is not None, tags=marks)
    return OpenedRun(client, run.info.run_id, owned=True)


def end_status(error: BaseException | None) -> EndStatus:
    """Say how a run has ended that this error has ended."""
    if error is None:
        return EndStatus.FINISHED
    return EndStatus.KILLED if isinstance(error, KeyboardInterrupt) else EndStatus.FAILED


def new_params(run: OpenedRun, params: Mapping[str, object]) -> dict[str, object]:
    """Return those params that the run doesn't have yet: MLflow refuses a second value."""
    with store_errors(f"read run {run.run_id}"):
        there = run.client.get_run(run.run_id).data.params
    return {key: value for key, value in params.items() if key not in there}


def _is_taken(client: MlflowClient, run_id: str) -> bool:
    with store_errors(f"read run {run_id}"):
        return TRAINED_TAG in client.get_run(run_id).data.tags
