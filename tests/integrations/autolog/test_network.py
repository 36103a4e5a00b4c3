from __future__ import annotations

import keras
import numpy as np
import pytest

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.network import OutputActivation, last_activation


def model_of(*layers, loss="mse"):
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile("sgd", loss)
    return model


DENSE = keras.layers.Dense


@pytest.mark.parametrize(
    ("layers", "ending"),
    [
        ([DENSE(2)], "linear"),
        ([DENSE(2, activation="softmax")], "softmax"),
        ([DENSE(2), keras.layers.Softmax()], "softmax"),
        ([DENSE(2, activation="sigmoid"), keras.layers.Dropout(0.5)], "sigmoid"),
        ([DENSE(2, activation="softmax"), keras.layers.Activation("linear")], "softmax"),
        ([DENSE(2), keras.layers.Activation("linear")], "linear"),
        ([keras.Sequential([DENSE(2, activation="softmax")])], "softmax"),
        ([DENSE(2), keras.layers.BatchNormalization()], None),
    ],
)
def test_what_a_network_ends_in(layers, ending):
    assert last_activation(model_of(*layers)) == ending


@pytest.mark.parametrize(
    ("n", "ending", "loss", "activation", "independent"),
    [
        (2, None, "categorical_crossentropy", "softmax", False),
        (2, None, keras.losses.BinaryCrossentropy(from_logits=True), "sigmoid", True),
        (2, "softmax", "categorical_crossentropy", "linear", False),
        (2, "sigmoid", "binary_crossentropy", "linear", True),
        (1, None, "binary_crossentropy", "sigmoid", False),
        (1, "sigmoid", "binary_crossentropy", "linear", False),
    ],
)
def test_the_activation_is_inferred(n, ending, loss, activation, independent):
    output = OutputActivation.of(model_of(DENSE(n, activation=ending), loss=loss), None, n)
    assert output == OutputActivation(activation, n, independent)


def test_a_last_layer_that_does_not_tell():
    model = model_of(DENSE(2), keras.layers.BatchNormalization())
    with pytest.raises(AutologError, match="give activation="):
        OutputActivation.of(model, None, 2)
    assert OutputActivation.of(model, "softmax", 2).activation == "softmax"


def test_probabilities():
    logits = np.log([[1.0, 3.0]])
    softmax, sigmoid = OutputActivation("softmax", 2, False), OutputActivation("sigmoid", 2, True)
    np.testing.assert_allclose(softmax.probabilities(logits), [[0.25, 0.75]])
    np.testing.assert_allclose(sigmoid.probabilities(logits), [[0.5, 0.75]])
    one = OutputActivation("sigmoid", 1, False).probabilities(np.log([[3.0]]))
    np.testing.assert_allclose(one, [[0.25, 0.75]])
    assert one.dtype == np.float32


def test_logits_that_are_taken_for_probabilities():
    for outputs in ([[-1.0, 2.0]], [[0.2, 0.3]]):
        with pytest.raises(AutologError, match="no probabilities"):
            OutputActivation("linear", 2, False).probabilities(outputs)


def test_nan_is_left_to_who_asked():
    assert np.isnan(OutputActivation("linear", 2, False).probabilities([[np.nan, 1.0]])).any()
