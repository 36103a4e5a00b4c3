"""Size and cost of any Keras model, by looking at it."""

from __future__ import annotations

import math

import keras


def count_parameters(model: keras.Model) -> int:
    """Return the number of trainable parameters."""
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def count_multiply_adds(model: keras.Model) -> int:
    """Return about how many multiply-adds one example's forward pass takes.

    Each layer with a kernel counts its kernel once per output position, where Keras knows the
    output's shape, and once otherwise (in a subclassed model, or a recurrent cell); other layers
    count nothing.
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
    except (AttributeError, ValueError):  # Keras raises either where the layer has no graph
        return 1
    return math.prod(n or 1 for n in shape[1:-1])
