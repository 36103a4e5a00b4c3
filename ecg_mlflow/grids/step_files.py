"""The user's own functions of a model's pipeline, run from the files that the model keeps.

Two models may hold two versions of one file. So each model runs its own copies, under names that
nothing else finds.
"""

from __future__ import annotations

import builtins
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from importlib.machinery import ModuleSpec
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from ecg_mlflow.errors import ModelError
from ecg_mlflow.grids.user_code import GRID_PREFIX, TAKEN, UserCode, file_name, places_of


class StepFiles:
    """Finds functions in the Python files of a folder.

    Parameters
    ----------
    folder
        Where the files are; None where a model has none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @cached_property
    def _code(self) -> UserCode:
        if self._folder is None:
            return UserCode()
        files = {
            file.relative_to(self._folder).as_posix(): file for file in self._folder.rglob("*.py")
        }
        contents = {name: files[name].read_bytes() for name in sorted(files)}
        return UserCode(str(self._folder), contents)

    @cached_property
    def _package(self) -> str:
        """Name under which this process knows the files: nobody else's have it."""
        content = hashlib.sha256(repr(self._code).encode()).hexdigest()[:12]
        name = f"{GRID_PREFIX}{content}"
        if name not in sys.modules:
            package = ModuleType(name)
            package.__path__ = []
            sys.modules[name] = package
            sys.meta_path.insert(0, _Own(self._code, name))
            self._code.keep_lines()
        return name

    def find(self, module: str, qualname: str) -> Callable[..., Any]:
        """Return a function, after its file was run once.

        Raises
        ------
        ModelError
            If there is no such file or function, or the file fails.
        """
        module = module.removeprefix(GRID_PREFIX)
        file = next((one for one in places_of(module) if one in self._code.files), None)
        if file is None:
            raise ModelError(
                f"the model's pipeline needs {file_name(module)}, which it doesn't have with it"
            )
        try:
            home = import_module(f"{self._package}.{module}")
        except Exception as error:
            raise ModelError(
                f"the model's file {file} can't be run here: {type(error).__name__}: {error}"
            ) from error
        try:
            found: Callable[..., Any] = attrgetter(qualname)(home)
        except AttributeError as error:
            raise ModelError(f"the model's file {file} has no function {qualname}") from error
        return found


class _Own:
    """Finds the modules of one model, which import each other as if they had their own names.

    Parameters
    ----------
    code
        The model's files.
    package
        Name of the package as whose modules this process has them.
    """

    def __init__(self, code: UserCode, package: str) -> None:
        self._code = code
        self._package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return how to load a module, for Python's import."""
        outer, _, module = name.partition(".")
        return self._code.spec(module, name, self._run) if outer == self._package else None

    def _run(self, module: ModuleType, execute: Callable[[], None]) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        execute()

    def _import(
        self,
        name: str,
        variables: Mapping[str, object] | None = None,
        local: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Stand for ``__import__`` in the model's modules."""
        top = name.partition(".")[0]
        if level or top in TAKEN or self._code.spec(top, top) is None:
            return builtins.__import__(name, variables, local, fromlist or (), level)
        found = builtins.__import__(f"{self._package}.{name}", variables, local, fromlist or (), 0)
        return found if fromlist else sys.modules[f"{self._package}.{top}"]
