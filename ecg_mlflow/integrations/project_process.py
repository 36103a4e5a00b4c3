"""A project's entry point as a shell command, and the process that runs it to its end."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from mlflow.exceptions import ExecutionException

#: The environment manager that uses the interpreter of this process.
LOCAL = "local"
#: Signals that are passed on to the command.
PASSED_ON = (signal.SIGINT, signal.SIGTERM)
#: Seconds in which processes that the command has started may end by themselves after it.
_GRACE_S = 20.0
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
    activation = []
    if env_manager == LOCAL:
        command = _OWN_PYTHON.sub(_interpreter, command)
    else:
        activation = _activation(project, Path(work_dir), env_manager)
    if not _NOT_ONE_PROGRAM.search(re.sub(r"'[^']*'", "", command)):
        command = f"exec {command}"  # so that signals reach the driver and not a shell
    return " && ".join([*activation, command])


def _interpreter(match: re.Match[str]) -> str:
    module = "-m ecg_mlflow " if match[0].startswith("ecg-mlflow") else ""
    return f"{shlex.quote(sys.executable)} {module}"


def _activation(project: Any, work_dir: Path, env_manager: str) -> list[str]:
    """Make the project's environment; return the commands that activate it."""
    from mlflow.projects import env_type
    from mlflow.utils import conda, environment, virtualenv

    untyped: Any = virtualenv
    described: Any = environment._PythonEnv
    file = project.env_config_path
    if env_manager == "conda":
        make: Any = conda.get_or_create_conda_env
        commands: list[str] = make(file).get_activate_command()
        return commands
    if project.env_type == env_type.CONDA:
        python_env = described.from_conda_yaml(file)
    else:
        python_env = described.from_yaml(file) if file else described()
    root = Path(untyped._get_mlflow_virtualenv_root()) / untyped._VIRTUALENV_ENVS_DIR
    command: str = untyped._create_virtualenv(
        local_model_path=work_dir,
        python_env=python_env,
        env_dir=root / untyped._get_virtualenv_name(python_env, work_dir),
        env_manager=env_manager,
    )
    return [command]


class ProjectProcess:
    """A shell command in a process group of its own.

    A signal that this process gets, from a terminal's Ctrl-C or from a batch system, is passed on
    to the command, once. In the same group the command would get a terminal's Ctrl-C twice, and
    take the second one for an order to end at once. The command decides how it ends.

    Attributes
    ----------
    process
        Once it has started.
    stopped_by
        The first signal that was passed on.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped_by: signal.Signals | None = None

    def run(self, command: str, work_dir: str | Path, env: Mapping[str, str]) -> int:
        """Run a command for bash to its end; return its exit status, negative for a signal."""
        with _handled_by(self._pass_on):
            self.process = subprocess.Popen(
                ["bash", "-c", command], cwd=work_dir, env=dict(env), process_group=0
            )
            if self.stopped_by is not None:  # it came while the command was started
                self.process.send_signal(self.stopped_by)
            status = self.process.wait()
            _empty_group(self.process.pid)
        return status

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = self.stopped_by or signal.Signals(number)
        if self.process is not None:
            self.process.send_signal(number)


@contextmanager
def _handled_by(handler: Any) -> Iterator[None]:
    # Only the main thread may set handlers; in another one signals are left to its caller.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in PASSED_ON}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _empty_group(group: int) -> None:
    """Wait until a process group is empty; kill what does not end by itself.

    A signal may end a shell before the processes that it has started.
    """
    deadline = time.monotonic() + _GRACE_S
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
