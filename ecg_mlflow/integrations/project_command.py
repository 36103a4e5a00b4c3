"""The shell command of a project's entry point, in the environment that it is to run in."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

from mlflow.exceptions import ExecutionException

from ecg_mlflow.integrations.backend_config import LOCAL

#: An entry point that runs a study, and so takes the options of one.
_RUNS_A_STUDY = re.compile(r"(?:\bpython3? -m ecg_mlflow|\becg-mlflow) run\b")
_OWN_PYTHON = re.compile(r"^(?:python3? |ecg-mlflow (?=\w))")
#: What `exec` can't stand before: a variable, or more than one command.
_NOT_ONE_PROGRAM = re.compile(r"^\w+=|[;&|\n<>(){}`]|\$\(")


def runs_a_study(entry_point_command: str) -> bool:
    """Say whether an entry point's command, as MLproject has it, is ``ecg_mlflow run``."""
    return _RUNS_A_STUDY.search(entry_point_command) is not None


def shell_command(project: Any, command: str, work_dir: str, env_manager: str) -> str:
    """Return what bash is to execute.

    Parameters
    ----------
    project
        From ``mlflow.projects.utils.load_project``.
    command
        Of the entry point, with its parameters.
    work_dir
        The project's folder.
    env_manager
        ``local``: with the interpreter of this process, whatever ``python`` is on the path.
        Otherwise MLflow makes the environment first, as its own local backend does.

    Raises
    ------
    ExecutionException
        If MLflow can't make the environment, or the project is one for Docker.
    """
    if project.docker_env:
        raise ExecutionException(
            "the backend ecg-mlflow runs no project in Docker: leave --backend out for that"
        )
    if env_manager == LOCAL:
        command = _OWN_PYTHON.sub(_interpreter, command)
        steps = []
    elif env_manager == "conda":
        steps = _conda(project)
    else:
        steps = [_virtualenv(project, Path(work_dir), env_manager)]
    if not _NOT_ONE_PROGRAM.search(_without_quoted(command)):
        command = f"exec {command}"  # so that signals meet the driver and not a shell
    return " && ".join([*steps, command])


def _interpreter(match: re.Match[str]) -> str:
    module = "-m ecg_mlflow " if match[0].startswith("ecg-mlflow") else ""
    return f"{shlex.quote(sys.executable)} {module}"


def _without_quoted(command: str) -> str:
    return re.sub(r"'[^']*'", "", command)


def _conda(project: Any) -> list[str]:
    """Make the environment with conda; return the commands that activate it."""
    from mlflow.utils import conda

    untyped: Any = conda
    commands: list[str] = untyped.get_or_create_conda_env(
        project.env_config_path
    ).get_activate_command()
    return commands


def _virtualenv(project: Any, work_dir: Path, env_manager: str) -> str:
    """Make the environment with virtualenv or uv; return the command that activates it."""
    from mlflow.projects import env_type
    from mlflow.utils import environment, virtualenv

    untyped: Any = virtualenv
    describe: Any = environment._PythonEnv
    if project.env_type == env_type.CONDA:
        python_env = describe.from_conda_yaml(project.env_config_path)
    elif project.env_config_path:
        python_env = describe.from_yaml(project.env_config_path)
    else:
        python_env = describe()
    root = Path(untyped._get_mlflow_virtualenv_root()) / untyped._VIRTUALENV_ENVS_DIR
    command: str = untyped._create_virtualenv(
        local_model_path=work_dir,
        python_env=python_env,
        env_dir=root / untyped._get_virtualenv_name(python_env, work_dir),
        env_manager=env_manager,
    )
    return command
