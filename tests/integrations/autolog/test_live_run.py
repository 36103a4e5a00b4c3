from __future__ import annotations

import mlflow
import numpy as np
import pytest
import tensorflow as tf

from ecg_mlflow import start_run
from ecg_mlflow.errors import AutologError, TrackingError
from ecg_mlflow.integrations.autolog import live_run

CLASSES = ["A", "N"]
GOOD = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]
BAD = [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]
LABELS = ["A", "A", "N"]
RECORDS = ["R1", "R2", "R3"]

#: Keras's own, when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_a_loop_of_ones_own(store, waves, network):
    model = network()
    with start_run("by hand", {"depth": 3}) as log:
        assert mlflow.active_run().info.run_id == log.run_id
        for i in range(4):
            log.loss(tf.constant(4.0 - i) if i % 2 else np.float32(4 - i))
            if i in (1, 2):
                found = log.test(RECORDS, LABELS, GOOD, classes=CLASSES, model=model)
        assert found["f1"] == 1
        expected = model.predict(waves.windows, verbose=0)
        model.set_weights([0 * one for one in model.get_weights()])
        log.test(RECORDS, LABELS, BAD, classes=CLASSES, model=model)
        log.metric("F1 ~", 0.5)
        log.params({"depth": 4, "width": 2})
    run = store.run()
    assert (run.info.run_name, run.info.status) == ("by hand", "FINISHED")
    assert store.history("loss") == [(0, 4.0), (1, 3.0), (2, 2.0), (3, 1.0)]
    assert store.history("test_f1") == [(1, 1.0), (2, 1.0), (3, pytest.approx(2 / 3))]
    assert run.data.metrics["best_test_f1"] == 1
    assert store.history("F1 tilde") == [(3, 0.5)]
    assert {"depth": "3", "width": "2"}.items() <= run.data.params.items()
    assert store.files() == {"plots", "predictions", "trace.npz"}
    assert store.probabilities("best") == GOOD
    assert store.probabilities("last") == BAD
    models = store.models()
    assert models["best"].metrics[0].step == 1, "the first of equally good ones"
    assert models["last"].metrics[0].step == 3
    best, last = (
        mlflow.pyfunc.load_model(f"models:/{models[name].model_id}").predict(waves.windows)
        for name in ("best", "last")
    )
    np.testing.assert_allclose(best, expected, rtol=1e-4, atol=1e-6)
    assert (last == 0.5).all()
    assert mlflow.active_run() is None


def test_losses_of_consecutive_iterations_are_handed_over_at_once(store, monkeypatch):
    added = []
    monkeypatch.setattr(live_run.RunLog, "add", lambda log, *of_losses: added.append(of_losses[:3]))
    with start_run() as log:
        log.losses([(3.0, 1), (2.0, 2), (1.0, 3)])
        log.loss(0.5, iteration=9)
    losses = [one for one in added if one[0] == "loss"]
    assert losses == [("loss", [3.0, 2.0, 1.0], 0), ("loss", [0.5], 9)]


def test_iterations_of_ones_own(store):
    with start_run() as log:
        for i in (0, 10, 11, 20):
            log.loss(1.0 + i, iteration=i)
            log.metric("rate", 0.1)
        with pytest.raises(AutologError, match="iteration 20 came after that of iteration 20"):
            log.loss(1.0, iteration=20)
    assert store.history("loss") == [(0, 1.0), (10, 11.0), (11, 12.0), (20, 21.0)]
    assert [step for step, _ in store.history("rate")] == [0, 10, 11, 20]
    assert store.files() == {"plots"}


def stop(log):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("last", "error", "status"),
    [
        (lambda log: log.metric("x", 1 / 0), ZeroDivisionError, "FAILED"),
        (stop, KeyboardInterrupt, "KILLED"),
        (lambda log: log.loss("much"), AutologError, "FAILED"),
    ],
)
def test_an_error_ends_the_run_and_the_losses_are_there(store, last, error, status):
    def loop():
        with start_run() as log:
            log.loss(0.5)
            log.loss(0.25)
            last(log)

    with pytest.raises(error) as raised:
        loop()
    assert store.run().info.status == status
    assert store.history("loss") == [(0, 0.5), (1, 0.25)]
    assert mlflow.active_run() is None
    if error is AutologError:
        assert raised.match("the loss of iteration 2 is no number: str")


def test_what_cannot_be_delivered_ends_the_run_as_failed(store, monkeypatch):
    def away(self, *_, **__):
        raise TrackingError("the disk is full")

    monkeypatch.setattr(live_run.RunLog, "figure", away)
    with pytest.raises(TrackingError, match="the disk is full"), start_run() as log:
        log.loss(0.5)
    assert store.run().info.status == "FAILED"
    assert store.history("loss") == [(0, 0.5)]


def test_a_model_when_it_is_wanted_and_a_run_under_the_active_one(store, waves, network):
    model = network()
    with mlflow.start_run() as outer, start_run("inner") as log:
        log.loss(1.0)
        model_id = log.model(model)
        with pytest.raises(AutologError, match="has a model 'last'"):
            log.model(model)
    inner = store.client.get_run(log.run_id)
    assert inner.data.tags["mlflow.parentRunId"] == outer.info.run_id
    loaded = mlflow.pyfunc.load_model(f"models:/{model_id}")
    expected = model.predict(waves.windows, verbose=0)
    np.testing.assert_allclose(loaded.predict(waves.windows), expected, rtol=1e-4, atol=1e-6)


def test_windows_of_records_several_labels_and_one_question(store):
    with start_run() as log:
        windows, labels = ["R1", "R1", "R2"], ["A,N", "A,N", ""]
        probabilities = [[0.9, 0.4], [0.9, 0.8], [0.1, 0.3]]
        found = log.test(windows, labels, probabilities, classes=CLASSES, multilabel=True)
        assert found["accuracy"] == 1
        with pytest.raises(AutologError, match="must ask one thing"):
            log.test(RECORDS, LABELS, GOOD, classes=CLASSES)
    assert "best_test_f1_macro" in store.run().data.metrics


@pytest.mark.parametrize(
    ("labels", "probabilities", "multilabel", "message"),
    [
        (LABELS, GOOD[:2], False, "3 labels came with 2 rows"),
        (LABELS, [[2.0, -1.0]] * 3, False, "take the softmax first"),
        (LABELS, [[0.5, 0.4]] * 3, False, r"no probabilities: .* sums of their rows between 0\.9"),
        (LABELS, [[np.nan, 1.0]] * 3, False, "no probabilities"),
        (LABELS, [[1.5, 0.2]] * 3, True, r"no probabilities: they lie between 0\.2"),
        (["A,N", "A", "N"], GOOD, False, "a record has several or none"),
    ],
)
def test_what_does_not_fit_is_said(labels, probabilities, multilabel, message):
    log = start_run()
    with pytest.raises(AutologError, match=message):
        log.test(RECORDS, labels, probabilities, classes=CLASSES, multilabel=multilabel)


def test_outside_of_the_block():
    log = start_run()
    for call in (lambda: log.loss(1.0), lambda: log.metric("x", 1), lambda: log.run_id):
        with pytest.raises(AutologError, match="is not open"):
            call()
