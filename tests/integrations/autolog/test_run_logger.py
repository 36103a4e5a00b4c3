from __future__ import annotations

import csv
import io

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog import RunLogger

FIT = {"batch_size": 8, "verbose": 0}

#: Keras's own, when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def logger_for(waves, **more):
    return RunLogger(**({"test": waves.test, "classes": waves.classes} | more))


def test_a_run_has_what_a_studys_runs_have(store, waves, network):
    model, seen = network(metrics=["accuracy"]), {}

    class Weights(keras.callbacks.Callback):
        """The weights after the iterations that are tested."""

        def on_epoch_end(self, epoch, logs=None):
            seen[3 * epoch + 2] = self.model.get_weights()

    logger = logger_for(
        waves, test_every="2 epochs", positive="N", name="waves", params={"fold": 3}
    )
    model.fit(
        waves.windows[:24], waves.labels[:24], epochs=5, callbacks=[Weights(), logger],
        validation_data=(waves.windows[:8], waves.labels[:8]), **FIT,
    )  # fmt: skip
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
    assert store.files() >= {"plots", "predictions", "trace.npz"}
    assert store.files("plots") == {"plots/confusion_matrix.png", "plots/learning_curve.png"}

    # Every record once, by the mean over its windows, with the weights of the last iteration.
    rows = list(csv.DictReader(io.StringIO(store.text("predictions/last.csv"))))
    assert list(rows[0]) == ["record", "label", "prediction", "windows", "p_A", "p_N"]
    assert [row["record"] for row in rows] == list(dict.fromkeys(waves.records[24:]))
    assert {row["windows"] for row in rows} == {"2"}
    model.set_weights(seen[14])
    means = model.predict(waves.windows[24:], verbose=0).reshape(8, 2, 2).mean(axis=1)
    np.testing.assert_allclose(
        [float(row["p_A"]) for row in rows], means[:, 0], rtol=1e-4, atol=1e-6
    )
    right = [row["label"] == row["prediction"] for row in rows]
    assert metrics["test_accuracy"] == np.mean(right)

    models = store.models()
    assert set(models) == {"last", "best"}
    loaded = mlflow.pyfunc.load_model(f"models:/{models['last'].model_id}")
    predicted = loaded.predict(waves.windows[24:]).reshape(8, 2, 2).mean(axis=1)
    np.testing.assert_allclose(predicted, means, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("n_outputs", "activation", "loss"),
    [
        (2, None, keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        (1, None, keras.losses.BinaryCrossentropy(from_logits=True)),
        (1, "sigmoid", "binary_crossentropy"),
    ],
    ids=["logits", "one logit", "one sigmoid"],
)
def test_the_model_gives_the_probabilities_that_were_tested(
    store, waves, network, n_outputs, activation, loss
):
    model = network(n_outputs, activation, loss)
    labels = waves.labels[:24].astype(np.float32)
    model.fit(waves.windows[:24], labels, callbacks=[logger_for(waves)], **FIT)
    rows = list(csv.DictReader(io.StringIO(store.text("predictions/last.csv"))))
    loaded = mlflow.pyfunc.load_model(f"models:/{store.models()['last'].model_id}")
    means = loaded.predict(waves.windows[24:]).reshape(8, 2, 2).mean(axis=1)
    found = [[float(row["p_A"]), float(row["p_N"])] for row in rows]
    np.testing.assert_allclose(found, means, rtol=1e-4, atol=1e-6)


def test_several_sigmoids_are_several_questions(store, waves, network):
    model = network(2, "sigmoid", "binary_crossentropy")
    logger = logger_for(waves, test_every="last")
    model.fit(waves.windows[:24], waves.one_hot[:24], callbacks=[logger], **FIT)
    metrics = store.run().data.metrics
    assert {"test_f1_macro", "test_f1_micro", "best_test_f1_macro"} <= set(metrics)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_tests_in_the_middle_of_an_epoch_from_a_generator(store, waves, network):
    def batches():
        for i in range(0, 24, 8):
            yield waves.windows[i : i + 8], waves.labels[i : i + 8]

    types = (tf.TensorSpec((None, 32, 1)), tf.TensorSpec((None,), tf.int32))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=types)
    logger = logger_for(waves, test_every=["%2", "epoch"], log_models=False)
    network().fit(dataset, epochs=2, verbose=0, shuffle=False, callbacks=logger)
    assert [step for step, _ in store.history("loss")] == list(range(6))
    assert [step for step, _ in store.history("test_f1")] == [1, 2, 3, 5]
    assert store.run().data.params["batch_size"] == "8"
    assert store.models() == {}


