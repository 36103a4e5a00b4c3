"""The whole path over HTTP, where artifacts go through the server too."""

from __future__ import annotations

import pytest
from servers import MlflowServer

from ecg_mlflow.tracking.artifacts import read_artifacts
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.logged_models import NetworkInfo, log_model
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.study_run import Study

pytestmark = [
    pytest.mark.server,
    # requests and its client leave idle keep-alive sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


def test_a_study_over_http(tracking_store, tmp_path, experiment, capsys):
    network = tmp_path / "network.keras"
    network.write_bytes(bytes(10_000))
    with MlflowServer(tracking_store, tmp_path).running() as server:
        client = connect(server.uri)
        with Study.open(client, experiment, "over http") as study:
            child = study.create_child("child", {"a": 1})
            with RunLog(client, child) as run_log:
                run_log.add("loss", range(3000), 0)
                run_log.table("predictions.csv", {"record": ["A1"]})
            model_id = log_model(client, child, "best", network, NetworkInfo((10, 1), ("A", "NO")))
            study.leaderboard([{"rank": 1}])
            study.finish_child(child, "FINISHED")
        assert len(client.get_metric_history(child, "loss")) == 3000
        uri = client.get_run(child).info.artifact_uri
        wanted = [(uri, path) for path in ("predictions.csv", "trace.npz", "predictions/best.csv")]
        assert [*read_artifacts(client, wanted).values()] == [b"record\nA1\n", None, None]
        assert client.get_logged_model(model_id).status == "READY"
        assert client.get_run(study.run_id).info.status == "FINISHED"
    assert capsys.readouterr().out == ""
