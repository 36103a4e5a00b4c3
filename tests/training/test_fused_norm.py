"""Fused batch normalization: the layers' own function, and the layers as they were afterwards."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from ecg_mlflow.training.fused_norm import all_layers, fused_norms


def normed(shape: tuple[int, ...] = (30, 4), **options) -> keras.Sequential:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input(shape), layers.BatchNormalization(**options)])
    rng = np.random.default_rng(1)
    # Scale, shift, moving mean and moving variance, or those of them that there are.
    model.set_weights([rng.uniform(0.5, 2, w.shape) for w in model.get_weights()])
    return model


def fused_operations(model: keras.Model, x: np.ndarray, training: bool) -> int:
    """Trace the model and count the fused operations."""

    def call(inputs):
        with fused_norms(model):
            return model(inputs, training=training)

    graph = tf.function(call).get_concrete_function(tf.TensorSpec(x.shape)).graph
    return sum(op.type == "FusedBatchNormV3" for op in graph.get_operations())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.3, "epsilon": 1e-2}, {"axis": 2}], ids=str)
def test_output_gradients_and_statistics_are_those_of_the_layer(training, options):
    x = np.random.default_rng(2).normal(3, 2, (5, 30, 4)).astype(np.float32)
    weight = np.random.default_rng(3).normal(size=x.shape).astype(np.float32)

    def call(model: keras.Model) -> list:
        inputs = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = model(inputs, training=training)
            loss = tf.reduce_sum(weight * outputs)
        sources = [inputs, *(v.value for v in model.trainable_variables)]
        return [outputs, *tape.gradient(loss, sources)]

    stock, fused = normed(**options), normed(**options)
    expected = call(stock)
    with fused_norms(fused):
        found = call(fused)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5)
    for a, b in zip(fused.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert fused_operations(fused, x, training) == 1


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((30, 4), {"axis": 1}),
        ((30, 4), {"scale": False}),
        ((30, 4), {"center": False}),
        ((30, 4), {"trainable": False}),
        ((30, 4), {"dtype": "float64"}),
        ((4,), {}),
        ((6, 5, 4), {}),
    ],
    ids=str,
)
def test_other_norms_stay_as_they_are(shape, options):
    x = np.random.default_rng(2).normal(3, 2, (5, *shape)).astype(np.float32)
    stock, fused = normed(shape, **options), normed(shape, **options)
    with fused_norms(fused):
        assert not any("call" in vars(layer) for layer in all_layers(fused))
        found = fused(x, training=True)
    np.testing.assert_allclose(found, stock(x, training=True), atol=2e-6)


def test_a_norm_behind_a_mask_counts_what_the_mask_shows():
    def build() -> keras.Model:
        inputs = keras.Input((30, 4))
        return keras.Model(inputs, layers.BatchNormalization()(layers.Masking()(inputs)))

    x = np.random.default_rng(2).normal(3, 2, (5, 30, 4)).astype(np.float32)
    x[:, :10] = 0
    stock, fused = build(), build()
    with fused_norms(fused):
        found = fused(x, training=True)
    np.testing.assert_allclose(found, stock(x, training=True), atol=2e-6)


def test_layers_are_given_back_also_after_an_error():
    class Own(layers.BatchNormalization):
        pass

    inner = normed()
    inputs = keras.Input((30, 4))
    model = keras.Model(inputs, Own()(inner(inputs)))
    with fused_norms(model):
        assert "call" in vars(inner.layers[0]), "those of nested models too"
        assert "call" not in vars(model.layers[-1]), "subclasses stay as they are"
    assert "call" not in vars(inner.layers[0])
    with pytest.raises(KeyError), fused_norms(model):
        raise KeyError("elsewhere")
    assert "call" not in vars(inner.layers[0])
