from __future__ import annotations

import keras
import mlflow
import pytest

from ecg_mlflow.errors import AutologError, TrackingError
from ecg_mlflow.integrations.autolog import RunLogger, autolog, live_run, start_run


class Breaks(keras.callbacks.Callback):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise self.error


@pytest.fixture
def on(store, waves):
    def switch(**more):
        autolog(waves.test, waves.classes, test_every="last", **{"log_models": False} | more)

    return switch


def test_on_and_off(store, on, fit):
    on()
    on(name="of the second call")
    assert len(fit(epochs=2).history["loss"]) == 2
    assert store.run().info.run_name == "of the second call"
    assert "test_f1" in store.run().data.metrics
    autolog(disable=True)
    fit()
    assert len(store.runs()) == 1


def test_a_logger_of_its_own_is_enough(store, on, fit):
    on()
    fit(callbacks=[RunLogger(name="own", log_models=False)])
    assert store.run().info.run_name == "own"
    assert "test_f1" not in store.run().data.metrics


def test_wrong_arguments_show_at_once(store, waves):
    with pytest.raises(AutologError):
        autolog(waves.test)
    with pytest.raises(TypeError):
        autolog(waves.test, waves.classes, test_evry="last")


@pytest.mark.parametrize("by_hand", [False, True], ids=["autolog", "RunLogger"])
@pytest.mark.parametrize(
    ("error", "status"),
    [(ZeroDivisionError("no luck"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_a_fit_that_fails_ends_its_run(store, on, fit, network, error, status, by_hand):
    callbacks, model = [Breaks(error)], network()
    if by_hand:
        callbacks = [RunLogger(log_models=False), *callbacks]
    else:
        on()
    with pytest.raises(type(error)):
        fit(model, epochs=3, callbacks=callbacks)
    run = store.run()
    assert run.info.status == status
    assert run.data.tags["ecg_mlflow.reason"].startswith(type(error).__name__)
    assert [step for step, _ in store.history("loss")] == list(range(6))
    assert mlflow.active_run() is None
    assert "compute_loss" not in vars(model)


def test_the_active_run_is_used_and_left_open(store, on, fit):
    on()
    with mlflow.start_run(run_name="mine") as mine:
        mlflow.log_param("epochs", "as I say")
        with pytest.raises(ZeroDivisionError):
            fit(epochs=3, callbacks=[Breaks(ZeroDivisionError())])
        assert store.run().info.status == "RUNNING"
        fit(epochs=3)  # another training: another run
    first, second = store.runs()
    assert first.info.run_id == mine.info.run_id
    assert first.data.params["epochs"] == "as I say"
    assert len(store.history("loss", first.info.run_id)) == 6
    assert len(store.history("loss", second.info.run_id)) == 9
    assert second.data.tags["mlflow.parentRunId"] == mine.info.run_id
    assert second.info.status == "FINISHED"


def test_in_a_run_of_start_run(store, on, fit):
    on()
    with start_run("outer") as log:
        fit()
        log.metric("age", 7)
    assert store.run().data.metrics["age"] == 7
    assert len(store.history("loss")) == 3


@pytest.mark.parametrize("order", ["before", "after"])
def test_beside_mlflows_own(store, on, fit, network, request, order):
    request.addfinalizer(lambda: mlflow.keras.autolog(disable=True))
    if order == "before":
        mlflow.keras.autolog(log_models=False, log_datasets=False)
    on()
    if order == "after":
        mlflow.keras.autolog(log_models=False, log_datasets=False)
    fit(network(metrics=["accuracy"]), epochs=2, callbacks=[])
    # One run, each loss once: MLflow would have added those of the epochs.
    assert [step for step, _ in store.history("loss")] == list(range(6))
    assert [step for step, _ in store.history("accuracy")] == [2, 5]
    assert "model_summary.txt" not in store.files()
    assert store.run().info.status == "FINISHED"
    autolog(disable=True)
    fit(callbacks=[])
    assert len(store.runs()) == 2
    assert "model_summary.txt" in store.files(run_id=store.runs()[1].info.run_id)


def test_the_store_is_away_at_the_end(store, on, fit, monkeypatch, caplog):
    def away(self, *_, **__):
        raise TrackingError("the disk is full")

    on()
    monkeypatch.setattr(live_run.RunLog, "table", away)
    assert fit().history["loss"]  # the training is not lost
    assert "lacks what was to be logged at its end: the disk is full" in caplog.text
    assert store.run().info.status == "FAILED"
    assert len(store.history("loss")) == 3
