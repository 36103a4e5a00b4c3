"""From the options of a study's command to its request."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from mlflow.projects.utils import load_project
from studies import parsed

from ecg_mlflow.cli.run import plan_command, run_command, study_request
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.search_config import SEARCH_OPTIONS

ROOT = Path(__file__).parents[2]


def by_mlflow(entry_point, **params):
    """Return the words that ``mlflow run`` starts for an entry point and its parameters."""
    command = load_project(str(ROOT)).get_entry_point(entry_point).compute_command(params, None)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "ecg_mlflow"]
    return words[3:]


def test_every_option_is_a_field_of_the_request():
    known = {field.name for field in fields(StudyRequest)} | {*SEARCH_OPTIONS}
    assert {param.name for param in run_command.params} <= known
    assert {param.name for param in plan_command.params} <= known


def test_what_is_not_given_has_the_defaults_of_the_request():
    assert study_request(parsed(["run", "x.py"]), None) == StudyRequest("x.py")


def test_every_option_arrives():
    words = """
        x.py --data d --labels l --limit 9 --on-bad-record skip --epochs 2 --reps 3 --configs 0-1
        --sampler tpe --trials 5 --search-seed 0 --pruner asha --objective a,b --direction maximize
        --no-adaptive --finalists 4 --workers 0 --gpus 0:2 --threads 6 --branches 7 --executor ray
        --ray-address auto --gpus-per-worker 0.5 --resume r --retry-failed --reuse
        --checkpoint-minutes 0.5 --hang-minutes 8 --experiment e --dry-run
    """
    assert study_request(parsed(["run", *words.split()]), "0,1") == StudyRequest(
        "x.py",
        data="d",
        labels="l",
        limit=9,
        skip_bad_records=True,
        epochs=2,
        repetitions=3,
        configs="0-1",
        search={
            "sampler": "tpe",
            "trials": 5,
            "search_seed": 0,
            "pruner": "asha",
            "objective": "a,b",
            "direction": "maximize",
            "adaptive": False,
            "finalists": 4,
        },
        workers=0,
        gpus="0:2",
        threads=6,
        branches=7,
        executor="ray",
        ray_address="auto",
        gpus_per_worker=0.5,
        resume="r",
        retry_failed=True,
        reuse=True,
        checkpoint_minutes=0.5,
        hang_minutes=8.0,
        experiment="e",
        dry_run=True,
        visible_devices="0,1",
    )


def test_the_experiment_of_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    assert parsed(["run", "x.py"])["experiment"] == "ours"
    assert parsed(["run", "x.py", "--experiment", "mine"])["experiment"] == "mine"


def test_a_project_run_is_resumed_by_the_same_command(monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0")
    request = study_request(parsed(["run", "x.py"]), None)
    assert request.how_to_resume == "the same command and -P resume={run_id}"


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, {"data": None, "dry_run": False, "reuse": None}),
        ({"data": "my records"}, {"data": "my records"}),
        ({"data": "cinc2017", "epochs": "20", "reps": "3"}, {"epochs": 20, "repetitions": 3}),
        ({"labels": "FILE", "configs": "0,3,5-8"}, {"labels": "FILE", "configs": "0,3,5-8"}),
        ({"limit": "1000", "on_bad_record": "skip"}, {"limit": 1000, "skip_bad_records": True}),
        ({"workers": "4", "gpus": "0,1", "threads": "2"}, {"workers": 4, "gpus": "0,1"}),
        ({"branches": "4", "dry_run": "true"}, {"branches": 4, "dry_run": True}),
        ({"dry_run": "false", "adaptive": "false"}, {"dry_run": False, "adaptive": False}),
        ({"sampler": "tpe", "trials": "40", "pruner": "asha"}, {"sampler": "tpe", "trials": 40}),
        ({"adaptive": "true", "objective": "validation_f1"}, {"adaptive": True}),
        ({"resume": "abc", "retry_failed": "true"}, {"resume": "abc", "retry_failed": True}),
        ({"reuse": "true", "executor": "ray"}, {"reuse": True, "executor": "ray"}),
        ({"reuse": "False", "search_seed": "7"}, {"reuse": False, "search_seed": 7}),
        ({"gpus_per_worker": "0.5", "epochs": ""}, {"gpus_per_worker": 0.5, "epochs": None}),
    ],
)
def test_parameters_of_the_main_entry_point(params, expected):
    found = parsed(by_mlflow("main", grid="a b.py", **params))
    assert found["grid"] == "a b.py"
    assert {name: found[name] for name in expected} == expected


def test_parameters_of_the_other_entry_points():
    assert parsed(by_mlflow("config", grid="x.py", config="3"))["configs"] == "3"
    found = parsed(by_mlflow("promote", study="s", name="n", min_sensitivity="0.8"))
    assert (found["study"], found["name"], found["alias"]) == ("s", "n", "champion")
    assert found["min_sensitivity"] == 0.8
    assert parsed(by_mlflow("rollback", name="n", alias="a")) == {"name": "n", "alias": "a"}
