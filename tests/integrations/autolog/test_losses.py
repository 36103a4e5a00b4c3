"""Losses against those of a loop by hand, from the same weights on the same batches."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from ecg_mlflow.integrations.autolog import losses
from ecg_mlflow.integrations.autolog.losses import LossRecorder

LOSS = keras.losses.CategoricalCrossentropy(from_logits=True)
BATCH = 5


class Recorded(keras.callbacks.Callback):
    """What `RunLogger` does with a recorder, without the rest."""

    def on_train_begin(self, logs=None):
        self.calls = 0
        self.losses, self.times_ms = [], []
        self.recorder = LossRecorder(self.model, self.count)

    def count(self):
        self.calls += 1

    def fetch(self):
        found = self.recorder.fetch()
        self.losses += [loss for loss, _ in found]
        self.times_ms += [time_ms for _, time_ms in found]

    def on_test_begin(self, logs=None):
        self.fetch()

    def on_test_end(self, logs=None):
        self.recorder.skip()

    def on_train_end(self, logs=None):
        self.fetch()
        self.recorder.remove()


class Plain(keras.Model):
    """One layer, with a penalty."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2, kernel_regularizer="l2")

    def call(self, inputs):
        return self.dense(keras.ops.squeeze(inputs, -1))


class Untold(Plain):
    """Its `compute_loss` is not told whether it is for training."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return super().compute_loss(x, y, y_pred, sample_weight)


class OwnStep(Plain):
    """Its step does without `compute_loss`."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x) - y) ** 2)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(22, 8, 1)).astype(np.float32)
    return x, np.eye(2, dtype=np.float32)[rng.integers(0, 2, 22)]


def build(kind=Plain, **compiling):
    keras.utils.set_random_seed(1)
    model = kind()
    model(np.zeros((1, 8, 1), np.float32))
    model.compile(keras.optimizers.SGD(0.1), LOSS, **compiling)
    return model


def fit(model, x, y=None, **more):
    recorded = Recorded()
    told = {"epochs": 2, "shuffle": False, "verbose": 0, "callbacks": [recorded]} | more
    if y is not None:
        told["batch_size"] = BATCH
    history = model.fit(x, y, **told)
    return recorded, history


def by_hand(data, n_epochs=2):
    """Return the loss of each iteration, the L2 penalty included."""
    x, y = data
    model, found = build(), []
    for _ in range(n_epochs):
        for i in range(0, len(x), BATCH):
            with tf.GradientTape() as tape:
                loss = LOSS(y[i : i + BATCH], model(x[i : i + BATCH])) + sum(model.losses)
            variables = model.trainable_variables
            model.optimizer.apply(tape.gradient(loss, variables), variables)
            found.append(float(loss))
    return found


@pytest.mark.parametrize("per_call", [1, 3])
def test_the_loss_of_every_iteration_is_exact(data, per_call):
    recorded, history = fit(build(steps_per_execution=per_call), *data)
    assert recorded.losses == by_hand(data)
    assert recorded.calls == {1: 10, 3: 4}[per_call]
    assert len(recorded.times_ms) == 10
    assert recorded.recorder.batch_size == BATCH
    assert not recorded.recorder.reported
    # Keras's own is the mean over the epoch, and is left alone.
    mean = np.average(recorded.losses[:5], weights=[5, 5, 5, 5, 2])
    assert history.history["loss"][0] == pytest.approx(mean, rel=1e-6)


def test_losses_that_wait_for_long(data, monkeypatch):
    monkeypatch.setattr(losses, "RING", 3)
    assert fit(build(), *data)[0].losses == by_hand(data)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_from_a_generator_of_unknown_length(data):
    x, y = data

    def batches():
        for i in range(0, len(x), BATCH):
            yield x[i : i + BATCH], y[i : i + BATCH]

    types = (tf.TensorSpec((None, 8, 1)), tf.TensorSpec((None, 2)))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=types)
    recorded, _ = fit(build(), dataset)
    assert recorded.losses == by_hand(data)


@pytest.mark.parametrize("kind", [Plain, Untold])
def test_losses_of_a_validation_do_not_come_between(data, kind):
    recorded, _ = fit(build(kind), *data, validation_data=(data[0] * 3, data[1]))
    assert recorded.losses == by_hand(data)


def test_a_network_that_was_trained_before(data):
    model = build()
    fit(model, *data)
    assert "compute_loss" not in vars(model)
    assert model.train_function is None
    model.fit(*data, batch_size=BATCH, shuffle=False, verbose=0)
    recorded, _ = fit(model, *data, epochs=1)
    assert recorded.losses == by_hand(data, 4)[15:]


def test_a_step_of_its_own_is_believed(data):
    recorded, _ = fit(build(OwnStep), *data)
    assert len(recorded.losses) == 10
    assert recorded.recorder.reported
