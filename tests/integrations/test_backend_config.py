"""What the configuration of the project backend may say, and what wins."""

from __future__ import annotations

import pytest

from ecg_mlflow.errors import BackendError
from ecg_mlflow.integrations.backend_config import BackendConfig


def test_values_as_on_a_command_line():
    config = BackendConfig.read(
        {"executor": "ray", "workers": 16, "gpus_per_worker": 0.5, "ray_address": "10.0.0.1:6379"}
    )
    assert config.options == {
        "executor": "ray",
        "workers": "16",
        "gpus_per_worker": "0.5",
        "ray_address": "10.0.0.1:6379",
    }
    assert config.env_manager is None


@pytest.mark.parametrize(
    ("gpus", "text"), [("0:2,1", "0:2,1"), (0, "0"), ([0, 1], "0,1"), (["GPU-a"], "GPU-a")]
)
def test_gpus(gpus, text):
    assert BackendConfig.read({"gpus": gpus}).options == {"gpus": text}


def test_null_is_no_entry():
    assert BackendConfig.read({"workers": None}).options == {}


@pytest.mark.parametrize(
    ("key", "near"),
    [("worker", "workers"), ("hang-minutes", "hang_minutes"), ("GPUS", "gpus")],
)
def test_an_unknown_key_and_what_may_be_meant(key, near):
    with pytest.raises(
        BackendError,
        match=f"{key}.*workers, gpus, .*, hang_minutes, env_manager.*Did you mean '{near}'",
    ):
        BackendConfig.read({key: 1})


def test_what_a_study_computes_is_said_elsewhere():
    with pytest.raises(BackendError, match=r"'epochs'.* -P or in the grid file"):
        BackendConfig.read({"epochs": 3})


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("workers", -1, "-1 is not in the range x>=0"),
        ("workers", 1.5, "'1.5' is not a valid whole number"),
        ("workers", True, "it takes a text or a number"),
        ("threads", 0, "0 is not in the range x>=1"),
        ("hang_minutes", "soon", "'soon' is not a valid number"),
        ("gpus_per_worker", -1, "-1.0 is not in the range x>=0"),
        ("executor", "slurm", "'slurm' is not one of 'processes', 'ray'"),
        ("env_manager", "poetry", "'local', 'virtualenv', 'uv', 'conda'"),
        ("ray_address", {"host": "a"}, "it takes a text"),
        ("gpus", "", "it takes a text"),
    ],
)
def test_values_that_cannot_be_read(key, value, fault):
    with pytest.raises(BackendError, match=f"{key}=.*{fault}"):
        BackendConfig.read({key: value})


@pytest.mark.parametrize("name", ["gpus_per_worker", "gpus-per-worker"])
def test_what_is_given_with_the_command_wins(name):
    config = BackendConfig.read({"workers": 2, "gpus_per_worker": 0.5, "env_manager": "uv"})
    assert config.params({"grid": "a.py", name: "1"}) == {"grid": "a.py", name: "1", "workers": "2"}
    assert config.env_manager == "uv"


def test_without_parameters():
    assert BackendConfig.read({"workers": 2}).params(None) == {"workers": "2"}
