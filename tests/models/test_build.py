from __future__ import annotations

import warnings
from pathlib import Path
from zipfile import ZipFile

import keras
import pytest
from keras import layers

from ecg_mlflow.errors import ModelError
from ecg_mlflow.models.build import (
    build_model,
    count_multiply_adds,
    count_parameters,
    load_network,
    weight_seed,
)


def test_every_repetition_has_its_own_weights():
    seeds = {weight_seed(seed, repetition) for seed in range(5) for repetition in range(5)}
    assert len(seeds) == 25
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert weight_seed(3, 1) == weight_seed(3, 1)


def build(model, seed=0):
    return build_model(model, (64, 2), 2, {"width": 3}, seed)


def net(input_shape, n_classes, width, activation=None, softmax=False, rank=2):
    inputs = keras.Input(input_shape[:rank])
    x = keras.layers.Dense(width)(keras.layers.Flatten()(inputs))
    x = keras.layers.Dense(n_classes, activation=activation)(x)
    return keras.Model(inputs, keras.layers.Softmax()(x) if softmax else x)


def test_the_same_seed_gives_the_same_weights():
    first, again, other = (build(net, seed).layers[-1].kernel.numpy() for seed in (1, 1, 2))
    assert (first == again).all()
    assert not (first == other).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "softmax"}, "net ends in probabilities"),
        ({"activation": "sigmoid"}, "net ends in probabilities"),
        ({"softmax": True}, "net ends in probabilities"),
        ({"n_classes": 5}, r"returns \(None, 5\); .* need .* \(None, 2\)"),
        ({"input_shape": (32, 2)}, r"takes \(None, 32, 2\)"),
    ],
)
def test_models_that_do_not_fit(changes, message):
    def model(input_shape, n_classes, width):
        return net(**{"input_shape": input_shape, "n_classes": n_classes, "width": width} | changes)

    model.__name__ = "net"
    with pytest.raises(ModelError, match=message):
        build(model)
    with pytest.raises(ModelError, match=r"returned int, not a keras\.Model"):
        build(lambda input_shape, n_classes, width: 7)


def test_a_model_of_ones_own():
    inner = keras.Sequential([layers.Input((50, 4)), layers.Conv1D(6, 5, strides=2)])
    inputs = keras.Input((50, 4))
    x = layers.GlobalMaxPooling1D()(inner(inputs))
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert count_parameters(model) == (5 * 4 * 6 + 6) + (6 * 3 + 3)
    assert count_multiply_adds(model) == 5 * 4 * 6 * 23 + 6 * 3


def test_frozen_parameters_are_not_counted():
    model = keras.Sequential([layers.Input((50, 4)), layers.Dense(2), layers.BatchNormalization()])
    assert count_multiply_adds(model) == 50 * 4 * 2, "dense layers over time, at every position"
    assert count_parameters(model) == 4 * 2 + 2 + 2 + 2
    model.layers[0].trainable = False
    assert count_parameters(model) == 4


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


@pytest.fixture
def changed(tmp_path):
    """Save a network, and rewrite the configuration in its file."""

    def change(old: str, new: str) -> Path:
        inputs = keras.Input((8, 1))
        outputs = keras.layers.Dense(2)(keras.layers.ReLU()(keras.layers.Flatten()(inputs)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Keras's own, about NumPy
            keras.Model(inputs, outputs).save(tmp_path / "whole.keras")
        with (
            ZipFile(tmp_path / "whole.keras") as whole,
            ZipFile(tmp_path / "changed.keras", "w") as file,
        ):
            for name in whole.namelist():
                data = whole.read(name)
                file.writestr(name, data.replace(old.encode(), new.encode()))
        return tmp_path / "changed.keras"

    return change


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"ReLU"', '"TorchModuleWrapper"', "holds a module of PyTorch .*stored as a pickle"),
        ('"ReLU"', '"Lambda"', "can't be loaded: "),
        ('"ReLU"', '"LayerOfALab"', "can't be loaded: "),
        ('"keras.layers"', '"os"', "can't be loaded: "),
        ('{"module"', "[", "can't be loaded: "),
    ],
)
def test_a_network_of_other_layers_than_keras_own_is_a_message(changed, old, new, why):
    with pytest.raises(ModelError, match=f"the network changed.keras {why}"):
        load_network(changed(old, new))


def test_a_file_that_is_no_network_is_a_message(tmp_path, changed):
    whole = changed("", "").read_bytes()
    for data in (b"", b"\x89HDF\r\n", whole[:1000], b"PK\x03\x04"):
        (tmp_path / "n.keras").write_bytes(data)
        with pytest.raises(ModelError, match=r"the network n\.keras can't be loaded: "):
            load_network(tmp_path / "n.keras")
    with pytest.raises(ModelError, match=r"gone\.keras can't be loaded"):
        load_network(tmp_path / "gone.keras")
    assert load_network(changed("", "")).count_params() == 18
