"""How a network's outputs become probabilities, and how the network is logged as a model."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.labelled_records import check_probabilities
from ecg_mlflow.tracking.logged_models import NetworkInfo, log_model
from ecg_mlflow.tracking.run_log import RunLog

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

#: As in `NetworkInfo`.
Activation = Literal["softmax", "sigmoid", "linear"]
#: Layers behind the last one that computes: they change no value at prediction.
_WITHOUT_EFFECT = ("Dropout", "Flatten", "Reshape", "Identity")


@dataclass(frozen=True)
class OutputActivation:
    """What turns a network's outputs into probabilities of classes.

    Attributes
    ----------
    activation
        To apply to the outputs; ``linear`` where they are probabilities already.
    n_outputs
        One output is the probability of the second class of two.
    independent
        Whether a record may be of several classes or of none: several sigmoids.
    """

    activation: Activation
    n_outputs: int
    independent: bool

    @classmethod
    def of(
        cls, model: keras.Model, activation: Activation | None, n_outputs: int
    ) -> OutputActivation:
        """Infer it from a compiled network.

        Parameters
        ----------
        model
            The network.
        activation
            Where the caller knows it; otherwise the last layer tells, and for logits the loss.
        n_outputs
            Size of the output's last dimension.

        Raises
        ------
        AutologError
            The last layer does not tell.
        """
        ending = last_activation(model)
        if activation is None:
            if ending in ("softmax", "sigmoid"):
                activation = "linear"
            elif ending == "linear":
                is_binary = n_outputs == 1 or _is_binary(getattr(model, "loss", None))
                activation = "sigmoid" if is_binary else "softmax"
            else:
                raise AutologError(
                    f"the network {model.name!r} ends in {ending or 'a layer'} that does not say "
                    "whether its outputs are probabilities; give activation='softmax' or "
                    "'sigmoid' for logits, 'linear' for probabilities"
                )
        is_sigmoid = activation == "sigmoid" or (activation == "linear" and ending == "sigmoid")
        return cls(activation, n_outputs, n_outputs > 1 and is_sigmoid)

    def probabilities(self, outputs: Any) -> npt.NDArray[np.float32]:
        """Turn outputs ``(n, n_outputs)`` into probabilities ``(n, n_classes)``.

        Raises
        ------
        AutologError
            They are none: outside of 0 to 1, or their sum is not 1.
        """
        from scipy.special import expit, softmax

        values = np.asarray(outputs, np.float64)
        if self.activation == "softmax":
            values = softmax(values, axis=1)
        elif self.activation == "sigmoid":
            values = expit(values)
        if self.n_outputs == 1:
            values = np.concatenate([1 - values, values], axis=1)
        finite = values[np.isfinite(values).all(axis=1)]
        if len(finite):
            check_probabilities(
                finite,
                multilabel=self.independent,
                what="the network's outputs",
                advice="Give activation='softmax' or 'sigmoid' for logits",
            )
        return np.minimum(values, 1).astype(np.float32)


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


def _is_binary(loss: Any) -> bool:
    """Say whether a loss, given to `compile` as text, function or object, is of sigmoids."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name.lower().startswith("binary")


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
        training = {
            # Its name would be numbered, from the second one of a process on.
            "optimizer": type(optimizer).__name__.lower(),
            # A schedule tells its class and arguments.
            "learning_rate": f"{rate['class_name']}({rate['config']})"
            if isinstance(rate, dict)
            else f"{rate:.6g}",
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
    """Name a loss as it was given to `compile`: text, a function, an object, or several of them."""
    if isinstance(loss, dict):
        return ", ".join(f"{key}: {_loss_name(one)}" for key, one in loss.items())
    if isinstance(loss, list | tuple):
        return ", ".join(map(_loss_name, loss))
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", None) or loss)


def log_network(
    run_log: RunLog,
    name: str,
    model: keras.Model,
    output: OutputActivation | None,
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
    output
        What turns its outputs into probabilities; None leaves them as they are.
    classes
        Names of the classes; may be empty where `output` is None.
    metrics
        What these weights have reached.
    iteration
        The iteration that the weights are of.

    Returns
    -------
    The model's id; None where only a file was kept.
    """
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
        _probability_network(model, output).save(path)
        info = NetworkInfo(
            tuple(model.inputs[0].shape[1:]),
            tuple(classes) or tuple(map(str, range(model.outputs[0].shape[-1]))),
            "linear" if output is None or output.n_outputs == 1 else output.activation,
        )
        of_run = run_log.client, run_log.run_id, name, path, info
        return run_log.retry.call(log_model, *of_run, metrics=metrics, step=iteration)


def _obstacle(model: keras.Model) -> str | None:
    """Say why MLflow could not load and describe a network; None if it can."""
    import keras

    kind = type(model).__name__
    if not isinstance(model, keras.Sequential) and kind != "Functional":
        return f"it is of the class {kind}, which only its own code can load"
    for layer in model._flatten_layers(include_self=False):
        kind = type(layer).__name__
        if kind == "Lambda" or not type(layer).__module__.startswith("keras."):
            return f"its layer {layer.name!r} is of the class {kind}, which holds code"
    shapes = [output.shape for output in model.outputs]
    if len(model.inputs) != 1 or len(shapes) != 1 or len(shapes[0]) != 2:
        return f"it has {len(model.inputs)} inputs and the outputs {shapes}, not (None, n_classes)"
    return None


def _probability_network(model: keras.Model, output: OutputActivation | None) -> keras.Model:
    """Return the same layers without an optimizer; of one output it makes one for each class."""
    import keras

    outputs = model.outputs[0]
    if output is not None and output.n_outputs == 1:
        if output.activation == "sigmoid":
            outputs = keras.layers.Activation("sigmoid")(outputs)
        rest = keras.layers.Rescaling(-1.0, offset=1.0)(outputs)
        outputs = keras.layers.Concatenate()([rest, outputs])
    return keras.Model(model.inputs[0], outputs, name=model.name)
