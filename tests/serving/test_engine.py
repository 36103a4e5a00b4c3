"""Many recordings, some of them bad, through one network that can be worked out by hand."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.pipeline import Pipeline
from ecg_mlflow.pipeline.batches import CHUNK
from ecg_mlflow.serving import engine as engine_module
from ecg_mlflow.serving.engine import Engine, RecordPrediction, prediction_table
from ecg_mlflow.serving.limits import SERVING_VARIABLE

LENGTH = 120
PLAIN = Pipeline().center_flip().split_signals(LENGTH, LENGTH)


def fails_on_large(signal, fs):
    if signal.max() > 9:
        raise ValueError("too large for me")
    return signal


class Network:
    """The first class has the share of samples above zero; notes the shapes that it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        self.shapes.append(windows.shape)
        share = (windows > 0).mean(axis=(1, 2), dtype=np.float64)
        share = np.where(np.abs(windows).max(axis=(1, 2)) > 1e30, np.nan, share)
        return np.stack([share, 1 - share], axis=1).astype(np.float32)


@pytest.fixture
def make_engine(make_manifest):
    def make(pipeline: Pipeline = PLAIN) -> Engine:
        return Engine(make_manifest(), pipeline.stages(), Network())

    return make


def items(records):
    return [(record.id, lambda record=record: record) for record in records]


def by_hand(record) -> np.ndarray:
    """Centre, cut, count what is above zero, and average over windows."""
    signal = record.millivolts().astype(np.float64)
    signal = signal - signal.mean(axis=0)
    windows = [signal[i : i + LENGTH] for i in range(0, len(signal) - LENGTH + 1, LENGTH)]
    share = np.mean([np.mean(window > 0) for window in windows])
    return np.array([share, 1 - share])


@pytest.fixture
def records(make_record):
    rng = np.random.default_rng(5)
    found = []
    for i in range(300):
        samples = rng.normal(0, 1, (int(rng.integers(250, 900)), 1)).cumsum(axis=0) / 20
        digital = (samples * 1000).clip(-30_000, 30_000).astype(np.int16)
        found.append(make_record(digital if i % 3 else samples.astype(np.float32), name=f"R{i}"))
    return found


