"""Read the curves of many runs at once: from their traces, or else from the store's histories."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from ecg_mlflow.tracking.artifacts import N_THREADS
from ecg_mlflow.tracking.client import environment, store_errors
from ecg_mlflow.tracking.study_runs import StudyRun
from ecg_mlflow.tracking.trace import TRACE, Trace

LOSS = "loss"


def read_traces(
    client: MlflowClient, runs: Sequence[StudyRun], names: Collection[str]
) -> list[Trace]:
    """Read the curves of some runs.

    They are in an artifact of each run that has ended. Where it is missing, or lacks what the
    store has, the store's own histories are read, which takes longer.

    Parameters
    ----------
    client
        The store.
    runs
        Whose curves.
    names
        Which metrics.

    Returns
    -------
    Traces with no more than these metrics, in the order of the runs. A loss that is missing is NaN.

    Raises
    ------
    TrackingError
        If a trace is damaged, or the store fails.
    """

    def read(run: StudyRun) -> Trace:
        with store_errors(f"read the curves of run {run.run_id}"):
            return _complete(client, run, _artifact(client, run), names)

    with (
        environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"),
        ThreadPoolExecutor(N_THREADS, "trace-reader") as pool,
    ):
        return list(pool.map(read, runs))


def _artifact(client: MlflowClient, run: StudyRun) -> Trace | None:
    repository: Any = get_artifact_repository(run.place, tracking_uri=client.tracking_uri)
    if isinstance(repository, LocalArtifactRepository):
        path = Path(repository.artifact_dir, TRACE)
        return Trace.read(path) if path.is_file() else None
    # To ask for what is not there is an error of another kind in each store.
    if TRACE not in {item.path for item in repository.list_artifacts()}:
        return None
    with tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder:
        return Trace.read(Path(repository.download_artifacts(TRACE, folder)))


def _complete(
    client: MlflowClient, run: StudyRun, trace: Trace | None, names: Collection[str]
) -> Trace:
    """Add what the trace lacks, and drop what nobody wants."""
    wanted = [name for name in names if name in run.metrics and name != LOSS]
    losses = np.empty(0, np.float32) if trace is None else trace.losses
    if LOSS not in names:
        losses = losses[:0]
    elif trace is None and LOSS in run.metrics:
        losses = _losses(client, run.run_id)
    metrics = {} if trace is None else trace.metrics
    tests: list[tuple[int, dict[str, float]]] = []
    for name in wanted:
        if trace is not None and name in metrics:
            pairs = zip(trace.iterations.tolist(), metrics[name].tolist(), strict=True)
            tests += [(iteration, {name: value}) for iteration, value in pairs]
        else:
            history = client.get_metric_history(run.run_id, name)
            history.sort(key=lambda metric: metric.timestamp)
            tests += [(metric.step, {name: metric.value}) for metric in history]
    return Trace.of([losses], tests)


def _losses(client: MlflowClient, run_id: str) -> npt.NDArray[np.float32]:
    history = client.get_metric_history(run_id, LOSS)
    steps = np.array([metric.step for metric in history], dtype=np.int64)
    values = np.array([metric.value for metric in history], dtype=np.float32)
    losses = np.full(steps.max(initial=-1) + 1, np.nan, np.float32)
    losses[steps] = values
    return losses
