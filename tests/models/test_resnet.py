"""Residual networks: parameter counts, lengths and layers against the reference architecture."""

from __future__ import annotations

import inspect
import pickle

import cloudpickle
import numpy as np
import pytest

from ecg_mlflow.errors import ModelError
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.models import ResNet, ResNet18, ResNet34
from ecg_mlflow.models.build import count_multiply_adds, count_parameters

SMALLEST = {"blocks": [1] * 7, "filters": [4, 4, 8, 8, 16, 16, 20], "layout": "cna"}
SMALLEST |= {"input_filters": 8}
LARGEST = {"blocks": [2, 3, 4, 5, 4, 3, 2], "filters": [4, 8, 16, 32, 64, 128, 256]}
LARGEST |= {"layout": "cnacna", "input_filters": 32}
TINY = {"blocks": [1, 2], "filters": [4, 6], "layout": "cna", "input_filters": 4}


@pytest.mark.parametrize(
    ("describe", "options", "shape", "n_classes", "expected"),
    [
        (ResNet18.describe, {}, (3000, 1), 2, 3_843_138),
        (ResNet18.describe, {}, (3000, 12), 2, 3_843_138 + 11 * 7 * 64),
        (ResNet18.describe, {}, (3000, 1), 4, 3_843_138 + 2 * 513),
        (ResNet34.describe, {}, (3000, 1), 2, 7_217_474),
        (ResNet.describe, SMALLEST, (3000, 1), 2, 3_658),
        (ResNet.describe, LARGEST, (3000, 1), 2, 1_137_394),
    ],
)
def test_trainable_parameters_of_known_networks(describe, options, shape, n_classes, expected):
    assert describe(shape, n_classes, **options).trainable_parameters() == expected


@pytest.mark.parametrize(
    ("builder", "options", "input_shape", "n_classes"),
    [
        (ResNet18, {}, (3000, 1), 2),
        (ResNet, SMALLEST, (3000, 1), 2),
        (ResNet, SMALLEST, (500, 12), 5),
        (ResNet, {**TINY, "layout": "nacnac"}, (77, 2), 4),
        (ResNet, {**TINY, "layout": "ccn", "filters": [4, 4]}, (64, 3), 3),
    ],
)
def test_built_models_have_the_parameters_and_cost_of_the_formula(
    builder, options, input_shape, n_classes
):
    spec = builder.describe(input_shape, n_classes, **options)
    model = builder(input_shape, n_classes, **options)
    assert model.output_shape == (None, n_classes)
    assert count_parameters(model) == spec.trainable_parameters()
    assert count_multiply_adds(model) == spec.multiply_adds()


def test_the_layers_of_a_network():
    options = {"blocks": [1, 2], "filters": [4, 6], "layout": "cnac", "input_filters": 4}
    model = ResNet((64, 1), 2, **options, momentum=0.7)
    names = [type(layer).__name__ for layer in model.layers]
    assert names[:5] == ["InputLayer", "Conv1D", "BatchNormalization", "ReLU", "MaxPooling1D"]
    assert names[5:10] == ["Conv1D", "BatchNormalization", "ReLU", "Conv1D", "Add"]
    assert names[-3:] == ["GlobalAveragePooling1D", "Dropout", "Dense"]
    pool = model.layers[4]
    assert (pool.pool_size, pool.strides, pool.padding) == ((3,), (2,), "same")
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv1D"]
    found = sorted((c.kernel_size[0], c.strides[0], c.filters) for c in convolutions)
    # Only the first of a strided block has a stride, and only its shortcut is a convolution.
    assert found == [(1, 2, 6), *[(3, 1, 4)] * 2, *[(3, 1, 6)] * 3, (3, 2, 6), (7, 2, 4)]
    assert all(not c.use_bias and c.padding == "same" for c in convolutions)
    assert all(type(c.kernel_initializer).__name__ == "GlorotUniform" for c in convolutions)
    assert model.layers[-1].activation.__name__ == "linear"
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    assert {norm.momentum for norm in norms} == {0.7}
    assert model.layers[-2].rate == 0.4
    assert ResNet((64, 1), 2, **options, dropout=0.1).layers[-2].rate == 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blocks": [1]}, r"blocks=\[1\] and filters=\[4, 6\] must name the same number of groups"),
        ({"blocks": [], "filters": []}, "at least one; they have 0 and 0"),
        ({"blocks": [1, 0]}, r"blocks=\(1, 0\) must be whole numbers of at least 1"),
        ({"filters": [4, 6.0]}, "filters=.* must be whole numbers"),
        ({"filters": [4, True]}, "filters=.* must be whole numbers"),
        ({"input_filters": 0}, "input_filters"),
        ({"layout": "cnx"}, r"layout='cnx' must be made of 'c' convolution.*it has \['x'\]"),
        ({"layout": "na"}, "with at least one 'c'"),
        ({"dropout": 1}, r"dropout=1 must lie in \[0, 1\)"),
        ({"dropout": None}, r"dropout=None must lie in \[0, 1\)"),
        ({"momentum": "0.9"}, r"momentum='0.9' must lie in \[0, 1\)"),
        ({"dropout": float("nan")}, r"dropout=nan must lie in \[0, 1\)"),
        ({"filters": None}, "filters=None must be whole numbers of at least 1"),
        ({"blocks": 4}, "blocks=4 must be whole numbers"),
        ({"input_filters": None}, "input_filters=None must be a whole number of at least 1"),
        ({"layout": None}, "layout=None must be a text such as 'cnacna'"),
        ({"momentum": 1.0}, r"momentum=1.0 must lie in \[0, 1\)"),
        ({"input_shape": (0, 1)}, "input_shape"),
        ({"n_classes": 0}, "n_classes"),
    ],
)
def test_wrong_arguments(wrong, message):
    options = {"input_shape": (64, 1), "n_classes": 2, **TINY, **wrong}
    with pytest.raises(ModelError, match=message):
        ResNet.describe(**options)


def test_numbers_of_numpy_are_numbers():
    options = {
        name: np.array(value) if name in ("blocks", "filters") else value
        for name, value in TINY.items()
    }
    numpys = {**options, "input_filters": np.int64(TINY["input_filters"]), "dropout": np.float32(0)}
    found = ResNet.describe((np.int64(64), np.int32(1)), np.int8(2), **numpys)
    assert found == ResNet.describe((64, 1), 2, **{**TINY, "dropout": 0.0})
    assert {type(n) for n in (*found.blocks, *found.filters, found.n_classes)} == {int}


@pytest.mark.parametrize("builder", [ResNet, ResNet18, ResNet34])
def test_builders_are_like_functions_with_an_identity(builder):
    assert pickle.loads(pickle.dumps(builder)) is builder
    assert cloudpickle.loads(cloudpickle.dumps(builder)) is builder
    assert builder.__doc__.startswith("Residual network")
    names = list(inspect.signature(builder).parameters)
    assert names[:4] == ["input_shape", "n_classes", "blocks", "filters"]
    assert repr(builder) == f"<model builder {builder.__name__}>"
    assert len({digest(one) for one in (ResNet, ResNet18, ResNet34)}) == 3
