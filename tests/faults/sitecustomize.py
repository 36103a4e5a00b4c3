"""Faults at chosen moments of another process: imported where PYTHONPATH names this folder.

``FAULTS`` holds them as JSON, see `chaos.Fault.encoded`; ``FAULTS_DONE`` is a folder with a file
for each that has happened: each happens once, in whichever process gets there first.
``FAULTS_WORKER`` is the module that workers run; every other process counts as a driver.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path


def happen(fault: dict) -> bool:
    """Let a fault happen, unless it has; say whether the answer is lost."""
    try:
        Path(os.environ["FAULTS_DONE"], fault["name"]).touch(exist_ok=False)
    except FileExistsError:
        return False
    if fault["kill"] == "itself":
        os.kill(os.getpid(), signal.SIGKILL)
    with suppress(ProcessLookupError):  # it is away already
        os.killpg(int(Path(fault["kill"]).read_text()), signal.SIGKILL)
    return True


def surround(fault: dict) -> None:
    *path, name = fault["call"].split(".")
    owner = importlib.import_module(fault["module"])
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = 0

    def with_fault(*args: object, **options: object) -> object:
        nonlocal calls
        if any(options.get(key, value) != value for key, value in fault["only"].items()):
            return original(*args, **options)
        if fault["after"]:  # of those calls that went well
            result = original(*args, **options)
        calls += 1
        if calls == fault["number"] and happen(fault) and fault["after"]:
            from mlflow.exceptions import MlflowException

            # What MLflow raises when a connection breaks.
            raise MlflowException("API request to the server failed with exception: killed")
        return result if fault["after"] else original(*args, **options)

    setattr(owner, name, with_fault)
    for module in list(sys.modules.values()):  # that have imported a function by its name
        if vars(module).get(name) is original:
            setattr(module, name, with_fault)


role = "worker" if os.environ["FAULTS_WORKER"] in sys.orig_argv else "driver"
for one in json.loads(os.environ["FAULTS"]):
    if one["role"] == role:
        surround(one)
