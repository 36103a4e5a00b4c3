from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from waiting import wait_for

from ecg_mlflow.errors import RunGoneError, TrackingError
from ecg_mlflow.provenance import HEARTBEAT_TAG, seconds_since
from ecg_mlflow.reports.figures.training_plots import learning_curve
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.runs import REASON_TAG


class FlakyStore:
    """Stands for a store that fails for a while; remembers the values that it was sent."""

    def __init__(self, failures: int = 0, delay_s: float = 0.0) -> None:
        self.failures, self.delay_s = failures, delay_s
        self.sizes: list[int] = []
        self.values: list[float] = []

    def log_batch(self, run_id, metrics, tags=()):
        time.sleep(self.delay_s)
        if self.failures:
            self.failures -= 1
            raise MlflowException("the server is away")
        self.sizes.append(len(metrics))
        self.values += [metric.value for metric in metrics]


@pytest.fixture
def open_log():
    """Open logs, which end with the test."""
    with ExitStack() as stack:

        def open_one(client, run_id="0" * 32, kind=RunLog, **more):
            buffer = kind(client, run_id, **{"interval_s": 60.0, **more})
            stack.callback(buffer.abandon)
            return buffer

        yield open_one


def history(client, run_id, key="loss"):
    rows = [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run_id, key)]
    return sorted(rows)


def test_every_value_is_stored_once_with_its_step_and_time(open_log, client, run_id):
    values = np.linspace(1, 2, 2500, dtype=np.float32)
    times = [1_700_000_000_000 + 17 * i for i in range(2500)]
    buffer = open_log(client, run_id)
    buffer.add("loss", values, 1, times)
    buffer.add("test_f1", 0.5, 20, 1_700_000_000_001)
    buffer.add("lost", float("nan"), 3)
    buffer.flush()
    expected = [(i + 1, float(values[i]), times[i]) for i in range(2500)]
    assert history(client, run_id) == expected
    assert history(client, run_id, "test_f1") == [(20, 0.5, 1_700_000_000_001)]
    assert np.isnan(history(client, run_id, "lost")[0][1])


def test_batches_hold_at_most_a_thousand_in_order(open_log):
    store = FlakyStore()
    buffer = open_log(store)
    buffer.add("loss", range(2300), 0)
    buffer.add("x", -1, 0)
    buffer.close()
    assert store.sizes == [1000, 1000, 301]
    assert store.values == [*range(2300), -1]


@pytest.mark.parametrize("arrives", [True, False])
def test_a_batch_that_failed_is_sent_again_and_stored_once(open_log, client, run_id, arrives):
    class Away:
        """Answers the first batch with an error, whether it stores it or not."""

        answers = False

        def log_batch(self, run, metrics, tags=()):
            if self.answers or arrives:
                client.log_batch(run, metrics=metrics)
            if not self.answers:
                self.answers = True
                raise MlflowException("connection reset")

    buffer = open_log(Away(), run_id)
    buffer.add("loss", range(1500), 0)
    with pytest.raises(TrackingError, match="connection reset"):
        buffer.flush()
    buffer.add("loss", 1500, 1500)
    buffer.flush()
    assert [row[:2] for row in history(client, run_id)] == [(i, i) for i in range(1501)]


def test_flush_gives_up_in_time_and_loses_nothing(open_log):
    store = FlakyStore(delay_s=0.5)
    buffer = open_log(store)
    buffer.add("loss", 1, 1)
    with pytest.raises(TrackingError, match=r"within 0\.05 s"):
        buffer.flush(timeout_s=0.05)
    buffer.close()
    assert store.values == [1]


def test_flush_is_not_answered_by_a_delivery_that_began_before_it(open_log):
    store, seen = FlakyStore(), []

    def flush():
        buffer.flush()
        seen.extend(store.values)

    late = threading.Thread(target=flush)

    class Raced(RunLog):
        """Has a value added and a flush asked for just after a delivery found nothing more."""

        def _send_all(self):
            error = super()._send_all()
            if late.ident is None:
                self.add("loss", 2, 2)
                late.start()
                wait_for(lambda: self._flushes)
            return error

    buffer = open_log(store, kind=Raced)
    buffer.add("loss", 1, 1)
    buffer.flush()
    late.join()
    assert seen == [1, 2]


