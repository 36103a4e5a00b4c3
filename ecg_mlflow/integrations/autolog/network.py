"""A network whose outputs are made probabilities, described by params, and logged as a model."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ecg_mlflow.errors import AutologError
from ecg_mlflow.tracking.logged_models import NetworkInfo, log_model
from ecg_mlflow.tracking.run_log import RunLog

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

#: What turns the outputs of a network into probabilities; ``linear`` leaves them as they are.
Activation = Literal["softmax", "sigmoid", "linear"]
#: Layers behind the last one that computes: they change no value at prediction.
_WITHOUT_EFFECT = ("Dropout", "Flatten", "Reshape", "Identity")


def probability_network(
    model: keras.Model, activation: Activation | None, window_shape: Sequence[int]
) -> tuple[keras.Model, bool]:
    """Return a network of the same weights that ends in probabilities of classes.

    Parameters
    ----------
    model
        A compiled network. One output is the probability of the second class of two.
    activation
        Where the caller knows it; otherwise the last layer tells, and for logits the loss.
    window_shape
        Of its input, where the network itself doesn't say.

    Returns
    -------
    The network, and whether its classes are independent, so that a record may be of several or of
    none: several sigmoids.

    Raises
    ------
    AutologError
        The network has several outputs, or the last layer does not tell.
    """
    import keras

    known = getattr(model, "inputs", None)
    inputs = keras.Input(known[0].shape[1:] if known else window_shape)
    outputs = model(inputs)
    if len(getattr(outputs, "shape", ())) != 2:
        shapes = [tuple(one.shape) for one in keras.tree.flatten(outputs)]
        raise AutologError(
            f"the network {model.name!r} must have one output, of shape (n_windows, n_classes), to "
            f"be tested; it has {shapes}"
        )
    n_outputs, ending = outputs.shape[1], last_activation(model)
    if activation is None:
        if ending in ("softmax", "sigmoid"):
            activation = "linear"
        elif ending == "linear":
            is_binary = n_outputs == 1 or _loss_name(model.loss).startswith("binary_")
            activation = "sigmoid" if is_binary else "softmax"
        else:
            raise AutologError(
                f"the network {model.name!r} ends in {ending or 'a layer'} that does not say "
                "whether its outputs are probabilities; give activation='softmax' or 'sigmoid' for "
                "logits, 'linear' for probabilities"
            )
    if activation != "linear":
        outputs = keras.layers.Activation(activation, dtype="float32")(outputs)
    if n_outputs == 1:
        rest = keras.layers.Rescaling(-1.0, offset=1.0)(outputs)
        outputs = keras.layers.Concatenate()([rest, outputs])
    is_sigmoid = "sigmoid" in (activation, ending if activation == "linear" else None)
    return keras.Model(inputs, outputs, name=model.name), n_outputs > 1 and is_sigmoid


def last_activation(model: keras.Model) -> str | None:
    """Name the activation that a network ends in, ``linear`` for none; None if it can't be told."""
    import keras

    layers = [layer for layer in model.layers if type(layer).__name__ not in _WITHOUT_EFFECT]
    if not layers:
        return None
    last = layers[-1]
    if isinstance(last, keras.Model):
        return last_activation(last)
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    name = getattr(getattr(last, "activation", None), "__name__", None)
    # A linear layer of another type stands there in mixed precision.
    if name == "linear" and isinstance(last, keras.layers.Activation) and len(layers) > 1:
        before = getattr(getattr(layers[-2], "activation", None), "__name__", None)
        return before or "linear"
    return name


def training_params(model: keras.Model, fit_params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return params, by the names that a study's runs have where they are the same.

    Parameters
    ----------
    model
        Built and compiled.
    fit_params
        The `params` of Keras's callbacks: ``epochs``, and ``steps`` of an epoch where known.
    """
    from ecg_mlflow.models.build import count_parameters

    of_fit, optimizer, training = fit_params or {}, model.optimizer, {"optimizer": "none"}
    if optimizer is not None:
        rate = optimizer.get_config().get("learning_rate")
        if isinstance(rate, dict):  # a schedule
            rate = f"{rate['class_name']}({rate['config']})"
        # Its name would be numbered, from the second one of a process on.
        name = type(optimizer).__name__.lower()
        training = {
            "optimizer": name,
            "learning_rate": rate if isinstance(rate, str) else f"{rate:.6g}",
        }
    return {
        "model": model.name,
        "epochs": of_fit.get("epochs"),
        "iterations_per_epoch": of_fit.get("steps") or "unknown",
        **training,
        "loss_function": _loss_name(model.loss),
        "trainable_parameters": count_parameters(model),
        "total_parameters": model.count_params(),
    }


def _loss_name(loss: Any) -> str:
    """Name a loss as it was given to `compile`: text, a function, or an object."""
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", None) or loss)


def log_network(
    run_log: RunLog,
    name: str,
    model: keras.Model,
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
    classes
        Names of the classes; empty where they have none.
    metrics
        What these weights have reached.
    iteration
        The iteration that the weights are of.

    Returns
    -------
    The model's id; None where only a file was kept.
    """
    import keras

    with tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder:
        path = Path(folder, f"{name}.keras")
        if obstacle := _obstacle(model):
            log.warning(
                "the network %r is kept as models/%s.keras and not as an MLflow model: %s",
                *(model.name, name, obstacle),
            )
            try:
                model.save(path)
            except (NotImplementedError, TypeError, ValueError) as error:
                log.warning("Keras can't save the network %r: %s", model.name, error)
            else:
                run_log.file(path, "models")
            return None
        keras.Model(model.inputs[0], model.outputs[0], name=model.name).save(path)
        outputs = map(str, range(model.outputs[0].shape[-1]))
        info = NetworkInfo(tuple(model.inputs[0].shape[1:]), tuple(classes or outputs), "linear")
        of_run = run_log.client, run_log.run_id, name, path, info
        return run_log.retry.call(log_model, *of_run, metrics=metrics, step=iteration)


def _obstacle(model: keras.Model) -> str | None:
    """Say why MLflow could not load and describe a network; None if it can."""
    import keras

    own = (
        []
        if isinstance(model, keras.Sequential) or type(model).__name__ == "Functional"
        else [model]
    )
    for layer in [*own, *model._flatten_layers(include_self=False)]:
        kind = type(layer)
        if layer in own or kind.__name__ == "Lambda" or not kind.__module__.startswith("keras."):
            return (
                f"{layer.name!r} is of the class {kind.__name__}, which only its own code can load"
            )
    shapes = [output.shape for output in model.outputs]
    if len(model.inputs) != 1 or len(shapes) != 1 or len(shapes[0]) != 2:
        return f"it has {len(model.inputs)} inputs and the outputs {shapes}, not (None, n_classes)"
    return None
