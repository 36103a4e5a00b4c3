"""MLflow's project backend ``ecg-mlflow``: a study with its options for the machines in a file.

``mlflow run . --backend ecg-mlflow --backend-config cluster.json -P grid=resnet.py``
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.projects import utils
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import LocalSubmittedRun, SubmittedRun
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_BACKEND, MLFLOW_PROJECT_ENV

from ecg_mlflow.cli.run import MACHINES
from ecg_mlflow.errors import BackendError
from ecg_mlflow.integrations.project_process import (
    LOCAL,
    ProjectProcess,
    runs_a_study,
    shell_command,
)

NAME = "ecg-mlflow"
#: The key that is no option of ``ecg-mlflow run``: what prepares the project's environment.
ENV_MANAGER = "env_manager"
#: What reads the value of each key of the configuration.
_TYPES: Mapping[str, click.ParamType[Any]] = {
    **{str(option.name): option.type for option in MACHINES},
    ENV_MANAGER: click.Choice([LOCAL, "virtualenv", "uv", "conda"]),
}
#: Keys that MLflow adds to the configuration.
_OF_MLFLOW = {
    utils.PROJECT_BUILD_IMAGE,
    utils.PROJECT_DOCKER_ARGS,
    utils.PROJECT_DOCKER_AUTH,
    utils.PROJECT_ENV_MANAGER,
    utils.PROJECT_STORAGE_DIR,
    utils.PROJECT_SYNCHRONOUS,
    utils.MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG,
}
#: What the exit status of ``ecg-mlflow run`` says.
_MEANINGS = {
    1: "it could not be carried out",
    2: "an option can't be read",
    3: "some runs failed",
    130: "it was stopped",
}

_projects: Any = utils  # its functions have no types
_logger = logging.getLogger(__name__)


class EcgBackend(AbstractBackend):
    """Runs a project's entry point on this machine, and waits for it.

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
        own = {key: value for key, value in backend_config.items() if key not in _OF_MLFLOW}
        try:
            options = read_backend_config(own)
        except BackendError as error:
            raise ExecutionException(str(error)) from error
        configured = options.pop(ENV_MANAGER, LOCAL)
        env_manager = backend_config.get(utils.PROJECT_ENV_MANAGER) or configured
        params = project_params(params, options)
        work_dir = _projects.fetch_and_validate_project(project_uri, version, entry_point, params)
        project = _projects.load_project(work_dir)
        _check_takes_options(project, entry_point, options)
        downloads = backend_config.get(utils.PROJECT_STORAGE_DIR)
        if downloads is not None:
            Path(downloads).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=downloads) as storage:
            # Before there is a run, so that a wrong parameter leaves none behind.
            (command,) = _projects.get_entry_point_command(project, entry_point, params, storage)
            command = shell_command(project, command, work_dir, env_manager)
            run = _projects.get_or_create_run(
                backend_config.get(utils.MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG),
                *(project_uri, experiment_id, work_dir, version, entry_point, params),
            )
            run_id: str = run.info.run_id
            client, process = MlflowClient(tracking_uri), ProjectProcess()
            try:
                client.set_tag(run_id, MLFLOW_PROJECT_BACKEND, NAME)
                client.set_tag(run_id, MLFLOW_PROJECT_ENV, env_manager)
                _logger.info("=== Running command '%s' in run with ID '%s' ===", command, run_id)
                status = process.run(command, work_dir, _environment(run_id, experiment_id))
            except BaseException:
                client.set_terminated(run_id, "FAILED")
                raise
        stopped = process.stopped_by
        _end_if_open(client, run_id, status, was_stopped=stopped is not None)
        if status and stopped is not None and stopped.name == "SIGINT":
            raise KeyboardInterrupt(f"run {run_id} was stopped by Ctrl-C")
        if status:
            word = f"by {stopped.name}" if stopped else _MEANINGS.get(status, "see above")
            raise ExecutionException(
                f"Run (ID '{run_id}') did not end well: exit status {status}, {word}"
            )
        submitted_run: Any = LocalSubmittedRun  # untyped too
        ended: SubmittedRun = submitted_run(run_id, process.process)
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
    return {key: _as_text(key, value) for key, value in config.items() if value is not None}


def project_params(given: Mapping[str, Any] | None, options: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of the project run: those given with ``-P`` win over `options`."""
    given = dict(given or {})
    names = {name.replace("-", "_") for name in given}
    return {**given, **{name: text for name, text in options.items() if name not in names}}


def _as_text(key: str, value: object) -> str:
    if key not in _TYPES:
        near = difflib.get_close_matches(key.lower().replace("-", "_"), _TYPES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise BackendError(
            f"the backend's configuration has {key!r}, which is none of its keys: "
            f"{', '.join(_TYPES)}.{hint} What a study computes is said with -P or in the grid file"
        )
    if key == "gpus" and isinstance(value, list):
        value = ",".join(map(str, value))
    text = str(value).strip()
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not text:
            raise click.BadParameter("it takes a text or a number")
        _TYPES[key].convert(text, None, None)
    except click.BadParameter as error:
        message = f"the backend's configuration has {key}={value!r}: {error.message}"
        raise BackendError(message) from None
    return text


def _check_takes_options(project: Any, entry_point: str, options: Mapping[str, str]) -> None:
    command = project.get_entry_point(entry_point).command
    if options and not runs_a_study(command):
        raise ExecutionException(
            f"the entry point {entry_point!r} runs no study, and the backend's configuration has "
            f"{', '.join(options)} for one; leave them out (its command is {command!r})"
        )


def _environment(run_id: str, experiment_id: str) -> dict[str, str]:
    """Return the command's environment: this process's interpreter is the first on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, **_projects.get_run_env_vars(run_id, experiment_id)}


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