def test_heartbeats_and_metrics_come_at_the_interval_without_being_asked(open_log, client, run_id):
    buffer = open_log(client, run_id, interval_s=0.05, heartbeat_s=0.01)
    wait_for(lambda: HEARTBEAT_TAG in client.get_run(run_id).data.tags)
    buffer.add("loss", 1.5, 1)
    wait_for(lambda: client.get_run(run_id).data.metrics == {"loss": 1.5})
    assert 0 <= seconds_since(client.get_run(run_id).data.tags[HEARTBEAT_TAG]) < 60


@pytest.mark.parametrize("held", [True, False])
def test_what_comes_after_the_run_was_deleted_is_refused(open_log, client, run_id, held):
    buffer = open_log(client, run_id, interval_s=0.05, heartbeat_s=0.01, held=held)
    buffer.add("loss", 1, 0)
    client.delete_run(run_id)
    buffer.release()
    with pytest.raises(RunGoneError, match=f"mlflow runs restore --run-id {run_id}") as caught:
        buffer.flush()
    assert caught.value.run_id == run_id
    with pytest.raises(RunGoneError):
        buffer.add("loss", 2, 1)
    assert buffer.pending() == [("loss", [1.0], 0, buffer.pending()[0][3])], "for its checkpoint"


def test_only_an_end_by_hand_ends_the_log_of_a_run_that_is_held(open_log, client, run_id):
    client.set_tag(run_id, REASON_TAG, "its process was taken for dead while the store was away")
    client.set_terminated(run_id, "KILLED")
    buffer = open_log(client, run_id, interval_s=0.05, heartbeat_s=0.01, held=True)
    wait_for(lambda: HEARTBEAT_TAG in client.get_run(run_id).data.tags)
    buffer.flush()
    client.delete_tag(run_id, REASON_TAG)
    wait_for(lambda: buffer._error is not None)
    with pytest.raises(RunGoneError, match="ended as KILLED by hand"):
        buffer.add("loss", 1, 0)


@pytest.mark.parametrize("key", ["", "loss=1", "naïve", "x" * 251, "a\nb"])
def test_names_that_mlflow_refuses_are_refused_at_once(open_log, key):
    buffer = open_log(FlakyStore())
    with pytest.raises(TrackingError, match="MLflow allows no metric"):
        buffer.add(key, 1, 1)
    with pytest.raises(ValueError, match="shape"):
        buffer.add("loss", [1, 2], 0, [5, 6, 7])


def test_close_delivers_ends_the_thread_and_refuses_more(open_log):
    store = FlakyStore()
    buffer = open_log(store)
    buffer.add("loss", 1, 1)
    buffer.close()
    buffer.close()
    buffer.flush()
    assert store.values == [1]
    with pytest.raises(TrackingError, match="after the log"):
        buffer.add("loss", 2, 2)
    wait_for(lambda: not buffer._thread.is_alive())


def test_close_on_a_dead_store_or_run_says_so(open_log, client):
    for store, why in (
        (FlakyStore(failures=10**6), r"of run 0+: the server is away\. They are kept"),
        (client, "into run 0+: Run with id=0+ not found"),
    ):
        buffer = open_log(store)
        buffer.add("loss", 1, 1)
        with pytest.raises(TrackingError, match=why):
            buffer.close()
        with pytest.raises(TrackingError, match="unsent"):
            buffer.flush()


