from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy.special import expit, softmax

from ecg_mlflow.errors import AutologError, ScheduleError
from ecg_mlflow.integrations.autolog.scorer import Scorer, last_activation, probability_network

WINDOWS = np.zeros((4, 8, 1), np.float32)
LABELS = [0, 1, 0, 1]
INPUTS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
DENSE, NORM = keras.layers.Dense, keras.layers.BatchNormalization


def scorer(test_every="epoch", test=(WINDOWS, LABELS, None), activation=None):
    return Scorer(test, ("A", "N"), None, test_every, activation)


@pytest.mark.parametrize(
    ("rules", "epochs", "iterations"),
    [
        ("epoch", [0, 1, 2, 3, 4], []),
        (5, [], [5]),
        ("last", [], []),
        (["2 epochs", "%4", 0], [1, 3], [0, 3, 7]),
    ],
)
def test_when(rules, epochs, iterations):
    found = scorer(rules)
    assert [e for e in range(5) if found.tests_after_epoch(e)] == epochs
    assert [i for i in range(10) if found.tests_between(i, i + 1)] == iterations
    assert found.tests_between(2, 5) is (3 in iterations)  # several iterations of one call


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"test": (WINDOWS, LABELS)}, "given is tuple of 2"),
        ({"test": WINDOWS}, "given is ndarray"),
        ({"test": (WINDOWS[:3], LABELS, None)}, r"4 labels came with windows of shape \(3, 8, 1"),
        ({"test": (np.zeros(4), LABELS, None)}, r"windows of shape \(4,\)"),
        ({"activation": "relu"}, "activation='relu'"),
        ({"test_every": []}, "never fires"),
        ({"test_every": ["epoch", "weekly"]}, "can't read the schedule rule 'weekly'"),
    ],
)
def test_what_does_not_fit(more, message):
    with pytest.raises((AutologError, ScheduleError), match=message):
        scorer(**more)


# --- Networks that end in probabilities -----------------------------------------------------------


def model_of(*layers, loss="mse"):
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize(
    ("layers", "ending"),
    [
        ([DENSE(2), keras.layers.Softmax()], "softmax"),
        ([DENSE(2, activation="sigmoid"), keras.layers.Dropout(0.5)], "sigmoid"),
        ([DENSE(2, activation="softmax"), keras.layers.Activation("linear")], "softmax"),
        ([DENSE(2), keras.layers.Activation("linear")], "linear"),
        ([NORM(), keras.layers.Activation("linear")], "linear"),
        ([keras.Sequential([DENSE(2, activation="softmax")])], "softmax"),
        ([keras.Sequential([DENSE(2), NORM()]), keras.layers.Activation("linear")], "linear"),
        ([DENSE(2), NORM()], None),
    ],
)
def test_what_a_network_ends_in(layers, ending):
    assert last_activation(model_of(*layers)) == ending


def both(p):
    return np.concatenate([1 - p, p], axis=1)


@pytest.mark.parametrize(
    ("n", "ending", "loss", "to_probabilities", "independent"),
    [
        (2, None, "categorical_crossentropy", lambda x: softmax(x, axis=1), False),
        (2, None, keras.losses.BinaryCrossentropy(from_logits=True), expit, True),
        (2, None, keras.losses.binary_crossentropy, expit, True),
        (2, "softmax", "categorical_crossentropy", lambda x: x, False),
        (2, "sigmoid", "binary_crossentropy", lambda x: x, True),
        (1, None, "mse", lambda x: both(expit(x)), False),
        (1, "sigmoid", "binary_crossentropy", both, False),
    ],
)
def test_it_is_made_to_end_in_probabilities(n, ending, loss, to_probabilities, independent):
    model = model_of(DENSE(n, activation=ending), loss=loss)
    network, is_independent = probability_network(model, None, (3,))
    assert is_independent is independent
    expected = to_probabilities(model.predict(INPUTS, verbose=0))
    np.testing.assert_allclose(network.predict(INPUTS, verbose=0), expected, atol=1e-6)
    model.set_weights([np.zeros_like(one) for one in model.get_weights()])
    assert all((one == 0).all() for one in network.get_weights()), "they share their weights"


def test_networks_that_do_not_tell_or_have_another_output():
    model = model_of(DENSE(2), NORM())
    with pytest.raises(AutologError, match="give activation="):
        probability_network(model, None, (3,))
    network, _ = probability_network(model, "softmax", (3,))
    np.testing.assert_allclose(network.predict(INPUTS, verbose=0).sum(axis=1), 1, atol=1e-6)
    with pytest.raises(AutologError, match=r"must have one output, of shape \(n_windows, n_"):
        probability_network(model_of(keras.layers.Reshape((3, 1))), None, (3,))
