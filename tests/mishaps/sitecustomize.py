"""Mishaps at chosen moments of another process: imported where PYTHONPATH names this folder.

``MISHAPS`` holds them as JSON, see `chaos.Mishap`, and ``MISHAPS_DONE`` a folder that remembers
which have come to pass: each does once, in whichever process gets there first. Other processes
than drivers and workers are left alone.
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
    return "worker" if "ecg_mlflow.executors.worker_main" in sys.orig_argv else "driver"


def _happen(mishap: dict) -> bool:
    """Let a mishap come to pass, unless it has; say whether the answer is lost."""
    try:
        Path(os.environ["MISHAPS_DONE"], mishap["name"]).touch(exist_ok=False)
    except FileExistsError:
        return False
    if mishap["kill"] == "itself":
        os.kill(os.getpid(), signal.SIGKILL)
    with suppress(ProcessLookupError):  # it is away already
        os.killpg(int(Path(mishap["kill"]).read_text()), signal.SIGKILL)
    return True


def _lost_answer() -> Exception:
    """Return what MLflow raises when a connection breaks."""
    from mlflow.exceptions import MlflowException

    return MlflowException("API request to the server failed with exception: killed too soon")


def _surround(mishap: dict, owner: object, name: str) -> None:
    original = getattr(owner, name)
    calls = 0

    def with_mishap(*args: object, **options: object) -> object:
        nonlocal calls
        if any(options.get(key, value) != value for key, value in mishap["only"].items()):
            return original(*args, **options)
        if mishap["after"]:  # of those calls that went well
            result = original(*args, **options)
        calls += 1
        if calls == mishap["number"] and _happen(mishap) and mishap["after"]:
            raise _lost_answer()
        return result if mishap["after"] else original(*args, **options)

    setattr(owner, name, with_mishap)


def _apply(module: object, mishaps: list[dict]) -> None:
    for mishap in mishaps:
        *path, name = mishap["call"].partition(":")[2].split(".")
        owner = module
        for part in path:
            owner = getattr(owner, part)
        _surround(mishap, owner, name)


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, mishaps: list[dict]) -> None:
        self._loader = loader
        self._mishaps = mishaps

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> object:
        return self._loader.create_module(spec)

    def exec_module(self, module: object) -> None:
        self._loader.exec_module(module)
        _apply(module, self._mishaps)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mishaps: list[dict]) -> None:
        self._mishaps = mishaps

    def find_spec(self, name: str, path: object, target: object = None) -> object:
        mishaps = [one for one in self._mishaps if one["call"].partition(":")[0] == name]
        if not mishaps:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _Loader(spec.loader, mishaps)
        return spec


_mine = [one for one in json.loads(os.environ.get("MISHAPS", "[]")) if one["role"] == _role()]
_loaded = [one for one in _mine if one["call"].partition(":")[0] in sys.modules]
for _one in _loaded:
    _apply(sys.modules[_one["call"].partition(":")[0]], [_one])
if _waiting := [one for one in _mine if one not in _loaded]:
    sys.meta_path.insert(0, _Finder(_waiting))
