"""Faults at chosen moments of another process: imported where PYTHONPATH names this folder.

``FAULTS`` holds them as JSON, see `chaos.Fault.encoded`; ``FAULTS_DONE`` is a folder with a file
for each that has happened: each happens once, in whichever process gets there first.
``FAULTS_WORKER`` is the module that workers run; every other process counts as a driver.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path


def _role() -> str:
    return "worker" if os.environ["FAULTS_WORKER"] in sys.orig_argv else "driver"


def _happen(fault: dict) -> bool:
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


def _lost_answer() -> Exception:
    """Return what MLflow raises when a connection breaks."""
    from mlflow.exceptions import MlflowException

    return MlflowException("API request to the server failed with exception: killed too soon")


def _surround(fault: dict, owner: object, name: str) -> None:
    original = getattr(owner, name)
    calls = 0

    def with_fault(*args: object, **options: object) -> object:
        nonlocal calls
        if any(options.get(key, value) != value for key, value in fault["only"].items()):
            return original(*args, **options)
        if fault["after"]:  # of those calls that went well
            result = original(*args, **options)
        calls += 1
        if calls == fault["number"] and _happen(fault) and fault["after"]:
            raise _lost_answer()
        return result if fault["after"] else original(*args, **options)

    setattr(owner, name, with_fault)


def _apply(module: object, faults: list[dict]) -> None:
    for fault in faults:
        *path, name = fault["call"].split(".")
        owner = module
        for part in path:
            owner = getattr(owner, part)
        _surround(fault, owner, name)


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, faults: list[dict]) -> None:
        self._loader = loader
        self._faults = faults

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> object:
        return self._loader.create_module(spec)

    def exec_module(self, module: object) -> None:
        self._loader.exec_module(module)
        _apply(module, self._faults)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, faults: list[dict]) -> None:
        self._faults = faults

    def find_spec(self, name: str, path: object, target: object = None) -> object:
        faults = [one for one in self._faults if one["module"] == name]
        if not faults:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _Loader(spec.loader, faults)
        return spec


_mine = [one for one in json.loads(os.environ["FAULTS"]) if one["role"] == _role()]
_loaded = [one for one in _mine if one["module"] in sys.modules]
for _one in _loaded:
    _apply(sys.modules[_one["module"]], [_one])
if _waiting := [one for one in _mine if one not in _loaded]:
    sys.meta_path.insert(0, _Finder(_waiting))
