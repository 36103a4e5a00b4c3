from __future__ import annotations

import pytest
from mlflow import MlflowClient

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.runs import find_or_create_experiment
from ecg_mlflow.tracking.study_run import Study


def status(client: MlflowClient, run_id: str) -> str:
    return client.get_run(run_id).info.status


def test_experiment_that_another_process_makes_at_the_same_moment(client, experiment, monkeypatch):
    experiment_id = client.create_experiment(experiment)
    look = client.get_experiment_by_name
    answers = iter([None])
    monkeypatch.setattr(
        client, "get_experiment_by_name", lambda name: next(answers, look(experiment))
    )
    assert find_or_create_experiment(client, experiment) == experiment_id


def test_artifacts_lie_beside_the_database(client, study, store_uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study.leaderboard([{"rank": 1}])
    folder = store_uri.removeprefix("sqlite:///").removesuffix("mlflow.db")
    assert client.get_run(study.run_id).info.artifact_uri.startswith(f"file://{folder}mlruns/")
    assert not list(tmp_path.iterdir())


def test_second_study_shares_the_experiment(client, study, experiment):
    with Study.open(client, experiment, "again") as second:
        assert second.experiment_id == study.experiment_id
        assert second.run_id != study.run_id


def test_deleted_experiment(client, experiment):
    experiment_id = client.create_experiment(experiment)
    client.delete_experiment(experiment_id)
    with pytest.raises(TrackingError, match=f"restore --experiment-id {experiment_id}"):
        Study.open(client, experiment, "study")


def test_a_run_name_that_the_user_chose_stays(client, project_run):
    client.update_run(project_run, name="my name")
    with Study.open(client, "", "af study", run_id=project_run):
        assert client.get_run(project_run).info.run_name == "my name"


def test_an_ended_run_is_running_again(client, project_run):
    client.set_terminated(project_run, "FAILED")
    with Study.open(client, "", "af study", run_id=project_run):
        assert status(client, project_run) == "RUNNING"


def test_a_run_that_is_not_there(client):
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI"):
        Study.open(client, "e", "s", run_id="0" * 32)


def test_a_run_that_was_deleted(client, project_run):
    client.delete_run(project_run)
    with pytest.raises(TrackingError, match=f"restore --run-id {project_run}"):
        Study.open(client, "e", "s", run_id=project_run)
