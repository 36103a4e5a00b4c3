"""Import the user's Python files: a grid file, and the modules and packages beside it.

The files are read once. From then on this process, the workers and a model import them as they were
read, on any machine, whenever a function needs them.
"""

from __future__ import annotations

import builtins
import hashlib
import linecache
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

from ecg_mlflow.errors import ModelError
from ecg_mlflow.grids.source_code import TAKEN, imported_modules, is_library

#: Prefix of the name of a grid file's module.
GRID_PREFIX = "ecg_mlflow_grid_"
_SEPARATORS = frozenset("/\\\0")
#: Runs a module: it is given the module, and the function that executes its code.
Run: TypeAlias = Callable[[ModuleType, Callable[[], None]], None]


@dataclass(frozen=True)
class UserCode:
    """The user's Python files as they were when they were read.

    Attributes
    ----------
    folder
        Where they are.
    files
        Their contents by their paths in the folder, with slashes.
    state
        Pickled changes that the grid file made in the modules: see `code_transfer`.
    """

    folder: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    state: bytes = b""

    @classmethod
    def read(cls, folder: Path, names: Iterable[str]) -> UserCode:
        """Read files, and all that they import from the same folder, anywhere in them."""
        found: dict[str, bytes] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found[name] = (folder / name).read_bytes()
            for module in imported_modules(name, found[name]):
                parts = module.split(".")
                for i in range(len(parts)):  # the packages around it are imported, too
                    places = _places_of(".".join(parts[: i + 1]))
                    waiting += [place for place in places if (folder / place).is_file()]
        return cls(str(folder), dict(sorted(found.items())))

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of all modules and packages among the files."""
        found = set()
        for file in self.files:
            name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            while name:
                found.add(name)
                name = name.rpartition(".")[0]
        return frozenset(found)

    def path(self, name: str) -> str:
        """Return the whole path of a file."""
        return str(Path(self.folder, name))

    def file_of(self, module: str) -> str | None:
        """Return the file of a module; None if it is not among the files."""
        return next((place for place in _places_of(module) if place in self.files), None)

    def loader(self, name: str, file: str, run: Run | None = None) -> SourceFileLoader:
        """Return a loader of one of the files; see `spec`."""
        return _Loader(name, self.path(file), self.files[file], run)

    def spec(self, module: str, name: str, run: Run | None = None) -> ModuleSpec | None:
        """Describe to Python's import how to load a module; None if it is not among the files.

        Parameters
        ----------
        module
            Its name among the files.
        name
            Its name in this process.
        run
            Runs the new module's code; see `Run`.
        """
        file = self.file_of(module)
        folder = [self.path(module.replace(".", "/"))]
        if file is not None:
            loader = self.loader(name, file, run)
            inside = folder if file.endswith("/__init__.py") else None
            return spec_from_file_location(
                name, loader.path, loader=loader, submodule_search_locations=inside
            )
        if module not in self.names:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = folder
        return spec

    def keep_lines(self) -> None:
        """Show tracebacks and identities the files as they were read."""
        for name, content in self.files.items():
            with suppress(SyntaxError, UnicodeDecodeError):
                lines = [f"{line}\n" for line in decode_source(content).splitlines()]
                # An entry without a time is never compared with the file.
                linecache.cache[self.path(name)] = (len(content), None, lines, self.path(name))

    def modules(self) -> dict[str, ModuleType]:
        """Return the modules among the files that this process has imported, by name."""
        paths = set(map(self.path, self.files))
        return {
            name: module
            for name, module, file in _loaded_modules()
            if file in paths and name != "__main__"
        }

    def with_loaded(self) -> UserCode:
        """Add the files in the folder that this process has loaded by computed names."""
        more = {
            place: Path(file).read_bytes()
            for name, _, file in _loaded_modules()
            for place in _places_of(name)
            if file == self.path(place) and place not in self.files
        }
        return replace(self, files={**self.files, **more})

    def write(self, folder: Path) -> Path:
        """Write the files into a folder, and return it."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder


def _places_of(module: str) -> tuple[str, str]:
    """Return the files that a module may be in, in the order in which Python looks for them.

    Raises
    ------
    ModelError
        If this is no module's name, but leads to another folder, for example.
    """
    if not all(part and not _SEPARATORS & set(part) for part in module.split(".")):
        raise ModelError(f"{module!r} is no name of a Python module")
    base = module.replace(".", "/")
    return f"{base}/__init__.py", f"{base}.py"


def _loaded_modules() -> Iterator[tuple[str, ModuleType, str]]:
    """Yield name, module and file; without attribute access, which loads some modules."""
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__dict__", {}).get("__file__")
        yield name, module, file if isinstance(file, str) else ""


class _Loader(SourceFileLoader):
    """Loads a module from its content, and neither reads nor writes bytecode."""

    #: For `source_code.owner`, wherever the file is.
    is_users = True

    def __init__(self, name: str, path: str, content: bytes, run: Run | None) -> None:
        super().__init__(name, path)
        self._content = content
        self._run = run

    def get_data(self, path: str) -> bytes:
        return self._content if path == self.path else super().get_data(path)

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError(f"{path} is not looked at")

    def exec_module(self, module: ModuleType) -> None:
        execute = partial(super().exec_module, module)
        if self._run is None:
            execute()
        else:
            self._run(module, execute)


# --- The study that this process works for --------------------------------------------------------


