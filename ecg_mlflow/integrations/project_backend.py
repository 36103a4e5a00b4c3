"""MLflow's project backend ``ecg-mlflow``: a study with its options for the machines in a file.

``mlflow run . --backend ecg-mlflow --backend-config cluster.json -P grid=resnet.py``
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.projects import utils
from mlflow.projects.backend.local import LocalBackend
from mlflow.projects.submitted_run import SubmittedRun
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_BACKEND, MLFLOW_PROJECT_ENV

from ecg_mlflow.cli.parameters import CliCommand, CliOption
from ecg_mlflow.cli.run import MACHINES
from ecg_mlflow.errors import BackendError
from ecg_mlflow.study.signals import sigterm_as_interrupt
from ecg_mlflow.tracking.client import environment

NAME = "ecg-mlflow"
#: The key that is no option of ``ecg-mlflow run``: what prepares the project's environment.
ENV_MANAGER = "env_manager"
_MANAGERS = click.Choice(["local", "virtualenv", "uv", "conda"])
#: Reads the configuration as the options of a command.
_CONFIG = CliCommand(
    "backend", params=[*MACHINES, CliOption("--env-manager", "", _MANAGERS)], add_help_option=False
)
#: Keys that MLflow adds to the configuration.
_OF_MLFLOW = {
    value
    for name, value in vars(utils).items()
    if name.startswith("PROJECT_") or name == "MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG"
}
#: What the exit status of ``ecg-mlflow run`` says.
_MEANINGS = {
    1: "it could not be carried out",
    2: "an option can't be read",
    3: "some runs failed",
    130: "it was stopped",
}
_RUNS_A_STUDY = re.compile(r"(?:\bpython3? -m ecg_mlflow|\becg-mlflow) run\b")

_projects: Any = utils  # its functions have no types
_logger = logging.getLogger(__name__)


class EcgBackend(LocalBackend):
    """Runs a project's entry point on this machine as MLflow's own backend, and waits for it.

    The configuration holds options of ``ecg-mlflow run`` that say where and how runs are trained,
    on this machine's processors and GPUs or on a Ray cluster, and ``env_manager``; see
    `read_backend_config`. The options become parameters of the project run, and ``-P`` wins over
    them.
    """

    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: Mapping[str, Any] | None,
        version: str | None,
        backend_config: Mapping[str, Any],
        tracking_uri: str,
        experiment_id: str,
    ) -> SubmittedRun:
        """Run a project to its end.

        MLflow's command doesn't wait for the run of a backend that is a plug-in, so this does.
        Ctrl-C and SIGTERM are passed on to the study, which saves what it has, and ends its runs
        as KILLED.

        Raises
        ------
        ExecutionException
            If the configuration can't be read, the project has no such entry point, or the study
            doesn't end well; ``mlflow run`` ends with a message and exit status 1 then.
        KeyboardInterrupt
            After Ctrl-C, when the study has ended.
        """
        of_mlflow = {key: value for key, value in backend_config.items() if key in _OF_MLFLOW}
        own = {key: value for key, value in backend_config.items() if key not in of_mlflow}
        try:
            options = read_backend_config(own)
        except BackendError as error:
            raise ExecutionException(str(error)) from error
        configured = options.pop(ENV_MANAGER, "local")
        env_manager = of_mlflow.get(utils.PROJECT_ENV_MANAGER) or configured
        params = project_params(params, options)
        work_dir = _projects.fetch_and_validate_project(project_uri, version, entry_point, params)
        command = _projects.load_project(work_dir).get_entry_point(entry_point).command
        if options and not runs_a_study(command):
            raise ExecutionException(
                f"the entry point {entry_point!r} runs no study, and the backend's configuration "
                f"has {', '.join(options)} for one; leave them out (its command is {command!r})"
            )
        asked_for = of_mlflow.get(utils.MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG)
        described = project_uri, experiment_id, work_dir, version, entry_point, params
        run_id: str = _projects.get_or_create_run(asked_for, *described).info.run_id
        client = MlflowClient(tracking_uri)
        config = of_mlflow | {
            utils.MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG: run_id,
            utils.PROJECT_ENV_MANAGER: env_manager,
            utils.PROJECT_SYNCHRONOUS: True,
        }
        # This process's interpreter is the first on the path.
        local: Any = super()
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        try:
            client.set_tag(run_id, MLFLOW_PROJECT_BACKEND, NAME)
            client.set_tag(run_id, MLFLOW_PROJECT_ENV, env_manager)
            with sigterm_as_interrupt():
                with environment(PATH=path):
                    submitted = local.run(
                        *(work_dir, entry_point, params, None, config, tracking_uri, experiment_id)
                    )
                status, stopped = wait_for_command(submitted.command_proc)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        _end_if_open(client, run_id, status, was_stopped=stopped is not None)
        if status and stopped is signal.SIGINT:
            raise KeyboardInterrupt(f"run {run_id} was stopped by Ctrl-C")
        if status:
            word = f"by {stopped.name}" if stopped else _MEANINGS.get(status, "see above")
            raise ExecutionException(
                f"Run (ID '{run_id}') did not end well: exit status {status}, {word}"
            )
        ended: SubmittedRun = submitted
        return ended


def backend_builder() -> EcgBackend:
    """Return the backend; the entry point ``mlflow.project_backend`` names this function."""
    return EcgBackend()


def read_backend_config(config: Mapping[str, Any]) -> dict[str, str]:
    """Read and check the file of ``--backend-config``, before a run is made.

    Parameters
    ----------
    config
        Values by key: texts and numbers, a list of GPUs too; null is the same as no entry.

    Returns
    -------
    The values by key, spelled as on a command line.

    Raises
    ------
    BackendError
        A key that is not known, or a value that can't be read.
    """
    options = {
        key.replace("-", "_"): ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in config.items()
        if value is not None
    }
    words = [word for key, text in options.items() for word in (f"--{key}", text)]
    try:
        _CONFIG.make_context("backend", words)
    except click.UsageError as error:
        known = ", ".join(str(option.name) for option in _CONFIG.params)
        raise BackendError(
            f"the backend's configuration can't be read: {error.format_message()} Its keys are "
            f"{known}; what a study computes is said with -P or in the grid file"
        ) from None
    return options


def project_params(given: Mapping[str, Any] | None, options: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of the project run: those given with ``-P`` win over `options`."""
    given = dict(given or {})
    names = {name.replace("-", "_") for name in given}
    return {**given, **{name: text for name, text in options.items() if name not in names}}


