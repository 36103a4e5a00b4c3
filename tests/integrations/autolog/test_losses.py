"""Losses against those of a loop by hand, from the same weights on the same batches."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from ecg_mlflow import RunLogger
from ecg_mlflow.integrations.autolog.run_logger import REPORTED_TAG


@pytest.fixture
def by_hand(waves, network):
    """Return the loss of each iteration of batches of 10, the L2 penalty included."""
    model, loss_of = network(), keras.losses.SparseCategoricalCrossentropy()
    found = []
    for _ in range(3):
        for i in (0, 10, 20):
            batch = slice(i, min(i + 10, 24))
            with tf.GradientTape() as tape:
                outputs = model(waves.windows[batch], training=True)
                loss = loss_of(waves.labels[batch], outputs) + sum(model.losses)
            variables = model.trainable_variables
            model.optimizer.apply(tape.gradient(loss, variables), variables)
            found.append(float(loss))
    return found


@pytest.mark.parametrize("per_call", [1, 2])
def test_the_loss_of_every_iteration_is_exact(store, network, fit, by_hand, per_call):
    model, in_order = network(steps_per_execution=per_call), {"batch_size": 10, "shuffle": False}
    fit(model, **in_order)
    logger = RunLogger(log_models=False)
    history = fit(model, **in_order, epochs=2, callbacks=[logger]).history
    assert "compute_loss" not in vars(model)
    losses = [value for _, value in store.history("loss")]
    np.testing.assert_allclose(losses, by_hand[3:], rtol=1e-5)
    assert store.run().data.params["batch_size"] == "10"
    assert REPORTED_TAG not in store.run().data.tags
    # Keras's own is the mean over the epoch, and is left alone.
    assert history["loss"][0] == pytest.approx(np.average(losses[:3], weights=[10, 10, 4]))


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(("per_call", "tested"), [(1, [1, 2, 3, 5]), (2, [1, 2, 4, 5])])
def test_from_a_generator_with_tests_in_the_middle_of_an_epoch(
    store, waves, network, per_call, tested
):
    def batches():
        for i in range(0, 24, 8):
            yield waves.windows[i : i + 8], waves.labels[i : i + 8]

    types = (tf.TensorSpec((None, 32, 1)), tf.TensorSpec((None,), tf.int32))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=types)
    every = ["%2", "epoch"]
    logger = RunLogger(waves.test, waves.classes, test_every=every, log_models=False)
    model = network(steps_per_execution=per_call)
    model.fit(dataset, epochs=2, verbose=0, shuffle=False, callbacks=logger)
    assert [step for step, _ in store.history("loss")] == list(range(6))
    assert [step for step, _ in store.history("test_f1")] == tested
    assert REPORTED_TAG not in store.run().data.tags
    assert store.run().data.params["batch_size"] == "8"
    assert store.models() == {}


def test_a_step_that_does_without_compute_loss_is_believed(store, waves, network, fit):
    class OwnStep(keras.Sequential):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x)[:, 1] - y) ** 2)
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss}

    plain = network()
    outputs = plain.predict(waves.windows[:24], verbose=0)
    model = OwnStep([keras.Input((32, 1)), *plain.layers])
    model.compile("sgd", "mse")
    fit(model, epochs=2, batch_size=24, callbacks=[RunLogger(log_models=False)])
    first, second = [value for _, value in store.history("loss")]
    assert first == pytest.approx(np.mean((outputs[:, 1] - waves.labels[:24]) ** 2))
    assert second < first
    assert "as Keras reports it" in store.run().data.tags[REPORTED_TAG]
