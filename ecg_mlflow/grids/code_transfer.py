"""Send the user's code to the processes that train.

A grid file is sent by value: its functions with the global values that they read. The modules that
it imports from beside itself are imported in the worker, from the files as they were read here, so
that each class exists once. Changes that the grid file has made in these modules (``parts.WIDTH =
16``, a name added to a registry) are repeated there.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from enum import Enum
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

import cloudpickle
import numpy as np

from ecg_mlflow.grids.source_code import owner
from ecg_mlflow.grids.user_code import UserCode, is_imported, use

#: A class, or "" for the module itself, and the name of one of its variables.
Variable: TypeAlias = tuple[str, str]

#: Values that can be assigned again without any effect, unless they have changed.
_FIXED = (bool, int, float, complex, str, bytes)
_CHANGEABLE = (list, dict, set, bytearray, np.ndarray)


def watched(module: ModuleType, execute: Callable[[], None]) -> None:
    """Run a module, and record its variables before others change them; see `user_code.Run`."""
    execute()
    loader: Any = module.__loader__
    loader.made = {key: (value, _content(value)) for key, value in _variables(module).items()}


def settled(code: UserCode) -> UserCode:
    """Return the user's code after the grid file was run.

    It includes modules imported by computed names, and changes in modules. From now on, the
    identity of these modules depends on their state in this process, not on their files.
    """
    code = code.with_loaded()
    modules, state = code.modules(), dict[str, dict[Variable, Any]]()
    with _by_value(modules):
        for name, module in modules.items():
            loader: Any = module.__loader__
            loader.is_users = loader.is_settled = True
            if is_imported(name):
                state[name] = _changes(module, getattr(loader, "made", None))
        return replace(code, state=cloudpickle.dumps(state))


def pickle_for_worker(value: object, code: UserCode) -> bytes:
    """Pickle for a worker, together with the user's code."""
    with _by_value(code.modules()):
        payload: bytes = cloudpickle.dumps(value)
    return pickle.dumps(_Parcel(code, payload))


class _Parcel:
    """A pickled value that is unpickled where the user's code can be imported."""

    def __init__(self, code: UserCode, payload: bytes) -> None:
        self._content = (code, payload)

    def __reduce__(self) -> tuple[object, ...]:
        return _unpack, self._content


def _unpack(code: UserCode, payload: bytes) -> object:
    if use(code) and code.state:
        _restore(cloudpickle.loads(code.state))
    value: object = cloudpickle.loads(payload)
    return value


@contextmanager
def _by_value(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Pickle by value what is defined in modules that another process can't import."""
    with ExitStack() as registered:
        for name, module in modules.items():
            if not is_imported(name):
                cloudpickle.register_pickle_by_value(module)
                registered.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


def _changes(
    module: ModuleType, made: Mapping[Variable, tuple[object, bytes]] | None
) -> dict[Variable, Any]:
    """Return the variables that others have changed in a module, and all its numbers and texts.

    These may differ between runs of the module, if they depend on time, chance or environment.
    Values that can't be pickled, such as a lock, are left out.
    """
    found = dict[Variable, Any]()
    for key, value in _variables(module).items():
        is_changed = made is not None and (
            key not in made or made[key][0] is not value or made[key][1] != _content(value)
        )
        if is_changed or isinstance(value, _FIXED):
            with suppress(Exception):  # whatever pickling comes upon
                cloudpickle.dumps(value)
                found[key] = value
    return found


def _variables(module: ModuleType) -> dict[Variable, Any]:
    """Return the variables of a module, and the attributes of the classes that it defines."""
    spaces = {"": module} | {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and value.__qualname__ == name
        and not issubclass(value, Enum)
    }
    return {
        (space, name): value
        for space, one in spaces.items()
        for name, value in vars(one).items()
        if not name.startswith("__")
    }


def _content(value: object) -> bytes:
    """Return a digest of a mutable value, which shows whether it has changed."""
    if isinstance(value, _CHANGEABLE) or owner(type(value)) == "user":
        with suppress(Exception):  # whatever pickling comes upon
            return hashlib.sha256(cloudpickle.dumps(value)).digest()
    return b""


def _restore(state: Mapping[str, Mapping[Variable, Any]]) -> None:
    for name, variables in state.items():
        try:
            module = import_module(name)
        except Exception:  # noqa: BLE001 - shows where a function needs the module
            continue
        for (space, variable), value in variables.items():
            setattr(getattr(module, space) if space else module, variable, value)
