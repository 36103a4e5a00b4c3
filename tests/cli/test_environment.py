"""What commands leave behind in a process that calls `main`, such as a notebook's."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys

import matplotlib as mpl
import mlflow
import numpy as np
import optuna  # noqa: F401 - to import it adds a handler of its own
import pytest
from studies import numpy_grid

from ecg_mlflow.cli import main
from ecg_mlflow.study import launch

SEARCH = numpy_grid(grid="Option('hidden', [2, 3, 4, 5])", split="Split((0.5, 0.25, 0.25))")


def snapshot():
    """Return what a command could change for everything else in this process."""
    names = [None, "mlflow", "mlflow.pyfunc", "optuna", "tensorflow", "ecg_mlflow"]
    loggers = [logging.getLogger(name) for name in names]
    numbers = (signal.SIGINT, signal.SIGTERM)
    return {
        "variables": dict(os.environ),
        "search path": [*sys.path],
        "folder": os.getcwd(),
        "logging": [(one.level, one.disabled, [*one.handlers], [*one.filters]) for one in loggers],
        "handlers of signals": [signal.getsignal(number) for number in numbers],
        "random numbers": (random.getstate(), np.random.get_state()[1].tolist()),  # noqa: NPY002
        "store": (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run()),
        "pictures": (mpl.get_backend(), dict(mpl.rcParams)),
        "hooks": (sys.excepthook, sys.stdout, sys.stderr, sys.displayhook),
    }


@pytest.fixture
def study(workplace, experiment, monkeypatch):
    """Let a process have settings of its own, and a finished search."""
    for name in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    grid = workplace.write_grid(SEARCH)
    before = snapshot()
    words = ("--workers", "0", "--sampler", "random", "--trials", "2")
    assert workplace.run(grid, *words, experiment=experiment) == 0
    assert snapshot() == before, "a study that was run"
    parent, _ = workplace.runs(experiment)
    return parent.info.run_id


def test_commands_leave_the_process_as_they_found_it(workplace, study, monkeypatch):
    before = snapshot()
    data = str(workplace.records)
    for words, status in [
        (["plan", "small.py", "--data", data], 0),
        (["data", data], 0),
        (["show", str(next(workplace.records.glob("*.hea")))], 0),
        (["compare", study], 0),
        (["errors", study], 1),  # its networks are none of Keras
        (["run", "--resume", study, "--workers", "0"], 0),
        (["reap"], 0),
        (["run", "no such file.py"], 1),
        (["run", "small.py", "--data", "nowhere"], 1),
        (["promote", "no such study", "--name", "af"], 1),
        (["no such command"], 2),
        (["run"], 2),
    ]:
        assert main(words) == status, words
        assert snapshot() == before, words

    def interrupted(request):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run_request", interrupted)
    assert main(["run", "small.py"]) == 130
    assert snapshot() == before
