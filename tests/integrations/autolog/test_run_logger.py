from __future__ import annotations

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog import RunLogger
from ecg_mlflow.integrations.autolog.run_logger import REPORTED_TAG

#: Keras's own, when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def logger_for(waves):
    def make(**more):
        return RunLogger(**({"test": waves.test, "classes": waves.classes} | more))

    return make


def means(probabilities):
    """Average the two windows of each of the eight records."""
    return np.asarray(probabilities).reshape(8, 2, 2).mean(axis=1)


def test_a_run_has_what_a_studys_runs_have(store, waves, network, fit, logger_for):
    model, seen = network(metrics=["accuracy"]), {}

    class Weights(keras.callbacks.Callback):
        """The weights after the iterations that are tested."""

        def on_epoch_end(self, epoch, logs=None):
            seen[3 * epoch + 2] = self.model.get_weights()

    logger = logger_for(test_every="2 epochs", positive="N", name="waves", params={"fold": 3})
    validation = waves.windows[:8], waves.labels[:8]
    fit(model, epochs=5, callbacks=[Weights(), logger], validation_data=validation)
    run = store.run()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "waves")
    assert run.info.run_id == logger.run_id
    assert mlflow.active_run() is None
    told = {
        "epochs": "5", "batch_size": "8", "iterations_per_epoch": "3",
        "optimizer": "adam", "learning_rate": "0.05",
        "loss_function": "sparse_categorical_crossentropy", "classes": "A, N", "positive": "N",
        "test_every": "2 epochs", "test_records": "8", "trainable_parameters": "34", "fold": "3",
    }  # fmt: skip
    assert told.items() <= run.data.params.items()
    assert [step for step, _ in store.history("loss")] == list(range(15))
    assert [step for step, _ in store.history("test_f1")] == [5, 11, 14]
    assert [step for step, _ in store.history("val_loss")] == [2, 5, 8, 11, 14]
    assert [step for step, _ in store.history("accuracy")] == [2, 5, 8, 11, 14]
    metrics = run.data.metrics
    assert metrics["trainable_parameters"] == 34
    assert metrics["best_test_f1"] == max(value for _, value in store.history("test_f1"))
    names = {"test_accuracy", "test_f1_A", "test_f1_macro", "test_roc_auc", "test_log_loss"}
    names |= {"system/iterations_per_second", "system/setup_seconds", "system/ms_per_record"}
    assert names <= set(metrics)
    assert 0 < metrics["system/iterations_per_second"] < 1e5
    assert store.files() >= {"plots", "predictions", "trace.npz"}
    assert store.files("plots") == {"plots/confusion_matrix.png", "plots/learning_curve.png"}

    # Every record once, by the mean over its windows, with the weights of the last iteration.
    rows = store.table("predictions/last.csv")
    assert list(rows[0]) == ["record", "label", "prediction", "windows", "p_A", "p_N"]
    assert [row["record"] for row in rows] == list(dict.fromkeys(waves.records[24:]))
    assert {row["windows"] for row in rows} == {"2"}
    model.set_weights(seen[14])
    expected = means(model.predict(waves.windows[24:], verbose=0))
    np.testing.assert_allclose(store.probabilities("last"), expected, rtol=1e-4, atol=1e-6)
    right = [row["label"] == row["prediction"] for row in rows]
    assert metrics["test_accuracy"] == np.mean(right)
    assert set(store.models()) == {"last", "best"}


@pytest.mark.parametrize(
    ("n_outputs", "activation", "loss"),
    [
        (2, "softmax", "sparse_categorical_crossentropy"),
        (2, None, keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        (1, None, keras.losses.BinaryCrossentropy(from_logits=True)),
        (1, "sigmoid", "binary_crossentropy"),
    ],
    ids=["softmax", "logits", "one logit", "one sigmoid"],
)
def test_the_model_gives_the_probabilities_that_were_tested(
    store, waves, network, fit, logger_for, n_outputs, activation, loss
):
    fit(network(n_outputs, activation, loss), callbacks=[logger_for()])
    loaded = mlflow.pyfunc.load_model(f"models:/{store.models()['last'].model_id}")
    predicted = means(loaded.predict(waves.windows[24:]))
    np.testing.assert_allclose(store.probabilities("last"), predicted, rtol=1e-4, atol=1e-6)


def test_several_sigmoids_are_several_questions(store, waves, network, logger_for):
    model = network(2, "sigmoid", "binary_crossentropy")
    one_hot = np.eye(2, dtype=np.float32)[waves.labels]
    model.fit(waves.windows, one_hot, verbose=0, callbacks=[logger_for(test_every="last")])
    metrics = store.run().data.metrics
    assert {"test_f1_macro", "test_f1_micro", "best_test_f1_macro"} <= set(metrics)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_tests_in_the_middle_of_an_epoch_from_a_generator(store, waves, network, logger_for):
    def batches():
        for i in range(0, 24, 8):
            yield waves.windows[i : i + 8], waves.labels[i : i + 8]

    types = (tf.TensorSpec((None, 32, 1)), tf.TensorSpec((None,), tf.int32))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=types)
    logger = logger_for(test_every=["%2", "epoch"], log_models=False)
    network().fit(dataset, epochs=2, verbose=0, shuffle=False, callbacks=logger)
    assert [step for step, _ in store.history("loss")] == list(range(6))
    assert [step for step, _ in store.history("test_f1")] == [1, 2, 3, 5]
    assert store.run().data.params["batch_size"] == "8"
    assert store.models() == {}


