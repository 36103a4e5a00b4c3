"""Parameters and cost of models that aren't described by a specification."""

from __future__ import annotations

import keras
from keras import layers

from ecg_mlflow.models.counting import count_multiply_adds, count_parameters


def test_a_model_of_ones_own():
    inner = keras.Sequential([layers.Input((50, 4)), layers.Conv1D(6, 5, strides=2)])
    inputs = keras.Input((50, 4))
    x = layers.GlobalMaxPooling1D()(inner(inputs))
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert count_parameters(model) == (5 * 4 * 6 + 6) + (6 * 3 + 3)
    assert count_multiply_adds(model) == 5 * 4 * 6 * 23 + 6 * 3


def test_frozen_parameters_are_not_counted():
    model = keras.Sequential([layers.Input((50, 4)), layers.Dense(2), layers.BatchNormalization()])
    assert count_parameters(model) == 4 * 2 + 2 + 2 + 2
    model.layers[0].trainable = False
    assert count_parameters(model) == 4


def test_dense_layers_over_time_count_every_position():
    model = keras.Sequential([layers.Input((50, 4)), layers.Dense(2)])
    assert count_multiply_adds(model) == 50 * 4 * 2


def test_layers_whose_shapes_keras_does_not_know_count_once():
    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    model(keras.ops.zeros((1, 7)))
    assert count_multiply_adds(model) == 21
    recurrent = keras.Sequential([layers.Input((50, 4)), layers.LSTM(5), layers.Dense(2)])
    assert count_multiply_adds(recurrent) == 4 * 20 + 5 * 2
