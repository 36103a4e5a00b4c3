from __future__ import annotations

import keras
import mlflow
import numpy as np
import pytest

from ecg_mlflow import RunLogger, autolog, start_run
from ecg_mlflow.errors import AutologError, TrackingError
from ecg_mlflow.integrations.autolog import live_run
from ecg_mlflow.integrations.autolog.run_logger import REPORTED_TAG

#: Keras's own, when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def logger_for(waves):
    def make(**more):
        return RunLogger(**({"test": waves.test, "classes": waves.classes} | more))

    return make


@pytest.fixture
def switch_on(store, waves):
    """Switch `autolog` on, with a test at the end only and without models."""

    def switch(**more):
        autolog(waves.test, waves.classes, test_every="last", log_models=False, **more)

    return switch


def means(probabilities):
    """Average the two windows of each of the eight records."""
    return np.asarray(probabilities).reshape(8, 2, 2).mean(axis=1)


def test_a_run_has_what_a_studys_runs_have(store, waves, network, fit, logger_for):
    model = network(metrics=["accuracy"])
    logger = logger_for(test_every="2 epochs", positive="N", name="waves", params={"fold": 3})
    validation = {"validation_data": (waves.windows, waves.labels), "validation_batch_size": 40}
    fit(model, epochs=5, callbacks=[logger], **validation)
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
    for name in ("val_loss", "accuracy"):
        assert [step for step, _ in store.history(name)] == [2, 5, 8, 11, 14]
    metrics = run.data.metrics
    assert metrics["trainable_parameters"] == 34
    assert metrics["best_test_f1"] == max(value for _, value in store.history("test_f1"))
    names = {"test_accuracy", "test_f1_A", "test_f1_macro", "test_roc_auc", "test_log_loss"}
    assert names | {"system/setup_seconds", "system/ms_per_record"} <= set(metrics)
    assert 0 < metrics["system/iterations_per_second"] < 1e5
    assert store.files() >= {"plots", "predictions", "trace.npz"}
    assert store.files("plots") == {"plots/confusion_matrix.png", "plots/learning_curve.png"}

    # Every record once, by the mean over its windows, with the weights of the last iteration.
    rows = store.table("predictions/last.csv")
    assert list(rows[0]) == ["record", "label", "prediction", "windows", "p_A", "p_N"]
    assert [row["record"] for row in rows] == list(dict.fromkeys(waves.records[24:]))
    assert {row["windows"] for row in rows} == {"2"}
    expected = means(model.predict(waves.windows[24:], verbose=0))
    np.testing.assert_allclose(store.probabilities("last"), expected, rtol=1e-4, atol=1e-6)
    assert metrics["test_accuracy"] == np.mean([row["label"] == row["prediction"] for row in rows])
    assert set(store.models()) == {"last", "best"}


def test_the_model_gives_the_probabilities_that_were_tested(store, waves, network, fit, logger_for):
    model = network(1, None, keras.losses.BinaryCrossentropy(from_logits=True))
    fit(model, callbacks=[logger_for()])
    loaded = mlflow.pyfunc.load_model(f"models:/{store.models()['last'].model_id}")
    predicted = means(loaded.predict(waves.windows[24:]))
    np.testing.assert_allclose(store.probabilities("last"), predicted, rtol=1e-4, atol=1e-6)


def test_several_sigmoids_are_several_questions(store, waves, network, logger_for):
    model = network(2, "sigmoid", "binary_crossentropy")
    one_hot = np.eye(2, dtype=np.float32)[waves.labels]
    model.fit(waves.windows, one_hot, verbose=0, callbacks=[logger_for(log_models=False)])
    assert {"test_f1_micro", "best_test_f1_macro"} <= set(store.run().data.metrics)


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

    dense = keras.layers.Dense(2, activation="softmax")
    model = keras.Sequential([keras.Input((32, 1)), Mine(), dense])
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
        ({"activation": "linear"}, "no probabilities: they lie between .* Give activation="),
    ],
)
def test_what_does_not_fit_the_network_ends_fit_before_a_run_begins(
    store, network, fit, logger_for, more, message
):
    model = network(activation=None if "activation" in more else "softmax")
    with pytest.raises(AutologError, match=message):
        fit(model, callbacks=[logger_for(**more)])
    assert store.runs() == []
    assert "compute_loss" not in vars(model)


