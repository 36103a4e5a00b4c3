"""MLflow's project backend ``ecg-mlflow``: a study with its options for the machines in a file.

``mlflow run . --backend ecg-mlflow --backend-config cluster.json -P grid=resnet.py``
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.projects import utils
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import LocalSubmittedRun, SubmittedRun
from mlflow.projects.utils import (
    MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG,
    PROJECT_BUILD_IMAGE,
    PROJECT_DOCKER_ARGS,
    PROJECT_DOCKER_AUTH,
    PROJECT_ENV_MANAGER,
    PROJECT_STORAGE_DIR,
    PROJECT_SYNCHRONOUS,
)
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_BACKEND, MLFLOW_PROJECT_ENV

from ecg_mlflow.errors import BackendError
from ecg_mlflow.integrations.backend_config import LOCAL, BackendConfig
from ecg_mlflow.integrations.project_command import runs_a_study, shell_command
from ecg_mlflow.integrations.project_process import ProjectProcess

NAME = "ecg-mlflow"

_projects: Any = utils  # its functions have no types

_logger = logging.getLogger(__name__)

#: What MLflow puts into the configuration itself.
_OF_MLFLOW = {
    PROJECT_BUILD_IMAGE,
    PROJECT_DOCKER_ARGS,
    PROJECT_DOCKER_AUTH,
    PROJECT_ENV_MANAGER,
    PROJECT_STORAGE_DIR,
    PROJECT_SYNCHRONOUS,
    MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG,
}
#: What the exit status of ``ecg-mlflow run`` says.
_MEANINGS = {
    1: "it could not be carried out",
    2: "an option can't be read",
    3: "some runs failed",
    130: "it was stopped",
}


class EcgBackend(AbstractBackend):
    """Runs a project's entry point on this machine, and waits for it.

    What the configuration may say is in `ecg_mlflow.integrations.backend_config`: options of
    ``ecg-mlflow run`` that say where and how runs are trained, on this machine's processors and
    GPUs or on a Ray cluster, and ``env_manager``. They become parameters of the project run, and
    ``-P`` wins over them.
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
            config = BackendConfig.read(own)
        except BackendError as error:
            raise ExecutionException(str(error)) from error
        env_manager = backend_config.get(PROJECT_ENV_MANAGER) or config.env_manager or LOCAL
        params = config.params(params)
        work_dir = _projects.fetch_and_validate_project(project_uri, version, entry_point, params)
        project = _projects.load_project(work_dir)
        _check_takes_options(project, entry_point, config)
        with tempfile.TemporaryDirectory(dir=_storage(backend_config)) as storage:
            # Before there is a run: what is wrong with a parameter leaves none behind.
            (command,) = _projects.get_entry_point_command(project, entry_point, params, storage)
            command = shell_command(project, command, work_dir, env_manager)
            run = _projects.get_or_create_run(
                backend_config.get(MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG),
                *(project_uri, experiment_id, work_dir, version, entry_point, params),
            )
            run_id: str = run.info.run_id
            client = MlflowClient(tracking_uri)
            with _closed_if_it_fails(client, run_id):
                client.set_tag(run_id, MLFLOW_PROJECT_BACKEND, NAME)
                client.set_tag(run_id, MLFLOW_PROJECT_ENV, env_manager)
                env = {**_own_path(), **_projects.get_run_env_vars(run_id, experiment_id)}
                _logger.info("=== Running command '%s' in run with ID '%s' ===", command, run_id)
                project_process = ProjectProcess()
                status = project_process.run(command, work_dir, {**os.environ, **env})
        stopped = project_process.stopped_by
        _settle(client, run_id, status, was_stopped=stopped is not None)
        if status and stopped is not None and stopped.name == "SIGINT":
            raise KeyboardInterrupt(f"run {run_id} was stopped by Ctrl-C")
        if status:
            word = f"by {stopped.name}" if stopped else _MEANINGS.get(status, "see above")
            raise ExecutionException(
                f"Run (ID '{run_id}') did not end well: exit status {status}, {word}"
            )
        submitted_run: Any = LocalSubmittedRun  # untyped too
        ended: SubmittedRun = submitted_run(run_id, project_process.process)
        return ended


def backend_builder() -> EcgBackend:
    """Return the backend; what the entry point ``mlflow.project_backend`` names."""
    return EcgBackend()


def _check_takes_options(project: Any, entry_point: str, config: BackendConfig) -> None:
    command = project.get_entry_point(entry_point).command
    if config.options and not runs_a_study(command):
        raise ExecutionException(
            f"the entry point {entry_point!r} runs no study, and the backend's configuration has "
            f"{', '.join(config.options)} for one; leave them out (its command is {command!r})"
        )


def _storage(backend_config: Mapping[str, Any]) -> str | None:
    """Return where downloads for parameters of type ``path`` go; None for the usual place."""
    folder: str | None = backend_config.get(PROJECT_STORAGE_DIR)
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


def _own_path() -> dict[str, str]:
    """Let commands of the project find this process's interpreter first."""
    return {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


@contextmanager
def _closed_if_it_fails(client: MlflowClient, run_id: str) -> Iterator[None]:
    """End the run if its command could not even be started."""
    try:
        yield
    except BaseException:
        client.set_terminated(run_id, RunStatus.to_string(RunStatus.FAILED))
        raise


def _settle(client: MlflowClient, run_id: str, status: int, *, was_stopped: bool) -> None:
    """End the run, if its command has not.

    A study ends its run itself, as FINISHED, FAILED or KILLED: that stays. A plan that was only
    shown doesn't, nor does one whose options can't be read, or whose process was killed.
    """
    try:
        if RunStatus.is_terminated(RunStatus.from_string(client.get_run(run_id).info.status)):
            return
        ended = RunStatus.FINISHED if not status else RunStatus.FAILED
        if status and (was_stopped or status < 0):
            ended = RunStatus.KILLED
        client.set_terminated(run_id, RunStatus.to_string(ended))
    except MlflowException as error:
        _logger.warning("the end of run %s could not be logged: %s", run_id, error)
