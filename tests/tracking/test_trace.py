"""A run's curves as one file, and how they are read back from it or from the store."""

from __future__ import annotations

import io

import numpy as np
import pytest
from mlflow.entities import Metric

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.trace import RunTrace, log_trace, read_traces

LOSSES = np.array([0.7, 0.5, 0.1 + 0.2, 0.25], np.float32)
TESTS = [(1, {"test_f1": 0.1 + 0.2}), (3, {"test_f1": 0.75, "test_f1_tilde": 0.5})]


def read(client, run_id, *names):
    (trace,) = read_traces(client, [StoredRun.from_mlflow(client.get_run(run_id))], names)
    return trace


def log_metrics(client, run_id):
    with RunLog(client, run_id) as log:
        log.add("loss", LOSSES, 0)
        for iteration, metrics in TESTS:
            log.metrics(metrics, iteration)


def test_a_trace_comes_back_as_it_was():
    found = RunTrace.from_bytes(RunTrace.of([LOSSES[:1], LOSSES[1:]], TESTS).to_bytes())
    assert found.losses.dtype == np.float32
    assert found.losses.tolist() == LOSSES.tolist()
    assert found.iterations.tolist() == [1, 3]
    assert found.metrics["test_f1"].tolist() == [0.1 + 0.2, 0.75]
    np.testing.assert_array_equal(found.metrics["test_f1_tilde"], [np.nan, 0.5])


def test_a_trace_is_put_together_from_pieces():
    one_test = RunTrace.of([LOSSES], [(3, {"validation_f1": 0.5}), (3, {"test_f1": 0.25})])
    assert one_test.iterations.tolist() == [3]
    found = {name: values.tolist() for name, values in one_test.metrics.items()}
    assert found == {"validation_f1": [0.5], "test_f1": [0.25]}
    empty = RunTrace.from_bytes(RunTrace.of([], []).to_bytes())
    assert (len(empty.losses), len(empty.iterations), empty.metrics) == (0, 0, {})


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"loss,0.5\n", "cut", "other"])
def test_a_damaged_trace_says_what_to_do(client, run_id, damage, tmp_path):
    whole = RunTrace.of([LOSSES], TESTS).to_bytes()
    other = io.BytesIO()
    np.savez(other, weights=LOSSES)
    path = tmp_path / "trace.npz"
    path.write_bytes({"cut": whole[:-30], "other": other.getvalue()}.get(damage, damage))
    client.log_artifact(run_id, str(path))
    with pytest.raises(TrackingError, match=rf"npz of run {run_id} can't be read .* delete it"):
        read(client, run_id, "loss")


def test_a_trace_is_read_from_the_artifacts(client, run_id):
    log_metrics(client, run_id)
    with RunLog(client, run_id) as log:
        log_trace(log, RunTrace.of([LOSSES + 1], TESTS))
        log_trace(log, RunTrace.of([LOSSES + 2], TESTS))
    trace = read(client, run_id, "loss", "test_f1")
    assert trace.losses.tolist() == (LOSSES + 2).tolist()
    assert list(trace.metrics) == ["test_f1"]


def test_a_run_without_a_trace_is_read_from_its_metrics(client, run_id):
    log_metrics(client, run_id)
    trace = read(client, run_id, "loss", "test_f1", "test_f1_tilde")
    assert trace.to_bytes() == RunTrace.of([LOSSES], TESTS).to_bytes()


def test_what_a_trace_lacks_is_read_from_the_metrics(client, run_id):
    log_metrics(client, run_id)
    with RunLog(client, run_id) as log:
        log_trace(log, RunTrace.of([LOSSES], [(1, {"test_f1": 0.5})]))
        log.metrics({"test_roc_auc": 0.9}, 3)
    trace = read(client, run_id, "test_f1", "test_roc_auc")
    assert trace.iterations.tolist() == [1, 3]
    np.testing.assert_array_equal(trace.metrics["test_f1"], [0.5, np.nan])
    np.testing.assert_array_equal(trace.metrics["test_roc_auc"], [np.nan, 0.9])
    assert len(trace.losses) == 0


def test_of_an_iteration_that_was_logged_twice_the_later_value_counts(client, run_id):
    later_first = [
        Metric(name, value, timestamp, 1)
        for name in ("loss", "test_f1")
        for value, timestamp in ((0.5, 2000), (0.25, 1000), (0.75, 1500))
    ]
    client.log_batch(run_id, later_first)
    trace = read(client, run_id, "loss", "test_f1")
    assert trace.metrics["test_f1"].tolist() == [0.5]
    np.testing.assert_array_equal(trace.losses, np.array([np.nan, 0.5], np.float32))


def test_a_gap_in_the_losses_is_no_number_and_a_run_may_have_logged_nothing(client, run_id):
    trace = read(client, run_id, "loss", "test_f1")
    assert (len(trace.losses), len(trace.iterations)) == (0, 0)
    with RunLog(client, run_id) as log:
        log.add("loss", LOSSES[:2], 0)
        log.add("loss", 0.125, 3)
    found = read(client, run_id, "loss").losses
    np.testing.assert_array_equal(found, np.array([0.7, 0.5, np.nan, 0.125], np.float32))