def test_it_is_a_callback_and_can_be_told(monkeypatch):
    with pytest.raises(AutologError, match="no training was logged yet"):
        _ = RunLogger().run_id
    with pytest.raises(AutologError, match="nothing to score"):
        autolog(classes=["A", "N"])
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(AutologError, match="Keras runs on 'jax'"):
        RunLogger()


# --- Every fit ------------------------------------------------------------------------------------


def test_on_and_off_and_a_logger_of_its_own_is_enough(store, switch_on, fit):
    switch_on()
    switch_on(name="of the second call")
    fit()
    fit(callbacks=[RunLogger(name="own", log_models=False)])
    autolog(disable=True)
    fit()
    first, second = store.runs()
    assert first.info.run_name == "of the second call"
    assert "test_f1" in first.data.metrics
    assert second.info.run_name == "own"
    assert "test_f1" not in second.data.metrics


class Breaks(keras.callbacks.Callback):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise self.error


@pytest.mark.parametrize(
    ("error", "status"),
    [(ZeroDivisionError("no luck"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
@pytest.mark.parametrize("every_fit", [True, False], ids=["autolog", "RunLogger"])
def test_a_fit_that_fails_ends_its_run(store, switch_on, fit, network, error, status, every_fit):
    model, callbacks = network(), [Breaks(error)]
    if every_fit:
        switch_on()
    else:
        callbacks.append(RunLogger(log_models=False))
    with pytest.raises(type(error)):
        fit(model, epochs=3, callbacks=callbacks)
    run = store.run()
    assert run.info.status == status
    assert run.data.tags["ecg_mlflow.reason"].startswith(type(error).__name__)
    assert [step for step, _ in store.history("loss")] == list(range(6))
    assert mlflow.active_run() is None
    assert "compute_loss" not in vars(model)


def test_the_active_run_is_used_and_left_open(store, switch_on, fit):
    switch_on()
    with start_run("mine", {"epochs": "as I say"}) as mine:
        with pytest.raises(ZeroDivisionError):
            fit(epochs=3, callbacks=[Breaks(ZeroDivisionError())])
        assert store.run().info.status == "RUNNING"
        fit(epochs=3)  # another training: another run
    first, second = store.runs()
    assert (first.info.run_id, first.info.status) == (mine.run_id, "FINISHED")
    assert first.data.params["epochs"] == "as I say"
    assert len(store.history("loss", first.info.run_id)) == 6
    assert len(store.history("loss", second.info.run_id)) == 9
    assert second.data.tags["mlflow.parentRunId"] == mine.run_id
    assert second.info.status == "FINISHED"


@pytest.mark.parametrize("order", ["before", "after"])
def test_beside_mlflows_own(store, switch_on, fit, network, request, order):
    request.addfinalizer(lambda: mlflow.keras.autolog(disable=True))
    switches = [switch_on, lambda: mlflow.keras.autolog(log_models=False, log_datasets=False)]
    for switch in switches if order == "after" else reversed(switches):
        switch()
    fit(network(metrics=["accuracy"]), epochs=2, callbacks=[])
    # One run, each loss once: MLflow would have added those of the epochs.
    assert [step for step, _ in store.history("loss")] == list(range(6))
    assert [step for step, _ in store.history("accuracy")] == [2, 5]
    assert "model_summary.txt" not in store.files()
    assert store.run().info.status == "FINISHED"
    autolog(disable=True)
    fit(callbacks=[])
    assert "model_summary.txt" in store.files(run_id=store.runs()[1].info.run_id)


def test_the_store_is_away_at_the_end(store, switch_on, fit, monkeypatch, caplog):
    def away(self, *_, **__):
        raise TrackingError("the disk is full")

    switch_on()
    monkeypatch.setattr(live_run.RunLog, "table", away)
    assert fit().history["loss"]  # the training is not lost
    assert "lacks what was to be logged at its end: the disk is full" in caplog.text
    assert store.run().info.status == "FAILED"
    assert len(store.history("loss")) == 3


# --- Whatever is trained, and however -------------------------------------------------------------


class Odd(keras.Model):
    """A subclassed model of an odd layer, which can't be saved."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.dense = keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2)

    def call(self, inputs):
        return keras.ops.softmax(self.dense(self.pool(inputs)))

    def get_config(self):
        raise NotImplementedError("no configuration")


class Vector(keras.metrics.Metric):
    """A metric that is no number."""

    def update_state(self, *_, **__):
        pass

    def result(self):
        return keras.ops.zeros(3)


def mixed(waves):
    inputs = keras.Input(waves.windows.shape[1:])
    dense = keras.layers.Dense(2, activation="softmax", dtype=keras.DTypePolicy("mixed_float16"))
    model = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling1D()(inputs)))
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model, waves.windows, waves.labels


def subclassed(waves):
    model = Odd()
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, waves.windows, waves.labels


def two_outputs(waves):
    inputs = keras.Input(waves.windows.shape[1:])
    pooled = keras.layers.GlobalAveragePooling1D()(inputs)
    outputs = {name: keras.layers.Dense(2, name=name)(pooled) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {name: keras.losses.SparseCategoricalCrossentropy(True) for name in "ab"})
    return model, waves.windows, dict.fromkeys("ab", waves.labels)


def odd_metric(waves):
    model, *data = subclassed(waves)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=[Vector(name="a/b?c")])
    return model, *data


def eager(waves):
    model, *data = subclassed(waves)
    model.compile(
        keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)),
        keras.losses.SparseCategoricalCrossentropy(),
        run_eagerly=True,
    )
    return model, *data


def no_numbers(waves):
    model, *data = subclassed(waves)
    model.compile("adam", lambda y, p: keras.ops.mean(p) * np.nan)
    return model, *data


@pytest.mark.parametrize("with_test", [True, False], ids=["test", "no test"])
@pytest.mark.parametrize(
    "make",
    [mixed, subclassed, two_outputs, odd_metric, eager, no_numbers],
    ids=lambda one: one.__name__,
)
def test_no_fit_is_broken_by_its_log(store, waves, make, with_test, caplog):
    """What can't be described, scored or logged is a warning."""
    autolog(*((waves.test, waves.classes) if with_test else ()))
    model, windows, labels = make(waves)
    weights = [np.array(one) for one in model.get_weights()]
    history = model.fit(windows, labels, epochs=2, batch_size=8, verbose=0).history
    assert len(history["loss"]) == 2
    assert (
        make is no_numbers
        or any(
            not np.array_equal(one, other)
            for one, other in zip(weights, model.get_weights(), strict=False)
        )
        or not weights
    )
    for run in store.runs():
        assert run.info.status in ("FINISHED", "FAILED")
        assert run.info.status == "FINISHED" or "goes on without a log" in caplog.text
    assert mlflow.active_run() is None
    assert "compute_loss" not in vars(model)
    if make is mixed:
        run = store.run()
        assert run.info.status == "FINISHED"
        assert (run.data.params["optimizer"], run.data.params["learning_rate"]) == ("adam", "0.05")


def test_a_store_that_is_not_there_breaks_no_fit(store, fit, monkeypatch, caplog, switch_on):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    switch_on()
    assert len(fit(epochs=2).history["loss"]) == 2
    assert "the training goes on without a log: TrackingError: MLflow could not open" in caplog.text


def test_an_error_in_the_middle_leaves_the_training_and_what_was_logged(
    store, fit, monkeypatch, caplog, switch_on
):
    def refuse(self, values):
        if self.last_iteration > 2:
            raise TypeError("no such metric")

    switch_on()
    monkeypatch.setattr(live_run.LiveRun, "metrics", refuse)
    assert len(fit(epochs=4).history["loss"]) == 4
    assert caplog.text.count("the training goes on without a log: TypeError: no such metric") == 1
    assert store.run().info.status == "FAILED"
    assert len(store.history("loss")) >= 3
    assert mlflow.active_run() is None
    fit(epochs=1)  # the next one is logged again
    assert len(store.runs()) == 2
