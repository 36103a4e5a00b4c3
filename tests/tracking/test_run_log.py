from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pytest

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.reports.figures.training_plots import learning_curve
from ecg_mlflow.tracking.run_log import RunLog, csv_text, log_new_params, log_params, log_tags


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
        assert ["refused the metrics" in note for note in found] == [True] * notes
    assert client.get_run(run_id).data.metrics == {"loss": 1.0}


def test_params_and_tags_more_than_one_batch_and_longer_than_the_limit(client, run_id):
    long = "x" * 9000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        params = {f"p{i}": i for i in range(230)} | {"long": long, "long2": long + "y"}
        log_params(client, run_id, params)
    log_tags(client, run_id, {f"t{i}": i for i in range(130)} | {"reason": long})
    data = client.get_run(run_id).data
    assert (data.params["p229"], data.tags["t129"], len(data.params)) == ("229", "129", 232)
    assert (len(data.params["long"]), len(data.tags["reason"])) == (6000, 8000)
    assert "9000 characters" in data.params["long"]
    assert data.params["long"] != data.params["long2"]
    with pytest.raises(TrackingError, match=r"log batch .*p1"):
        log_params(client, run_id, {"p1": 2})
    log_new_params(client, run_id, {"p1": 2, "new": 3})
    found = client.get_run(run_id).data.params
    assert (found["p1"], found["new"]) == ("1", "3")


def test_a_table_keeps_every_digit():
    p = np.array([0.1, 1 / 3], np.float64)
    text = csv_text({"record": ["A,1", "A2"], "p": p, "label": (0, 1)})
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["record"] for row in rows] == ["A,1", "A2"]
    assert [float(row["p"]) for row in rows] == p.tolist()
    assert [row["label"] for row in rows] == ["0", "1"]
    assert csv_text({"a": [], "b": []}) == "a,b\n"
    with pytest.raises(ValueError):
        csv_text({"a": [1], "b": [1, 2]})


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