def test_weights_that_another_callback_restores_are_what_is_tested(
    store, waves, network, fit, logger_for
):
    class Restores(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.first = self.model.get_weights()

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs=None):
            self.model.set_weights(self.first)

    model = network()
    before = means(model.predict(waves.windows[24:], verbose=0))
    fit(model, epochs=9, callbacks=[Restores(), logger_for()])
    np.testing.assert_allclose(store.probabilities("last"), before, rtol=1e-4, atol=1e-6)
    assert [step for step, _ in store.history("loss")] == list(range(6))


def test_without_a_test_keras_validates(store, network, fit):
    class Untold(keras.Sequential):
        """Its `compute_loss` is not told whether it is for training."""

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return super().compute_loss(x, y, y_pred, sample_weight)

    model = Untold([keras.Input((32, 1)), *network().layers])
    model.compile("adam", "sparse_categorical_crossentropy")
    fit(model, epochs=2, validation_split=0.25, callbacks=[RunLogger()])
    assert [step for step, _ in store.history("loss")] == list(range(6))
    assert REPORTED_TAG not in store.run().data.tags, "losses of a validation do not come between"
    assert [step for step, _ in store.history("val_loss")] == [2, 5]
    assert set(store.models()) == {"last"}
    assert store.files("plots") == {"plots/learning_curve.png"}
    assert "classes" not in store.run().data.params


def test_layers_of_ones_own_are_kept_as_a_file(store, fit, logger_for, caplog):
    class Mine(keras.layers.Layer):
        def call(self, inputs):
            return keras.ops.mean(inputs, axis=1)

    model = keras.Sequential(
        [keras.Input((32, 1)), Mine(), keras.layers.Dense(2, activation="softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    fit(model, callbacks=[logger_for()])
    assert store.files("models") == {"models/last.keras", "models/best.keras"}
    assert store.models() == {}
    assert "of the class Mine" in caplog.text


def test_a_network_that_has_diverged_is_trained_on(store, network, fit, logger_for, caplog):
    model = network()
    model.optimizer.learning_rate = float("nan")
    fit(model, epochs=2, callbacks=[logger_for()])
    assert "its weights have diverged" in caplog.text
    assert store.run().info.status == "FINISHED"
    assert len(store.history("loss")) == 6
    assert store.history("test_f1") == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"classes": ["A", "N", "O"]}, r"shape \(16, 2\) are not of the 3 classes"),
        ({"activation": "softmax", "test": "several"}, "a record has several or none"),
        ({"activation": "linear"}, "no probabilities: they lie between .* Give activation="),
    ],
)
def test_what_does_not_fit_the_network_ends_fit_before_a_run_begins(
    store, waves, network, fit, logger_for, more, message
):
    if more.get("test") == "several":
        more = more | {"test": (waves.windows[:2], ["A,N", ""], None)}
    model = network(activation=None if "activation" in more else "softmax")
    with pytest.raises(AutologError, match=message):
        fit(model, callbacks=[logger_for(**more)])
    assert store.runs() == []
    assert "compute_loss" not in vars(model)


def test_a_network_with_an_output_of_another_shape(store, waves, logger_for):
    model = keras.Sequential([keras.Input((32, 1)), keras.layers.Conv1D(2, 3)])
    model.compile("sgd", "mse")
    with pytest.raises(AutologError, match=r"must have one output, of shape \(n_windows, n_"):
        model.fit(waves.windows, np.zeros((40, 30, 2)), verbose=0, callbacks=[logger_for()])


def test_it_is_a_callback_and_can_be_told(monkeypatch):
    logger = RunLogger()
    assert isinstance(logger, RunLogger)
    assert isinstance(logger, keras.callbacks.Callback)
    with pytest.raises(AutologError, match="no training was logged yet"):
        _ = logger.run_id
    with pytest.raises(AutologError, match="nothing to score"):
        RunLogger(classes=["A", "N"])
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(AutologError, match="Keras runs on 'jax'"):
        RunLogger()