def test_weights_that_another_callback_restores_are_what_is_tested(store, waves, network):
    class Restores(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.first = self.model.get_weights()

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs=None):
            self.model.set_weights(self.first)

    model = network()
    before = model.predict(waves.windows[24:], verbose=0).reshape(8, 2, 2).mean(axis=1)
    logger = logger_for(waves)
    model.fit(
        waves.windows[:24], waves.labels[:24], epochs=9, callbacks=[Restores(), logger], **FIT
    )
    rows = list(csv.DictReader(io.StringIO(store.text("predictions/last.csv"))))
    np.testing.assert_allclose(
        [float(row["p_A"]) for row in rows], before[:, 0], rtol=1e-4, atol=1e-6
    )
    assert [step for step, _ in store.history("loss")] == list(range(6))


def test_without_a_test_keras_validates(store, waves, network):
    logger = RunLogger()
    network().fit(
        waves.windows, waves.labels, epochs=2, validation_split=0.2, callbacks=[logger], **FIT
    )
    assert [step for step, _ in store.history("val_loss")] == [3, 7]
    assert set(store.models()) == {"last"}
    assert store.files("plots") == {"plots/learning_curve.png"}
    assert "classes" not in store.run().data.params


def test_layers_of_ones_own_are_kept_as_a_file(store, waves, caplog):
    class Mine(keras.layers.Layer):
        def call(self, inputs):
            return keras.ops.mean(inputs, axis=1)

    model = keras.Sequential(
        [keras.Input((32, 1)), Mine(), keras.layers.Dense(2, activation="softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(waves.windows, waves.labels, callbacks=[logger_for(waves)], **FIT)
    assert store.files("models") == {"models/last.keras", "models/best.keras"}
    assert store.models() == {}
    assert "of the class Mine" in caplog.text


def test_a_network_that_has_diverged_is_trained_on(store, waves, network, caplog):
    model = network()
    model.optimizer.learning_rate = float("nan")
    logger = logger_for(waves)
    model.fit(waves.windows[:24], waves.labels[:24], epochs=2, callbacks=[logger], **FIT)
    assert "its weights have diverged" in caplog.text
    assert store.run().info.status == "FINISHED"
    assert len(store.history("loss")) == 6
    assert store.history("test_f1") == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"classes": ["A", "N", "O"]}, r"are 3, and the network 'sequential.*' tells 2 apart"),
        ({"activation": "softmax", "test": "several"}, "a record has several labels or none"),
    ],
)
def test_what_does_not_fit_the_network_ends_fit_before_a_run_begins(
    store, waves, network, more, message
):
    if more.get("test") == "several":
        more = more | {"test": (waves.windows[:2], ["A,N", ""], None)}
    model = network()
    with pytest.raises(AutologError, match=message):
        model.fit(waves.windows, waves.labels, callbacks=[logger_for(waves, **more)], **FIT)
    assert store.runs() == []
    assert "compute_loss" not in vars(model)


def test_a_network_with_an_output_of_another_shape(store, waves):
    model = keras.Sequential([keras.Input((32, 1)), keras.layers.Conv1D(2, 3)])
    model.compile("sgd", "mse")
    logger = logger_for(waves)
    with pytest.raises(AutologError, match=r"must have one output, of shape \(n_windows, 2\)"):
        model.fit(waves.windows, np.zeros((40, 30, 2)), callbacks=[logger], **FIT)


def test_it_is_a_callback_and_can_be_told():
    logger = RunLogger()
    assert isinstance(logger, RunLogger)
    assert isinstance(logger, keras.callbacks.Callback)
    with pytest.raises(AutologError, match="no training was logged yet"):
        _ = logger.run_id
    with pytest.raises(AutologError, match="nothing to score"):
        RunLogger(classes=["A", "N"])


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(AutologError, match="Keras runs on 'jax'"):
        RunLogger()
