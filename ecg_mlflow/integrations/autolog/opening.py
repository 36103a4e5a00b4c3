"""The MLflow run that a script's training is logged in: the active run, or one of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
        status = EndStatus.FINISHED
        if error is not None:
            interrupted = isinstance(error, KeyboardInterrupt)
            status = EndStatus.KILLED if interrupted else EndStatus.FAILED
        active = mlflow.active_run()
        with store_errors(f"end run {self.run_id} as {status}"):
            if active is not None and active.info.run_id == self.run_id:
                mlflow.end_run(status.value)
            else:
                self.client.set_terminated(self.run_id, status=status.value)

    @contextmanager
    def ending(self, error: BaseException | None) -> Iterator[None]:
        """End the run after the block, by `error` or else by what the block raises."""
        try:
            yield
        except BaseException as late:
            # Even if nothing else can be delivered, the run must not stay RUNNING.
            self.end(error or late)
            raise
        self.end(error)


def join_or_start_run(name: str | None, *, joins: bool) -> OpenedRun:
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


def new_params(run: OpenedRun, params: Mapping[str, object]) -> dict[str, object]:
    """Return the params that the run doesn't have yet: MLflow refuses a second value."""
    with store_errors(f"read run {run.run_id}"):
        there = run.client.get_run(run.run_id).data.params
    return {key: value for key, value in params.items() if key not in there}


def _is_taken(client: MlflowClient, run_id: str) -> bool:
    with store_errors(f"read run {run_id}"):
        return TRAINED_TAG in client.get_run(run_id).data.tags
