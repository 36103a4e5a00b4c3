"""A network of the user's own as a model that MLflow can load, or else as a file of the run."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_mlflow.integrations.autolog.network import Head
from ecg_mlflow.tracking.logged_models import NetworkInfo, log_model
from ecg_mlflow.tracking.run_log import RunLog

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)


def save_network(
    run_log: RunLog,
    name: str,
    model: keras.Model,
    head: Head | None,
    classes: Sequence[str],
    metrics: Mapping[str, float],
    iteration: int,
) -> str | None:
    """Log a network with its present weights.

    Parameters
    ----------
    run_log
        The run that trained it.
    name
        Name of the model, such as ``last``.
    model
        A network of stock layers with one input and one output becomes an MLflow model, without
        its optimizer. Of any other kind the ``.keras`` file is kept among the run's artifacts, for
        MLflow could not load it without the code of its layers.
    head
        How to make its outputs probabilities; None leaves them as they are.
    classes
        Names of the classes; may be empty where `head` is None.
    metrics
        What these weights have reached.
    iteration
        Which iteration they are of.

    Returns
    -------
    The model's id; None where it is none.
    """
    obstacle = unservable(model)
    with tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder:
        path = Path(folder, f"{name}.keras")
        if obstacle is None:
            _probability_network(model, head).save(path)
            info = NetworkInfo(
                tuple(model.inputs[0].shape[1:]),
                tuple(classes) or tuple(map(str, range(model.outputs[0].shape[-1]))),
                "linear" if head is None or head.n_outputs == 1 else head.activation,
            )
            return run_log.retry.call(
                log_model,
                run_log.client,
                run_log.run_id,
                name,
                path,
                info,
                metrics=metrics,
                step=iteration,
            )
        log.warning(
            "the network %r is kept as models/%s.keras and not as an MLflow model: %s",
            model.name, name, obstacle,
        )  # fmt: skip
        try:
            model.save(path)
        except (NotImplementedError, TypeError, ValueError) as error:
            log.warning("Keras can't save the network %r: %s", model.name, error)
            return None
        run_log.file(path, "models")
    return None


def unservable(model: keras.Model) -> str | None:
    """Say why MLflow could not load and describe a network; None if it can."""
    import keras

    if not isinstance(model, keras.Sequential) and type(model).__name__ != "Functional":
        return f"it is of the class {type(model).__name__}, which only its own code can load"
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return f"it has {len(model.inputs)} inputs and {len(model.outputs)} outputs"
    if len(model.outputs[0].shape) != 2:
        return f"its output has the shape {model.outputs[0].shape}, and not (None, n_classes)"
    for layer in model._flatten_layers(include_self=False):
        kind = type(layer)
        if isinstance(layer, keras.layers.Lambda) or not kind.__module__.startswith("keras."):
            return f"its layer {layer.name!r} is of the class {kind.__name__}, which holds code"
    return None


def _probability_network(model: keras.Model, head: Head | None) -> keras.Model:
    """Return the same layers without an optimizer; of one output it makes one for each class."""
    import keras

    outputs = model.outputs[0]
    if head is not None and head.n_outputs == 1:
        if head.activation == "sigmoid":
            outputs = keras.layers.Activation("sigmoid")(outputs)
        rest = keras.layers.Rescaling(-1.0, offset=1.0)(outputs)
        outputs = keras.layers.Concatenate()([rest, outputs])
    return keras.Model(model.inputs[0], outputs, name=model.name)