def test_each_answer_is_its_own_recordings(make_engine, records):
    engine = make_engine()
    answers = engine.answer(items(records))
    assert [answer.record for answer in answers] == [record.id for record in records]
    found = np.array([answer.probabilities for answer in answers])
    np.testing.assert_allclose(found, [by_hand(record) for record in records], atol=1e-6)
    assert [len(a.windows) for a in answers] == [len(r.samples) // LENGTH for r in records]
    for answer in answers[:5]:
        np.testing.assert_allclose(answer.windows.mean(axis=0), answer.probabilities, atol=1e-6)
    n_windows = sum(len(answer.windows) for answer in answers)
    assert set(engine.predict.shapes) == {(CHUNK, LENGTH, 1)}
    assert len(engine.predict.shapes) == -(-n_windows // CHUNK)
    (alone,) = engine.answer(items(records[7:8]))
    np.testing.assert_array_equal(answers[7].windows, alone.windows)
    np.testing.assert_array_equal(answers[7].probabilities, alone.probabilities)
    assert engine.answer([]) == []


def test_bad_recordings_leave_the_others(make_engine, records, make_record):
    def unreadable():
        raise RecordError("no file")

    flat = make_record(np.ones((300, 1), np.float32), name="flat")
    asked = items([records[3], flat, records[4], make_record(fs=500, name="fast")])
    asked.insert(1, ("nothing", unreadable))
    huge = make_record(np.float32([[1e38], [-1e38]] * 300), name="huge")
    answers = make_engine().answer(asked) + make_engine().answer(items([huge]))
    assert [(answer.record, answer.status[:18]) for answer in answers] == [
        *(("R3", "ok"), ("nothing", "error: no file"), ("flat", "error: flat signal")),
        *(("R4", "ok"), ("fast", "flag: resampled fr"), ("huge", "error: the network")),
    ]
    for answer in answers:
        is_bad = answer.status.startswith("error")
        assert np.isnan(answer.probabilities).all() == is_bad
        assert (len(answer.windows) == 0) == is_bad


def test_a_function_that_fails_in_a_block_is_blamed_on_its_recording(
    make_engine, make_record, monkeypatch
):
    wild = make_record(10 * make_record().samples, name="wild")
    pipeline = Pipeline().center_flip().apply(fails_on_large).split_signals(LENGTH, LENGTH)
    answers = make_engine(pipeline).answer(items([make_record(), wild, make_record()]))
    assert [answer.status for answer in answers[::2]] == ["ok", "ok"]
    said = "error: record wild: apply(step=fails_on_large) failed"
    assert answers[1].status.startswith(said)
    assert answers[1].status.endswith("ValueError: too large for me")
    monkeypatch.setenv(SERVING_VARIABLE, "true")  # then the words of the function are the log's
    answers = make_engine(pipeline).answer(items([wild]))
    assert answers[0].status.startswith(said)
    assert answers[0].status.endswith("ValueError")


def test_errors_of_our_own_are_logged_and_leave_the_other_rows(make_engine, make_record, caplog):
    def broken():
        raise ZeroDivisionError("in /srv/secret")

    rng = np.random.default_rng(0)
    good = make_record(rng.normal(0, 1, (1000, 1)).astype(np.float32))
    answers = make_engine().answer([("x", broken), ("y", lambda: good)])
    assert [one.status for one in answers] == [
        *("error: the recording can't be used: ZeroDivisionError", "ok")
    ]
    assert "in /srv/secret" in caplog.text


def test_memory_does_not_grow_with_the_number_of_recordings(make_engine, make_record, monkeypatch):
    """Each has 2 MB, all of them 400 MB: what is held at once is a few blocks."""
    monkeypatch.setattr(engine_module, "BLOCK_VALUES", 2**19)
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 1, (2**19, 1)).astype(np.float32)
    asked = [(str(i), lambda: make_record(samples + np.float32(0))) for i in range(200)]
    engine = make_engine(Pipeline().split_signals(LENGTH, 4 * LENGTH))
    engine.answer(asked[:1])
    tracemalloc.start()
    try:
        answers = engine.answer(asked)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(answer.status == "ok" for answer in answers)
    assert peak < 80e6


def answers(*probabilities: float) -> list[RecordPrediction]:
    nothing = np.empty((0, 2), np.float32)
    return [
        RecordPrediction(
            str(p), "error: bad" if np.isnan(p) else "ok", nothing, np.array([p, 1 - p])
        )
        for p in probabilities
    ]


def test_threshold_and_temperature_are_the_models_own(make_manifest):
    manifest = make_manifest(threshold=0.3, temperature=2.0)
    found = prediction_table(manifest, answers(0.2, 0.3, np.nan, 0.8), windows=False)
    assert found["prediction"].tolist() == ["NO", "A", None, "A"]
    # softmax(log(p) / 2) of two classes: sqrt(p) / (sqrt(p) + sqrt(1 - p)).
    assert found["calibrated_A"][[0, 3]].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert found["p_A"][[0, 3]].tolist() == [0.2, 0.8]
    plain = prediction_table(make_manifest(), answers(0.4, 0.6), windows=False)
    assert plain["prediction"].tolist() == ["NO", "A"]
    np.testing.assert_allclose(plain["calibrated_A"], plain["p_A"])


def test_numbers_that_are_not_there(make_manifest, monkeypatch):
    found = prediction_table(make_manifest(), answers(np.nan, 0.5), windows=False)
    assert found["p_A"].dtype == np.float64
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    found = prediction_table(make_manifest(), answers(np.nan, 0.5), windows=False)
    assert found["p_A"].tolist() == [None, 0.5]
    assert prediction_table(make_manifest(), [], windows=True).columns[-1] == "window_probabilities"
