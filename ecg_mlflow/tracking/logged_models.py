"""Log a trained network as an MLflow LoggedModel in a time that doesn't grow with the run.

``mlflow.*.log_model`` infers requirements (12 to 15 s) and reads the run's whole metric history
again (5 s at 100,000 points). The steps here are the ones that it is made of, without those two.

The network is stored as its ``.keras`` file under a pyfunc "from code": a short Python file and
no pickle, so it loads with ``MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false`` too. That is also the
quicker way: 10 ms to save, where the TensorFlow flavor wants a live model and takes 60 to 100 ms.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from ecg_mlflow.errors import ModelError
from ecg_mlflow.provenance import pinned
from ecg_mlflow.tracking.client import environment, store_errors
from ecg_mlflow.tracking.datasets import DatasetInfo

PYFUNC_FILE = Path(__file__).with_name("keras_pyfunc.py")


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
    keras_file: str | Path,
    network: NetworkInfo,
    *,
    metrics: Mapping[str, float] | None = None,
    step: int = 0,
    time_ms: int | None = None,
    dataset: DatasetInfo | None = None,
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, object] | None = None,
    pip_requirements: Sequence[str] | None = None,
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
    params, tags
        More to keep with the model.
    pip_requirements
        What the model needs to predict; by default `pinned_requirements`.

    Returns
    -------
    The model's id; its URI is ``models:/<id>``.

    Raises
    ------
    ModelError
        There is no ``.keras`` file.
    TrackingError
        The store fails. A model that was begun is marked FAILED then.
    """
    keras_file = Path(keras_file)
    if keras_file.suffix != ".keras" or not keras_file.is_file():
        raise ModelError(
            f"the model {name!r} needs a network saved by Keras as a .keras file; {keras_file}"
            f" {'is another kind of file' if keras_file.is_file() else 'does not exist'}"
        )

    def save(path: Path, description: Model) -> None:
        _save(path, keras_file, network, description, pip_requirements)

    metadata = {"classes": list(network.classes)}
    model_id = log_saved(client, run_id, name, save, metadata, step=step, params=params, tags=tags)
    if metrics:
        now = time.time_ns() // 1_000_000 if time_ms is None else time_ms
        with store_errors(f"log the metrics of model {name!r} of run {run_id}"):
            client.log_batch(run_id, _linked(metrics, step, now, model_id, dataset, run_id))
    return model_id


def log_saved(
    client: MlflowClient,
    run_id: str,
    name: str,
    save: Callable[[Path, Model], None],
    metadata: Mapping[str, object],
    *,
    step: int = 0,
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, object] | None = None,
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
    step, params, tags
        Iteration that the weights are of; more to keep with the model.

    Returns
    -------
    The model's id.

    Raises
    ------
    TrackingError
        The store fails. A model that was begun is marked FAILED then.
    """
    with store_errors(f"log the model {name!r} of run {run_id}"):
        experiment_id = client.get_run(run_id).info.experiment_id
        model = _find_whole(client, experiment_id, run_id, name)
        if model is None:
            model = client.create_logged_model(
                experiment_id,
                name=name,
                source_run_id=run_id,
                model_type="classifier",
                params={key: str(value) for key, value in (params or {}).items()},
                tags={key: str(value) for key, value in (tags or {}).items()},
            )
            with _failing(client, model.model_id), tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model")
                description = Model(
                    artifact_path=model.artifact_location,
                    run_id=run_id,
                    model_id=model.model_id,
                    model_uuid=model.model_id,
                    metadata=dict(metadata),
                )
                save(path, description)
                client.log_model_artifacts(model.model_id, str(path))
                client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
                client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def _find_whole(
    client: MlflowClient, experiment_id: str, run_id: str, name: str
) -> LoggedModel | None:
    """Return the run's model of that name that is whole; delete what is not."""
    query = f"source_run_id = '{run_id}' AND name = '{name}'"
    whole = None
    for model in client.search_logged_models([experiment_id], filter_string=query):
        if model.status == LoggedModelStatus.READY:
            whole = model
        else:
            client.delete_logged_model(model.model_id)
    return whole


def pinned_requirements() -> tuple[str, ...]:
    """Return the packages that predicting needs, as they are installed here.

    Raises
    ------
    ModelError
        One of them is not installed under a name that pip knows.
    """
    names = (("mlflow",), ("keras",), ("tensorflow", "tensorflow-cpu"), ("numpy",))
    return tuple(pinned(*one) for one in names)


def _save(
    path: Path,
    keras_file: Path,
    network: NetworkInfo,
    description: Model,
    pip_requirements: Sequence[str] | None,
) -> None:
    with (
        warnings.catch_warnings(),
        # A progress bar for copying one file would run through the study's own.
        environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"),
    ):
        # The signature is stated, so there is nothing that an example would make surer; the other
        # one is about MLflow's own agent classes, when mlflow.pyfunc is first imported.
        warnings.filterwarnings("ignore", message=".*input example was not provided.*")
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType.*")
        mlflow.pyfunc.save_model(
            str(path),
            python_model=str(PYFUNC_FILE),
            artifacts={"network": str(keras_file.absolute())},
            signature=network.signature(),
            model_config={"activation": network.activation},
            pip_requirements=list(pip_requirements or pinned_requirements()),
            mlflow_model=description,
        )


@contextmanager
def _failing(client: MlflowClient, model_id: str) -> Iterator[None]:
    """Mark the model as FAILED where the block does not end well."""
    try:
        yield
    except BaseException as error:
        try:
            client.finalize_logged_model(model_id, "FAILED")
        except (MlflowException, OSError) as second:
            error.add_note(f"the model {model_id} still looks PENDING: {second}")
        raise


def _linked(
    metrics: Mapping[str, float],
    step: int,
    time_ms: int,
    model_id: str,
    dataset: DatasetInfo | None,
    run_id: str,
) -> list[Metric]:
    return [
        Metric(
            key,
            float(value),
            time_ms,
            step,
            model_id=model_id,
            dataset_name=None if dataset is None else dataset.name,
            dataset_digest=None if dataset is None else dataset.short_digest,
            run_id=run_id,
        )
        for key, value in metrics.items()
    ]
