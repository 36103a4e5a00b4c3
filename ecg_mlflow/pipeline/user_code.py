"""The user's own functions of a model's pipeline, run from the files that the model keeps.

A grid file is known under another name than its file's, and two models may hold two versions of
one file. So each model runs its own copies, under names that nothing else finds.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import ModuleType

from ecg_mlflow.errors import ModelError
from ecg_mlflow.pipeline.actions import SignalStep

#: Before the name of a grid file's module.
GRID_PREFIX = "ecg_mlflow_grid_"


def file_name(module: str) -> str:
    """Return the name of the file that a module is read from."""
    return f"{module.removeprefix(GRID_PREFIX)}.py"


class StepFiles:
    """Finds functions in the Python files of a folder.

    Parameters
    ----------
    folder
        Where the files are; None where a model has none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._modules: dict[str, ModuleType] = {}

    def find(self, module: str, qualname: str) -> SignalStep:
        """Return a function, after its file was run once.

        Raises
        ------
        ModelError
            If there is no such file or function, or the file fails.
        """
        file = file_name(module)
        if file not in self._modules:
            self._modules[file] = self._run(file)
        try:
            found: SignalStep = attrgetter(qualname)(self._modules[file])
        except AttributeError as error:
            raise ModelError(f"the model's file {file} has no function {qualname}") from error
        return found

    def _run(self, file: str) -> ModuleType:
        if self._folder is None or not (path := self._folder / file).is_file():
            raise ModelError(f"the model's pipeline needs {file}, which it doesn't have with it")
        # The folder is in the name: another model's file of that name is another module.
        place = hashlib.sha256(str(path).encode()).hexdigest()[:12]
        name = f"{GRID_PREFIX}{path.stem}_{place}"
        spec = spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            with _importable(self._folder):
                spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise ModelError(
                f"the model's file {file} can't be run here: {type(error).__name__}: {error}"
            ) from error
        return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let files of a folder import each other, whatever goes by their names elsewhere."""
    names = [path.stem for path in folder.glob("*.py")]
    others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(folder))
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(others)


def needed_files(functions: Sequence[tuple[str, str]], files: Sequence[Path]) -> list[Path]:
    """Choose the files in which functions stand, and those that these import.

    Parameters
    ----------
    functions
        Pairs of module and qualified name.
    files
        To choose from.

    Raises
    ------
    ModelError
        If a function's file is not among them, or two have one name.
    """
    by_name = {file.name: file for file in files}
    waiting = [file_name(module) for module, _ in functions]
    if missing := sorted(set(waiting) - set(by_name)):
        raise ModelError(
            f"the pipeline's functions stand in {missing}, which a model must have with it; given "
            f"are {sorted(by_name)}. Write them in the grid file, or in a file beside it"
        )
    if len(by_name) < len({file.resolve() for file in files}):
        raise ModelError(f"two of the files have one name: {sorted(map(str, files))}")
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in found:
            found[name] = by_name[name]
            waiting += [f"{module}.py" for module in imported_modules(by_name[name])]
    return [found[name] for name in sorted(found)]


def imported_modules(file: Path) -> set[str]:
    """List the top-level modules that a Python file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
