from __future__ import annotations

import csv
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pytest

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.reports.figures.training_plots import learning_curve
from ecg_mlflow.tracking.run_log import RunLog, csv_text


@pytest.fixture
def run_log(client, run_id):
    with RunLog(client, run_id, interval_s=60) as opened:
        yield opened


def artifact(client, run_id, name) -> Path:
    return Path(client.download_artifacts(run_id, name))


def test_leaving_the_block_delivers_and_leaves_the_run_open(client, run_id):
    with RunLog(client, run_id, interval_s=600) as run_log:
        run_log.losses(np.array([0.5, 0.25], np.float32), 7)
        run_log.metrics({"test_f1": 0.75, "test_accuracy": 1.0}, step=8)
    losses = client.get_metric_history(run_id, "loss")
    assert [(m.step, m.value) for m in losses] == [(7, 0.5), (8, 0.25)]
    assert client.get_metric_history(run_id, "test_accuracy")[0].step == 8
    run = client.get_run(run_id)
    assert run.data.metrics == {"loss": 0.25, "test_f1": 0.75, "test_accuracy": 1.0}
    assert run.info.status == "RUNNING"
    assert mlflow.active_run() is None


def test_an_error_in_the_block_delivers_too_and_comes_out_unchanged(client, run_id):
    run_log = RunLog(client, run_id, interval_s=600)
    run_log.losses([1.0], 1)
    with pytest.raises(ZeroDivisionError), run_log:
        _ = 1 / 0
    assert client.get_run(run_id).data.metrics == {"loss": 1.0}


def test_an_error_is_not_hidden_by_a_store_that_fails_as_well(client):
    run_log = RunLog(client, "f" * 32)
    run_log.losses([1.0], 1)
    with pytest.raises(ZeroDivisionError) as caught, run_log:
        _ = 1 / 0
    assert any("refused the metrics" in note for note in caught.value.__notes__)


def test_params_and_tags_more_than_one_batch_and_longer_than_the_limit(client, run_id, run_log):
    long = "x" * 9000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_log.params({f"p{i}": i for i in range(230)} | {"long": long, "long2": long + "y"})
    run_log.tags({f"t{i}": i for i in range(130)} | {"reason": long})
    data = client.get_run(run_id).data
    assert (data.params["p229"], data.tags["t129"], len(data.params)) == ("229", "129", 232)
    assert (len(data.params["long"]), len(data.tags["reason"])) == (6000, 8000)
    assert "9000 characters" in data.params["long"]
    assert "9000 characters" in data.tags["reason"]
    assert data.params["long"] != data.params["long2"]
    with pytest.raises(TrackingError, match=r"log batch .*p1"):
        run_log.params({"p1": 2})


def test_table_keeps_every_digit(client, run_id, run_log):
    p = np.array([0.1, 1 / 3], np.float64)
    run_log.table("predictions.csv", {"record": ["A,1", "A2"], "p": p, "label": (0, 1)})
    with artifact(client, run_id, "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["record"] for row in rows] == ["A,1", "A2"]
    assert [float(row["p"]) for row in rows] == p.tolist()
    assert [row["label"] for row in rows] == ["0", "1"]
    assert csv_text({"a": [], "b": []}) == "a,b\n"
    with pytest.raises(ValueError):
        csv_text({"a": [1], "b": [1, 2]})


def test_texts_figures_and_files(client, run_id, run_log, tmp_path):
    run_log.text("config/plan.json", "1")
    run_log.text("config/plan.json", "2")
    assert artifact(client, run_id, "config/plan.json").read_text() == "2"
    run_log.figure("losses.png", learning_curve([2.0, 1.0]))
    assert artifact(client, run_id, "losses.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "grid.py").write_text("research = 1")
    run_log.file(tmp_path / "grid.py", "study")
    assert artifact(client, run_id, "study/grid.py").read_text() == "research = 1"
    with pytest.raises(TrackingError, match=r"nothing\.here"):
        run_log.file(tmp_path / "nothing.here")