WORKER = """
import signal, sys
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.run_log import RunLog

def stop(number, frame):
    raise SystemExit(143)

signal.signal(signal.SIGTERM, stop)
buffer = RunLog(connect(sys.argv[1]), sys.argv[2], interval_s=600)
for i in range(500):
    buffer.add("loss", i, i)
if sys.argv[3] == "SIGTERM":
    signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize(("how", "status"), [("SIGTERM", 143), ("exit", 0)])
def test_sigterm_and_exit_lose_nothing(client, tracking_store, run_id, how, status):
    command = [sys.executable, "-c", WORKER, tracking_store, run_id, how]
    assert subprocess.run(command, check=False).returncode == status
    assert [step for step, _, _ in history(client, run_id)] == list(range(500))


def test_what_is_held_goes_to_the_next_buffer_in_order_and_is_stored_once(open_log, client, run_id):
    first = open_log(client, run_id, held=True)
    first.add("loss", [0.5, 0.25], 0, [11, 12])
    first.flush()
    assert history(client, run_id) == []
    first.release()
    first.add("loss", range(2, 1500), 2)
    first.flush()
    assert history(client, run_id) == [(0, 0.5, 11), (1, 0.25, 12)]
    pending = first.pending()
    assert [(key, step) for key, _, step, _ in pending] == [("loss", 2), ("loss", 1002)]
    first.release()
    first.flush()
    first.abandon()
    # A process that takes over from the checkpoint does not know what was delivered after it.
    second = open_log(client, run_id, held=True, pending=pending)
    assert second.pending() == pending
    second.add("loss", 1500, 1500)
    second.release()
    second.close()
    rows = history(client, run_id)
    assert [row[0] for row in rows] == list(range(1501))
    assert rows[0] == (0, 0.5, 11)


def test_pending_shrinks_with_what_was_delivered_and_may_come_in_one_piece(open_log):
    class FailsLater(FlakyStore):
        def log_batch(self, run_id, metrics, tags=()):
            super().log_batch(run_id, metrics, tags)
            self.failures = 10**6

    store = FailsLater()
    buffer = open_log(store, pending=[("loss", [*range(1500)], 0, [7] * 1500)])
    with pytest.raises(TrackingError):
        buffer.flush()
    assert buffer.pending() == [("loss", [*range(1000, 1500)], 1000, [7] * 500)]
    buffer.abandon()
    assert not buffer._thread.is_alive()
    assert len(store.values) == 1000, "an abandoned buffer delivers no more"


def test_leaving_the_block_delivers_and_leaves_the_run_open(client, run_id):
    with RunLog(client, run_id, interval_s=600) as run_log:
        run_log.add("loss", np.array([0.5, 0.25], np.float32), 7)
        run_log.metrics({"test_f1": 0.75, "test_accuracy": 1.0}, step=8)
    losses = client.get_metric_history(run_id, "loss")
    assert [(m.step, m.value) for m in losses] == [(7, 0.5), (8, 0.25)]
    assert client.get_metric_history(run_id, "test_accuracy")[0].step == 8
    assert client.get_run(run_id).data.metrics["test_f1"] == 0.75
    assert client.get_run(run_id).info.status == "RUNNING"
    assert mlflow.active_run() is None


def test_an_error_in_the_block_comes_out_unchanged_whether_the_store_fails_or_not(client, run_id):
    for run, notes in ((run_id, 0), ("f" * 32, 1)):
        run_log = RunLog(client, run, interval_s=600)
        run_log.add("loss", 1.0, 1)
        with pytest.raises(ZeroDivisionError) as caught, run_log:
            _ = 1 / 0
        found = getattr(caught.value, "__notes__", [])
        assert ["could not log into run" in note for note in found] == [True] * notes
    assert client.get_run(run_id).data.metrics == {"loss": 1.0}


def test_tables_are_replaced_and_figures_are_pictures(client, run_id):
    with RunLog(client, run_id) as run_log:
        for rows in ([1], [2]):
            run_log.table("design/trials.csv", {"a": rows})
        run_log.figure("losses.png", learning_curve([2.0, 1.0]))
    table, picture = (
        Path(client.download_artifacts(run_id, name)).read_bytes()
        for name in ("design/trials.csv", "losses.png")
    )
    assert table == b"a\n2\n"
    assert picture.startswith(b"\x89PNG")
