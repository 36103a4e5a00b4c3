"""Read models back: a run's network, any model to ask, and what it has seen while it was made."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException

from ecg_mlflow.errors import ModelError, TrackingError
from ecg_mlflow.tracking.client import environment, store_errors

if TYPE_CHECKING:
    import pandas as pd


def fetch_network(client: MlflowClient, run_id: str, name: str, folder: Path) -> Path:
    """Copy the ``.keras`` file of a run's model into a folder; return its path there.

    Raises
    ------
    TrackingError
        The run has no such model, or the store fails.
    """
    query = f"source_run_id = '{run_id}' AND name = '{name}'"
    with (
        store_errors(f"fetch the model {name!r} of run {run_id}"),
        environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"),
    ):
        experiment_id = client.get_run(run_id).info.experiment_id
        found = client.search_logged_models([experiment_id], filter_string=query)
        ready = [model for model in found if model.status == LoggedModelStatus.READY]
        if not ready:
            raise TrackingError(f"run {run_id} has no model {name!r}; was it deleted?")
        return Path(
            mlflow.artifacts.download_artifacts(
                f"{ready[0].artifact_location}/artifacts/{name}.keras",
                dst_path=str(folder),
                tracking_uri=client.tracking_uri,
            )
        )


@contextmanager
def open_classifier(
    client: MlflowClient, source: str
) -> Iterator[Callable[[pd.DataFrame], pd.DataFrame]]:
    """Load a model, of whatever origin, and give its `predict`.

    Parameters
    ----------
    client
        The store.
    source
        Where the model's files are.

    Raises
    ------
    TrackingError
        If the files can't be fetched.
    ModelError
        If they can't be loaded here.
    """
    path = list(sys.path)
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as folder:
        with (
            store_errors(f"fetch the model {source}"),
            environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"),
        ):
            files = mlflow.artifacts.download_artifacts(
                source, dst_path=folder, tracking_uri=client.tracking_uri
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the model's own code and requirements
                loaded = mlflow.pyfunc.load_model(files)
        except Exception as error:
            raise ModelError(
                f"the model {source} can't be loaded here: {type(error).__name__}: {error}"
            ) from error
        try:
            yield loaded.predict
        finally:
            sys.path[:] = path  # MLflow has put the model's own code there


def trained_on(client: MlflowClient, source: str) -> Mapping[str, Any] | None:
    """Read what a model says of the recordings that it has seen; None where it doesn't."""
    with (
        tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as folder,
        environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"),
    ):
        try:
            path = mlflow.artifacts.download_artifacts(
                f"{source}/artifacts/trained_on.json",
                dst_path=folder,
                tracking_uri=client.tracking_uri,
            )
        except (MlflowException, OSError):
            return None
        found: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
        return found