def runs_a_study(entry_point_command: str) -> bool:
    """Say whether an entry point's command, as MLproject has it, is ``ecg_mlflow run``."""
    return _RUNS_A_STUDY.search(entry_point_command) is not None


def wait_for_command(process: subprocess.Popen[bytes]) -> tuple[int, signal.Signals | None]:
    """Wait for a command to end; pass Ctrl-C and SIGTERM on to it, which decides how it ends.

    A study takes the two SIGINT that it gets of a terminal's Ctrl-C, which reaches all processes,
    for one request.

    Returns
    -------
    Its exit status, negative for a signal, and the first signal that was passed on.
    """
    stopped = None
    while True:
        try:
            return process.wait(), stopped
        except KeyboardInterrupt as stop:
            number = signal.SIGTERM if stop.args else signal.SIGINT  # as `sigterm_as_interrupt`
            stopped = stopped or number
            process.send_signal(number)


def _end_if_open(client: MlflowClient, run_id: str, status: int, *, was_stopped: bool) -> None:
    """End the run, if its command has not.

    A study ends its run itself, as FINISHED, FAILED or KILLED: that stays. A plan that was only
    shown doesn't, nor does one whose options can't be read, or whose process was killed.
    """
    try:
        if RunStatus.is_terminated(RunStatus.from_string(client.get_run(run_id).info.status)):
            return
        ended = "FAILED" if status else "FINISHED"
        if status and (was_stopped or status < 0):
            ended = "KILLED"
        client.set_terminated(run_id, ended)
    except MlflowException as error:
        _logger.warning("the end of run %s could not be logged: %s", run_id, error)
