"""A client of the session's store, and a study in it."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.study_run import Study


@pytest.fixture(scope="session")
def client(tracking_store: str) -> MlflowClient:
    return connect(tracking_store)


@pytest.fixture
def study(client: MlflowClient, experiment: str):
    with Study.open(client, experiment, "the study") as opened:
        yield opened


@pytest.fixture
def run_id(study: Study) -> str:
    return study.create_child("a child", {})
