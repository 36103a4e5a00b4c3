"""What bash is given to execute for a project's entry point."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from mlflow.exceptions import ExecutionException

from ecg_mlflow.integrations import project_command
from ecg_mlflow.integrations.project_command import runs_a_study, shell_command

PROJECT = SimpleNamespace(docker_env=None, env_type="conda", env_config_path="conda.yaml")


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("python -m ecg_mlflow run {grid} --data {data}", True),
        ("ecg-mlflow run {grid}", True),
        ("python prepare.py && python3 -m ecg_mlflow run {grid}", True),
        ("python -m ecg_mlflow promote {study} --name {name}", False),
        ("ecg-mlflow rollback --name {name}", False),
        ("python train.py", False),
    ],
)
def test_entry_points_that_take_a_studys_options(command, runs):
    assert runs_a_study(command) is runs


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -m ecg_mlflow run 'a b.py'", "exec {python} -m ecg_mlflow run 'a b.py'"),
        ("ecg-mlflow run a.py", "exec {python} -m ecg_mlflow run a.py"),
        ("python3 train.py --x '1;2'", "exec {python} train.py --x '1;2'"),
        ("pythonic --x 1", "exec pythonic --x 1"),
        ("python a.py && python b.py", "{python} a.py && python b.py"),
        ("A=1 python a.py", "A=1 python a.py"),
    ],
)
def test_with_the_interpreter_of_this_process(command, expected):
    found = shell_command(PROJECT, command, "/project", "local")
    assert found == expected.format(python=sys.executable)


def test_in_an_environment_that_mlflow_makes(monkeypatch):
    monkeypatch.setattr(project_command, "_conda", lambda project: ["conda activate x"])
    found = shell_command(PROJECT, "python -m ecg_mlflow run a.py", "/project", "conda")
    assert found == "conda activate x && exec python -m ecg_mlflow run a.py"


@pytest.mark.parametrize("manager", ["virtualenv", "uv"])
def test_the_projects_environment_file_is_read(manager, monkeypatch, tmp_path):
    from mlflow.utils import virtualenv

    asked = {}

    def make(**given):
        asked.update(given)
        return "source activate"

    monkeypatch.setattr(virtualenv, "_create_virtualenv", make)
    (tmp_path / "conda.yaml").write_text("dependencies:\n- python=3.11\n- pip:\n  - numpy==2.4.6\n")
    project = SimpleNamespace(
        docker_env=None, env_type="conda_env", env_config_path=str(tmp_path / "conda.yaml")
    )
    found = shell_command(project, "python -m ecg_mlflow run a.py", str(tmp_path), manager)
    assert found == "source activate && exec python -m ecg_mlflow run a.py"
    assert asked["env_manager"] == manager
    assert asked["python_env"].dependencies == ["numpy==2.4.6"]


def test_a_project_for_docker():
    project = SimpleNamespace(docker_env={"image": "ecg"})
    with pytest.raises(ExecutionException, match="no project in Docker: leave --backend out"):
        shell_command(project, "python train.py", "/project", "local")
