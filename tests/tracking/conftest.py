"""One sqlite store for all tests of this folder: to create one takes seconds."""

from __future__ import annotations

import uuid

import pytest
from mlflow import MlflowClient

from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.study_run import Study


def pytest_configure(config: pytest.Config) -> None:
    # MLflow's own query for a run, with SQLAlchemy 2.1; nothing that a caller could do otherwise.
    config.addinivalue_line(
        "filterwarnings", "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"
    )


@pytest.fixture(scope="session")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    connect(uri)
    return uri


@pytest.fixture(scope="session")
def client(store_uri: str) -> MlflowClient:
    return connect(store_uri)


@pytest.fixture
def experiment() -> str:
    return f"test {uuid.uuid4().hex[:8]}"


@pytest.fixture
def study(client: MlflowClient, experiment: str):
    with Study.open(client, experiment, "the study") as opened:
        yield opened


@pytest.fixture
def run_id(study: Study) -> str:
    return study.create_child("a child", {})


@pytest.fixture
def project_run(client, experiment) -> str:
    """Make a run as ``mlflow run`` leaves it when it starts the command."""
    run = client.create_run(
        client.create_experiment(experiment),
        tags={
            "mlflow.source.name": "git@example.org:me/ecg#sub",
            "mlflow.source.type": "PROJECT",
            "mlflow.source.git.commit": "c0ffee",
            "mlflow.project.entryPoint": "main",
            "mlflow.user": "someone",
        },
    )
    client.log_param(run.info.run_id, "grid", "'resnet.py'")
    return run.info.run_id
