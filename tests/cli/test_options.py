"""From the words of a command line to a request, as a person or ``mlflow run`` writes them."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from mlflow.projects.utils import load_project
from studies import parsed

from ecg_mlflow.cli.environment import base_folders
from ecg_mlflow.cli.parameters import as_typed
from ecg_mlflow.cli.run import study_request
from ecg_mlflow.study.request import StudyRequest

ROOT = Path(__file__).parents[2]
FLAGS = {"--dry-run": "", "--reuse": "--no-reuse"}


def by_mlflow(entry_point, **params):
    """Return the words that ``mlflow run`` starts for an entry point and its parameters."""
    command = load_project(str(ROOT)).get_entry_point(entry_point).compute_command(params, None)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "ecg_mlflow"]
    return words[3:]


def test_what_is_not_given_has_the_defaults_of_the_request():
    assert study_request(parsed(["run", "x.py"]), None) == StudyRequest("x.py")


def test_every_option_arrives():
    words = """
        x.py --data d --labels l --leads II,V5 --gaps refuse
        --limit 9 --on-bad-record skip --epochs 2 --reps 3 --configs 0-1
        --sampler tpe --trials 5 --search-seed 0 --pruner asha --objective a,b --direction maximize
        --no-adaptive --finalists 4 --workers 0 --gpus 0:2 --threads 6 --branches 7 --executor ray
        --ray-address auto --gpus-per-worker 0.5 --resume r --retry-failed --reuse
        --checkpoint-minutes 0.5 --hang-minutes 8 --experiment e --dry-run
    """
    data = {"data": "d", "labels": "l", "limit": 9, "skip_bad_records": True}
    data |= {"leads": "II,V5", "gaps": "refuse"}
    design = {"epochs": 2, "repetitions": 3, "configs": "0-1"}
    search = {"sampler": "tpe", "trials": 5, "search_seed": 0, "pruner": "asha", "finalists": 4}
    search |= {"objective": "a,b", "direction": "maximize", "adaptive": False}
    machines = {"workers": 0, "gpus": "0:2", "threads": 6, "branches": 7, "visible_devices": "0,1"}
    machines |= {"executor": "ray", "ray_address": "auto", "gpus_per_worker": 0.5}
    machines |= {"checkpoint_minutes": 0.5, "hang_minutes": 8.0}
    study = {"resume": "r", "retry_failed": True, "reuse": True, "experiment": "e", "dry_run": True}
    expected = StudyRequest("x.py", **data, **design, **search, **machines, **study)
    assert study_request(parsed(["run", *words.split()]), "0,1") == expected


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
        ({"data": "my records", "epochs": "20"}, {"data": "my records", "epochs": 20}),
        ({"on_bad_record": "skip", "reps": "3"}, {"skip_bad_records": True, "repetitions": 3}),
        ({"dry_run": "true", "adaptive": "true"}, {"dry_run": True, "adaptive": True}),
        ({"dry_run": "false", "adaptive": "false"}, {"dry_run": False, "adaptive": False}),
        ({"reuse": "False", "retry_failed": "true"}, {"reuse": False, "retry_failed": True}),
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


@pytest.mark.parametrize(
    ("given", "typed"),
    [
        ("x.py --on_bad_record=a_b", "x.py --on-bad-record=a_b"),
        ("a_b.py --data c_d", "a_b.py --data c_d"),
        ("--dry_run true x.py", "--dry-run x.py"),
        ("--dry_run True --reuse YES", "--dry-run --reuse"),
        ("--dry_run false --reuse false x.py", "--no-reuse x.py"),
        ("--reuse 0 --dry-run 1", "--no-reuse --dry-run"),
        ("--dry-run --reuse", "--dry-run --reuse"),
        ("--data true", "--data true"),
        ("--dry-run maybe", "--dry-run maybe"),
    ],
)
def test_words_of_mlflow_run_become_those_that_a_person_types(given, typed):
    assert as_typed(given.split(), FLAGS) == typed.split()


def test_an_option_with_an_empty_value_was_not_given():
    words = ["", "--data", "", "--dry_run", "", "--epochs", "3", "--configs", ""]
    assert as_typed(words, FLAGS) == ["", "--epochs", "3"]


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("", "reuse", None),
        ("--reuse", "reuse", True),
        ("--no-reuse", "reuse", False),
        ("--reuse false", "reuse", False),
        ("", "skip_bad_records", None),
        ("--on-bad-record skip", "skip_bad_records", True),
        ("--on_bad_record error", "skip_bad_records", False),
    ],
)
def test_what_a_resumed_study_decides_on_where_it_is_left_out(words, name, value):
    assert parsed(["run", "x.py", *words.split()])[name] is value


def test_paths_start_at_the_callers_folder_only_under_mlflow_run(monkeypatch, tmp_path):
    caller = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    try:
        monkeypatch.setattr(os, "getppid", lambda: caller.pid)
        monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
        assert base_folders() == (Path.cwd(),)
        monkeypatch.setenv("MLFLOW_RUN_ID", "0")
        assert base_folders() == (tmp_path, Path.cwd())
        (tmp_path / "mine").mkdir()
        words = ["x.py", "--data", "mine", "--labels", "headers"]
        request = study_request(parsed(["run", *words]), None)
        assert (request.grid, request.data) == ("x.py", str(tmp_path / "mine"))
        assert request.labels == "headers"
    finally:
        caller.kill()
        caller.wait()
