"""Where a command runs: the caller's folder, the tracking store, the run of ``mlflow run``."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROJECT_RUN = "MLFLOW_RUN_ID"


@contextmanager
def process_as_found() -> Iterator[None]:
    """Put back at the end what commands set for themselves, and for the processes they start.

    Environment variables, the search path of modules, the level of MLflow's messages about models,
    and the states of Python's and NumPy's common random generators.
    """
    variables, path = dict(os.environ), [*sys.path]
    logger, drawn = logging.getLogger("mlflow.pyfunc"), random.getstate()
    level = logger.level
    numpy = sys.modules.get("numpy.random")
    numpy_drawn = numpy.get_state() if numpy else None
    try:
        yield
    finally:
        # Not cleared and filled again: other threads may be looking.
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)
        sys.path[:] = path
        logger.setLevel(level)
        random.setstate(drawn)
        if numpy:
            numpy.set_state(numpy_drawn)


def base_folders() -> tuple[Path, ...]:
    """Return the folders where relative paths start, the first that fits.

    Under ``mlflow run`` the folder where it was typed comes first. MLflow runs an entry point in
    the project's folder and does not say from where it was called; its own working directory does.
    The shell that it starts may stand in between.
    """
    if PROJECT_RUN in os.environ:
        caller = os.getppid()
        with suppress(OSError, ValueError, IndexError):
            while Path(f"/proc/{caller}/comm").read_text().strip() in ("bash", "sh"):
                # "pid (name) state parent ...", and a shell's name has no spaces
                caller = int(Path(f"/proc/{caller}/stat").read_text().split()[3])
            return Path(f"/proc/{caller}/cwd").resolve(strict=True), Path.cwd()
    return (Path.cwd(),)


def open_store() -> MlflowClient:
    """Connect to the tracking store that the environment names, or to the one in the folder."""
    from ecg_mlflow.tracking.client import connect

    return connect(base_dir=base_folders()[0])


def project_run(client: MlflowClient, name: str) -> AbstractContextManager[object]:
    """Name and end the run that ``mlflow run`` has created for a command, if it has."""
    run_id = os.environ.pop(PROJECT_RUN, None)
    if run_id is None:
        return nullcontext()
    from ecg_mlflow.tracking.study_run import Study

    return Study.open(client, "", name, run_id=run_id)


def load_keras_quietly() -> None:
    """Keep TensorFlow off the GPUs, where studies may be training, and silent.

    While it is loaded it writes messages that no setting can stop, straight to the terminal.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    # Not that of all of MLflow, which sets its own when it is imported.
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import_module("keras").backend.backend()
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
