"""What the registry has: names, versions, and decisions of earlier promotions."""

from __future__ import annotations

import uuid

import pytest
from mlflow import MlflowClient
from servers import free_port

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.registry import RegisteredName, champion


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("models:/af-resnet@champion", RegisteredName("af-resnet", "champion", None)),
        ("models:/af-resnet/12", RegisteredName("af-resnet", None, 12)),
        ("models:/two words@it's", RegisteredName("two words", "it's", None)),
        *((uri, None) for uri in ("models:/m-0123", "models:/af-resnet/latest")),
        *((uri, None) for uri in ("models:/af-resnet@", "af-resnet/1", "/tmp/x")),
    ],
)
def test_names_of_versions(uri, expected):
    assert RegisteredName.from_uri(uri) == expected


def test_a_model_that_was_registered_by_hand_is_known_by_its_place(client):
    name, model_id = f"af {uuid.uuid4().hex[:8]}", "m-" + "ab" * 16
    assert champion(client, name) is None
    client.create_registered_model(name)
    client.create_model_version(name, f"/mlruns/1/models/{model_id}/artifacts")
    assert champion(client, name) is None
    client.set_registered_model_alias(name, "champion", "1")
    found = champion(client, name)
    assert (found.model_id, found.run_id, found.decision) == (model_id, "", "")
    assert champion(client, name, "other") is None


def test_a_store_that_is_gone(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    lost = MlflowClient(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TrackingError, match="could not look for the registered model"):
        champion(lost, "any")
