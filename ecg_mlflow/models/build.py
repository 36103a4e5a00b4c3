"""Build a configuration's model from a seed, and check it against the pipelines' windows."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_mlflow.errors import ModelError
from ecg_mlflow.models.arguments import ModelBuilder, builder_name

if TYPE_CHECKING:
    import keras

#: Keras's layer around a module of PyTorch.
_TORCH = "TorchModuleWrapper"


def build_model(
    builder: ModelBuilder,
    input_shape: tuple[int, int],
    n_classes: int,
    arguments: Mapping[str, Any],
    seed: int,
) -> keras.Model:
    """Build a configuration's model from a seed.

    Raises
    ------
    ModelError
        If its input differs from these windows, its output from one value per class, or if it
        returns probabilities instead of logits.
    """
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = builder(input_shape, n_classes, **arguments)
    name = builder_name(builder)
    if not isinstance(model, keras.Model):
        raise ModelError(f"{name} returned {type(model).__name__}, not a keras.Model")
    shapes = (tuple(model.input_shape), tuple(model.output_shape))
    if shapes != ((None, *input_shape), (None, n_classes)):
        raise ModelError(
            f"{name} takes {shapes[0]} and returns {shapes[1]}; the pipelines and "
            f"classes need {(None, *input_shape)} and {(None, n_classes)}"
        )
    # The loss would apply a second softmax, and the network would learn badly without an error.
    activation = getattr(model.layers[-1], "activation", None)
    if isinstance(model.layers[-1], keras.layers.Softmax) or activation in (
        keras.activations.softmax,
        keras.activations.sigmoid,
    ):
        raise ModelError(
            f"{name} ends in probabilities; leave the softmax or sigmoid out, because "
            "losses and metrics are computed from logits"
        )
    return model


def weight_seed(seed: int, repetition: int) -> int:
    """Return Keras's seed of the initial weights and dropout, below 2**32."""
    return int(np.random.SeedSequence([seed, repetition]).generate_state(1)[0])


def load_network(file: Path) -> keras.Model:
    """Load a logged network without its optimizer and without running code stored in it.

    Raises
    ------
    ModelError
        If the file is damaged, or needs layers that aren't Keras's own.
    """
    import keras

    try:
        if _TORCH in _layer_classes(file):
            raise ModelError(
                f"the network {file.name} holds a module of PyTorch ({_TORCH}), which is stored as "
                "a pickle and is not loaded; build the network of Keras's own layers"
            )
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except ModelError:
        raise
    except Exception as error:  # whatever Keras comes upon in a file that is damaged or foreign
        why = str(error).strip().splitlines()
        raise ModelError(
            f"the network {file.name} can't be loaded: {why[0] if why else type(error).__name__}"
        ) from error


def _layer_classes(file: Path) -> set[str]:
    """Return the names of all classes that a ``.keras`` file's configuration names."""
    with zipfile.ZipFile(file) as archive:
        waiting = [json.loads(archive.read("config.json"))]
    found = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            found.add(str(one.get("class_name")))
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found


def count_parameters(model: keras.Model) -> int:
    """Return the number of trainable parameters."""
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def count_multiply_adds(model: keras.Model) -> int:
    """Return the approximate number of multiply-adds of one example's forward pass.

    Each layer with a kernel counts its kernel once per output position, or once if Keras doesn't
    know the output's shape (in a subclassed model, or a recurrent cell); other layers are ignored.
    """
    total = 0
    for layer in model._flatten_layers(include_self=False):
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            total += math.prod(kernel.shape) * _positions(layer)
    return total


def _positions(layer: keras.layers.Layer) -> int:
    try:
        shape = layer.output.shape
    except (AttributeError, ValueError):  # Keras raises either if the layer has no graph
        return 1
    return math.prod(n or 1 for n in shape[1:-1])
