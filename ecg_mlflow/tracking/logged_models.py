"""Log models as MLflow LoggedModels, in a time that doesn't grow with the run, and read them back.

``mlflow.*.log_model`` infers requirements (12 to 15 s) and reads the run's whole metric history
again (5 s at 100,000 points). The steps here are the ones that it is made of, without those two.

The network is stored as its ``.keras`` file under a pyfunc "from code": a short Python file and
no pickle, so it loads with ``MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false`` too. That is also the
quicker way: 10 ms to save, where the TensorFlow flavor wants a live model and takes 60 to 100 ms.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from tqdm import tqdm

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.provenance import pinned
from ecg_mlflow.terminal import say
from ecg_mlflow.tracking.client import NO_PROGRESS_BAR, environment
from ecg_mlflow.tracking.dataset_inputs import DatasetInfo
from ecg_mlflow.tracking.retry import store_errors

_LOGGED_MODEL = re.compile(r"models:/(?P<id>m-[0-9a-f]+)")

PYFUNC_FILE = Path(__file__).with_name("keras_pyfunc.py")
#: Distributions that a network needs to predict; of a tuple, the one there is.
NETWORK_PACKAGES = (("mlflow",), ("keras",), ("tensorflow", "tensorflow-cpu"), ("numpy",))


@dataclass(frozen=True)
class NetworkInfo:
    """What MLflow has to know of a network to describe and serve it.

    Attributes
    ----------
    input_shape
        ``(n_samples, n_leads)`` of a window; None for a length that is free.
    classes
        Class names in the order of the outputs.
    activation
        What turns the network's outputs into probabilities: ``softmax`` or ``sigmoid`` of logits,
        ``linear`` where the network ends in one of them itself.
    """

    input_shape: tuple[int | None, int]
    classes: tuple[str, ...]
    activation: Literal["softmax", "sigmoid", "linear"] = "softmax"

    def signature(self) -> ModelSignature:
        """Return the signature: float32 windows in, float32 probabilities out."""
        shape = (-1, *(-1 if size is None else size for size in self.input_shape))
        float32 = np.dtype(np.float32)
        return ModelSignature(
            inputs=Schema([TensorSpec(float32, shape)]),
            outputs=Schema([TensorSpec(float32, (-1, len(self.classes)))]),
        )


def log_model(
    client: MlflowClient,
    run_id: str,
    name: str,
    keras_file: Path,
    network: NetworkInfo,
    *,
    metrics: Mapping[str, float] | None = None,
    step: int = 0,
    time_ms: int | None = None,
    dataset: DatasetInfo | None = None,
) -> str:
    """Log a trained network and link it to its run, metrics and data set.

    A run has one model of a name: where it is there already, logged by a process that died soon
    after, it stays, and what was left half made goes.

    Measured with sqlite for a small net: 60 ms, and 0.45 s more for the first one of a process.

    Parameters
    ----------
    client, run_id
        The run that trained it.
    name
        Name of the model, such as ``best`` or ``last``.
    keras_file
        The network as a ``.keras`` file of stock layers.
    network
        Shapes and classes.
    metrics
        What this state of the network reached; logged in the run too, under the same names.
    step
        Iteration that the weights are of.
    time_ms
        When the metrics were computed, in milliseconds since 1970; by default now. With the same
        time they may be logged again, and are stored once.
    dataset
        What the metrics were computed on.

    Returns
    -------
    The model's id; its URI is ``models:/<id>``.

    Raises
    ------
    TrackingError
        The store fails. A model that was begun is marked FAILED then.
    """

    def save(path: Path, description: Model) -> None:
        with quiet_saving():
            mlflow.pyfunc.save_model(
                str(path),
                python_model=str(PYFUNC_FILE),
                artifacts={"network": str(keras_file.absolute())},
                signature=network.signature(),
                model_config={"activation": network.activation},
                pip_requirements=[pinned(*names) for names in NETWORK_PACKAGES],
                mlflow_model=description,
            )

    model_id = log_saved(client, run_id, name, save, {"classes": list(network.classes)}, step)
    now = time.time_ns() // 1_000_000 if time_ms is None else time_ms
    linked = [
        Metric(
            key,
            float(value),
            now,
            step,
            model_id=model_id,
            dataset_name=None if dataset is None else dataset.name,
            dataset_digest=None if dataset is None else dataset.short_digest,
            run_id=run_id,
        )
        for key, value in (metrics or {}).items()
    ]
    with store_errors(f"log the metrics of model {name!r} of run {run_id}"):
        client.log_batch(run_id, linked)
    return model_id


def log_saved(
    client: MlflowClient,
    run_id: str,
    name: str,
    save: Callable[[Path, Model], None],
    metadata: Mapping[str, object],
    step: int = 0,
    *,
    show_progress: bool = False,
) -> str:
    """Log what `save` writes as a model of a run, unless the run has it already.

    Parameters
    ----------
    client, run_id, name
        Where, and what to call it.
    save
        ``save(folder, description)`` writes MLflow's form of the model into a folder that isn't
        there yet.
    metadata
        Plain data that MLflow keeps in the model's own file.
    step
        Iteration that the weights are of.
    show_progress
        Show on stderr how much has been sent; a server may take seconds for each file.

    Returns
    -------
    The model's id.

    Raises
    ------
    TrackingError
        The store fails. A model that was begun is marked FAILED then.
    """
    with store_errors(f"log the model {name!r} of run {run_id}"):
        found = _models_of(client, run_id, name)
        ready = [str(one.model_id) for one in found if one.status == LoggedModelStatus.READY]
        for one in found:
            if one.status != LoggedModelStatus.READY:
                client.delete_logged_model(one.model_id)
        if ready:
            return ready[0]
        model = client.create_logged_model(
            client.get_run(run_id).info.experiment_id,
            name=name,
            source_run_id=run_id,
            model_type="classifier",
        )
        model_id = str(model.model_id)
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model")
                description = Model(
                    artifact_path=model.artifact_location,
                    run_id=run_id,
                    model_id=model_id,
                    model_uuid=model_id,
                    metadata=dict(metadata),
                )
                save(path, description)
                _send(client, model_id, path, show_progress)
            client.log_outputs(run_id, [LoggedModelOutput(model_id, step)])
            client.finalize_logged_model(model_id, "READY")
        except BaseException:
            with suppress(MlflowException, OSError):  # the first error is the one that counts
                client.finalize_logged_model(model_id, "FAILED")
            raise
    return model_id


def _send(client: MlflowClient, model_id: str, folder: Path, show_progress: bool) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    n_bytes = sum(file.stat().st_size for file in files)
    said = f"sending {len(files)} files of the model"
    with tqdm(
        total=n_bytes, desc=said, unit="B", unit_scale=True, disable=None if show_progress else True
    ) as bar:
        for file in files:
            parent = file.parent.relative_to(folder).as_posix()
            client.log_model_artifact(model_id, str(file), None if parent == "." else parent)
            bar.update(file.stat().st_size)
    if show_progress and bar.disable:  # no terminal
        say(f"{said}, {n_bytes / 1e6:.1f} MB: done", file=sys.stderr)


@contextmanager
def quiet_saving() -> Iterator[None]:
    """Keep MLflow, while it saves a model, from printing, and from files that are not the model's.

    A progress bar for copying files would run through others, and the files of uv in the current
    folder are not the model's.
    """
    with (
        warnings.catch_warnings(),
        environment(**NO_PROGRESS_BAR, MLFLOW_UV_AUTO_DETECT="false"),
    ):
        # The signature of a network is stated: an example would add nothing.
        warnings.filterwarnings("ignore", message=".*input example was not provided.*")
        # About MLflow's own agent classes, when mlflow.pyfunc is first imported.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType.*")
        # Of pandas 3.1, about how MLflow makes the example's JSON.
        warnings.filterwarnings("ignore", message="Operation with range is deprecated")
        yield


def fetch_network(client: MlflowClient, run_id: str, name: str, folder: Path) -> Path:
    """Copy the ``.keras`` file of a run's model into a folder; return its path there.

    Raises
    ------
    TrackingError
        The run has no such model, or the store fails.
    """
    with store_errors(f"fetch the model {name!r} of run {run_id}"):
        found = _models_of(client, run_id, name)
    for model in found:
        if model.status == LoggedModelStatus.READY:
            return _download(client, f"{model.artifact_location}/artifacts/{name}.keras", folder)
    raise TrackingError(f"run {run_id} has no model {name!r}; was it deleted?")


def _models_of(client: MlflowClient, run_id: str, name: str) -> list[LoggedModel]:
    """Return the run's models of that name, also those that are not whole."""
    experiment_id = client.get_run(run_id).info.experiment_id
    query = f"source_run_id = '{run_id}' AND name = '{name}'"
    return list(client.search_logged_models([experiment_id], filter_string=query))


@contextmanager
def fetch_model(client: MlflowClient, source: str) -> Iterator[Path]:
    """Give the folder of a model's files; a copy for the block where they are elsewhere.

    Raises
    ------
    TrackingError
        If they can't be fetched.
    """
    if Path(source).is_dir():
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as folder:
        yield _download(client, source, Path(folder))


def trained_on(client: MlflowClient, source: str) -> Mapping[str, Any] | None:
    """Read what a model says of the recordings that it has seen; None where it doesn't."""
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as folder:
        try:
            path = _download(client, f"{source}/artifacts/trained_on.json", Path(folder))
        except TrackingError:
            return None
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found


def _download(client: MlflowClient, source: str, folder: Path) -> Path:
    with environment(**NO_PROGRESS_BAR), store_errors(f"load the model {source}"):
        if logged := _LOGGED_MODEL.match(source):
            # MLflow would look for it in the store of the environment, whatever store is meant.
            location = client.get_logged_model(logged["id"]).artifact_location
            source = f"{location}{source[logged.end() :]}"
        return Path(
            mlflow.artifacts.download_artifacts(
                source, dst_path=str(folder), tracking_uri=client.tracking_uri
            )
        )