@dataclass
class _Finder:
    """Finds modules among the user's files, for Python's import.

    Attributes
    ----------
    code
        The files.
    prefix
        Added to the modules' names in this process.
    run
        Runs modules; see `Run`.
    """

    code: UserCode
    prefix: str = ""
    run: Run | None = None

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return how to load a module."""
        if not name.startswith(self.prefix) or not (self.prefix or is_imported(name)):
            return None
        return self.code.spec(name.removeprefix(self.prefix), name, self.run)


_finder = _Finder(UserCode())


def use(code: UserCode, *, anew: bool = False, run: Run | None = None) -> bool:
    """Let this process import the modules among a study's files.

    Parameters
    ----------
    code
        The study's files; those of an earlier study can't be imported any more.
    anew
        Run modules again that this process has already imported.
    run
        Runs modules; see `Run`.

    Returns
    -------
    Whether the modules are run anew, since the files have changed.
    """
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    before, _finder.code, _finder.run = _finder.code, code, run
    code.keep_lines()
    if before.folder == code.folder and before.files.items() <= code.files.items() and not anew:
        return False
    for name, _, file in _loaded_modules():
        is_theirs = name in before.names or name in code.names
        if is_theirs and is_imported(name) and not is_library(file):
            del sys.modules[name]
    return True


def is_imported(module: str) -> bool:
    """Return whether a module of this name may be imported from beside a grid file."""
    return module.partition(".")[0] not in TAKEN and not module.startswith(GRID_PREFIX)


# --- The functions of a model's pipeline ----------------------------------------------------------


def needed_code(functions: Sequence[tuple[str, str]], folder: Path | None) -> UserCode:
    """Read the files that define functions, and the files that these import.

    Parameters
    ----------
    functions
        Pairs of module and qualified name.
    folder
        The folder of the user's files.

    Raises
    ------
    ModelError
        If a function's file is missing there.
    """
    places: dict[str, str | None] = {}
    for module in {module.removeprefix(GRID_PREFIX) for module, _ in functions}:
        there = (place for place in _places_of(module) if folder and (folder / place).is_file())
        places[_places_of(module)[1]] = next(there, None)
    if missing := sorted(name for name, place in places.items() if place is None):
        names = sorted(one.name for one in folder.glob("*.py")) if folder else []
        raise ModelError(
            f"the pipeline's functions are in {missing}, which a model must keep; given are "
            f"{names}. Write them in the grid file, or in a file or a package beside it"
        )
    return UserCode.read(folder, filter(None, places.values())) if folder and places else UserCode()


def step_finder(
    folder: Path | None, consent: Callable[[Mapping[str, bytes]], None]
) -> Callable[[str, str], Callable[..., Any]]:
    """Return a function that finds a pipeline's functions in the files that a model keeps.

    Two models may have two versions of one file. Therefore each model runs its own copies, under
    names that no other code imports.

    Parameters
    ----------
    folder
        The folder of the files; None if the model has none.
    consent
        Is given the files before one of them is run, and raises if they may not be; see
        `ecg_mlflow.tracking.trusted_code`.

    Returns
    -------
    A function of module and qualified name. It runs a file once, and raises ModelError if there is
    no such file, if the file fails, or if it defines no such function.
    """
    paths = sorted(folder.rglob("*.py")) if folder else []
    files = {path.relative_to(folder or "").as_posix(): path.read_bytes() for path in paths}
    code = UserCode(str(folder), files)
    package = f"{GRID_PREFIX}{hashlib.sha256(repr(code).encode()).hexdigest()[:12]}"
    if package not in sys.modules:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = []
        run = partial(_run_apart, code, package)
        sys.meta_path.insert(0, _Finder(code, f"{package}.", run))
        code.keep_lines()
    return partial(_find_step, code, package, consent)


def _find_step(
    code: UserCode,
    package: str,
    consent: Callable[[Mapping[str, bytes]], None],
    module: str,
    qualname: str,
) -> Callable[..., Any]:
    module = module.removeprefix(GRID_PREFIX)
    file = code.file_of(module)
    if file is None:
        missing = _places_of(module)[1]
        raise ModelError(f"the model's pipeline needs {missing}, which the model doesn't have")
    consent(code.files)
    try:
        imported = import_module(f"{package}.{module}")
    except Exception as error:
        raise ModelError(
            f"the model's file {file} can't be run here: {type(error).__name__}: {error}"
        ) from error
    with suppress(AttributeError):
        found: Callable[..., Any] = attrgetter(qualname)(imported)
        # What the file merely imports, such as os.system, is none of the pipeline's functions.
        function = getattr(found, "py_func", found)
        if isinstance(function, FunctionType) and function.__module__ == imported.__name__:
            return found
    raise ModelError(f"the model's file {file} defines no function {qualname}")


def _run_apart(
    code: UserCode, package: str, module: ModuleType, execute: Callable[[], None]
) -> None:
    """Run a module of a model, whose modules import each other by their own names."""

    def import_(
        name: str,
        variables: Mapping[str, object] | None = None,
        local: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or top in TAKEN or top not in code.names:
            return builtins.__import__(name, variables, local, fromlist or (), level)
        found = builtins.__import__(f"{package}.{name}", variables, local, fromlist or (), 0)
        return found if fromlist else sys.modules[f"{package}.{top}"]

    vars(module)["__builtins__"] = {**vars(builtins), "__import__": import_}
    execute()
