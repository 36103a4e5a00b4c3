"""Run batch normalization of stock Keras layers with TensorFlow's fused kernel.

Keras's `BatchNormalization` uses several operations for inputs of rank 3. While a compiled step is
traced, this module lets the model's layers compute the same function on a view of rank 4, for
which TensorFlow has one fused operation (and another for its gradient). The layers, their variables
and saved models stay stock Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


@contextmanager
def fused_norms(model: keras.Model) -> Iterator[None]:
    """Let the model's batch norms of rank 3 call the fused operation while the context is open."""
    norms = [layer for layer in all_layers(model) if _can_fuse(layer)]
    for layer in norms:
        layer.call = _fused_call(layer)
    try:
        yield
    finally:
        for layer in norms:
            del layer.call


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the model's layers, including those of nested models."""
    layers: list[keras.layers.Layer] = model._flatten_layers(include_self=False)
    return layers


def _can_fuse(layer: keras.layers.Layer) -> bool:
    """Return whether the fused operation computes exactly the layer's function."""
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.built
        and layer.trainable
        and layer.axis in (-1, 2)
        and layer.input_spec.ndim in (None, 3)
        and layer.scale
        and layer.center
        and not layer.synchronized
        and layer.compute_dtype == "float32"
    )


def _fused_call(layer: keras.layers.BatchNormalization) -> Callable[..., Any]:
    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if mask is not None or len(inputs.shape) != 3:
            return type(layer).call(layer, inputs, training=training, mask=mask)
        first = {"x": tf.expand_dims(inputs, 2), "scale": layer.gamma.value}
        common = {**first, "offset": layer.beta.value, "epsilon": layer.epsilon}
        if not training:
            mean, variance = layer.moving_mean.value, layer.moving_variance.value
            normed, *_ = tf.raw_ops.FusedBatchNormV3(
                **common, mean=mean, variance=variance, is_training=False
            )
            return tf.squeeze(normed, 2)
        unused = tf.zeros([0])
        normed, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            **common, mean=unused, variance=unused, is_training=True
        )
        # The operation returns the unbiased variance; Keras keeps the biased one.
        n = tf.cast(tf.shape(inputs)[0] * tf.shape(inputs)[1], variance.dtype)
        _move(layer.moving_mean, mean, layer.momentum)
        _move(layer.moving_variance, variance * (n - 1) / n, layer.momentum)
        return tf.squeeze(normed, 2)

    return call


def _move(moving: keras.Variable, batch: Any, momentum: float) -> None:
    moving.assign(moving.value * momentum + batch * (1 - momentum))
