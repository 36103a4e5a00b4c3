"""What the configuration of the project backend may say, and what wins."""

from __future__ import annotations

import argparse

import pytest

from ecg_mlflow import cli
from ecg_mlflow.errors import BackendError
from ecg_mlflow.integrations.backend_config import OPTIONS, BackendConfig


def test_every_key_is_an_option_of_run():
    parser = argparse.ArgumentParser()
    cli._add_machine(parser)
    cli._add_ledger(parser)
    assert OPTIONS.keys() <= {action.dest for action in parser._actions}


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
    with pytest.raises(BackendError, match=f"{key}.*executor, workers, .*Did you mean '{near}'"):
        BackendConfig.read({key: 1})


def test_what_a_study_computes_is_said_elsewhere():
    with pytest.raises(BackendError, match=r"'epochs'.* -P or in the grid file"):
        BackendConfig.read({"epochs": 3})


@pytest.mark.parametrize(
    ("key", "value", "takes"),
    [
        ("workers", -1, "whole number of at least 0"),
        ("workers", 1.5, "whole number of at least 0"),
        ("workers", True, "whole number of at least 0"),
        ("threads", 0, "whole number of at least 1"),
        ("hang_minutes", "soon", "positive number of minutes"),
        ("gpus_per_worker", -1, "number of at least 0"),
        ("executor", "slurm", "processes or ray"),
        ("env_manager", "poetry", "local, virtualenv, uv, conda"),
        ("ray_address", {"host": "a"}, "a text"),
        ("gpus", "", "a text"),
    ],
)
def test_values_that_cannot_be_read(key, value, takes):
    with pytest.raises(BackendError, match=f"{key}=.*it takes {takes}"):
        BackendConfig.read({key: value})


@pytest.mark.parametrize("name", ["gpus_per_worker", "gpus-per-worker"])
def test_what_is_given_with_the_command_wins(name):
    config = BackendConfig.read({"workers": 2, "gpus_per_worker": 0.5, "env_manager": "uv"})
    assert config.params({"grid": "a.py", name: "1"}) == {"grid": "a.py", name: "1", "workers": "2"}
    assert config.env_manager == "uv"


def test_without_parameters():
    assert BackendConfig.read({"workers": 2}).params(None) == {"workers": "2"}
