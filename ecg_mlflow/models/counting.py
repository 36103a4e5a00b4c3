"""Size and cost of any Keras model, by looking at it."""

from __future__ import annotations

import math

import keras


def count_parameters(model: keras.Model) -> int:
    """Return the number of trainable parameters."""
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def count_multiply_adds(model: keras.Model) -> int:
    """Return about how many multiply-adds one example's forward pass takes.

    Each layer with a kernel counts its kernel once per output position; other layers count
    nothing.
    """
    total = 0
    for layer in model._flatten_layers(include_self=False):
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            positions = math.prod(n or 1 for n in layer.output.shape[1:-1])
            total += math.prod(kernel.shape) * positions
    return total
