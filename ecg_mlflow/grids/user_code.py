"""The user's own Python files: a grid file, and the modules and packages that it has beside it.

They are read once. From then on this process and those that train import them as they were read,
on whatever machine, whenever a function comes to it.
"""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source, resolve_name, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from ecg_mlflow.errors import ModelError
from ecg_mlflow.grids.source_code import is_library

#: Before the name of a grid file's module.
GRID_PREFIX = "ecg_mlflow_grid_"
#: Runs a module: it is given the module, and what executes its code.
Run: TypeAlias = Callable[[ModuleType, Callable[[], None]], None]
#: What is never looked for beside a grid file: it would take the place of what others mean.
TAKEN = sys.stdlib_module_names | {__name__.partition(".")[0]}


def file_name(module: str) -> str:
    """Return the name of the file that a module is read from, if it is no package."""
    return f"{module.removeprefix(GRID_PREFIX).replace('.', '/')}.py"


@dataclass(frozen=True)
class UserCode:
    """Python files of the user's as they were when they were read.

    Attributes
    ----------
    folder
        Where they stand.
    files
        Their content by their paths in the folder, with slashes.
    state
        What the grid file, when it was run, has made of the modules: see `code_transfer`.
    """

    folder: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    state: bytes = b""

    @classmethod
    def read(cls, folder: Path, names: Iterable[str]) -> UserCode:
        """Read files, and all that they import from beside them, anywhere in them."""
        found: dict[str, bytes] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found[name] = (folder / name).read_bytes()
            for module in imported_modules(name, found[name]):
                parts = module.split(".")
                for i in range(len(parts)):  # the packages around it are imported too
                    places = places_of(".".join(parts[: i + 1]))
                    waiting += [place for place in places if (folder / place).is_file()]
        return cls(str(folder), dict(sorted(found.items())))

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of all modules and packages that the files are."""
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

    def spec(self, module: str, name: str, run: Run | None = None) -> ModuleSpec | None:
        """Describe to Python's import how to load one of the modules; None where it is none.

        Parameters
        ----------
        module
            Its name among the files.
        name
            Its name in this process.
        run
            Runs the new module's code; see `Run`.
        """
        base = module.replace(".", "/")
        for file in places_of(module):
            if file in self.files:
                loader = self.loader(name, file, run)
                inside = [self.path(base)] if file.endswith("/__init__.py") else None
                return spec_from_file_location(
                    name, loader.path, loader=loader, submodule_search_locations=inside
                )
        if module not in self.names:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [self.path(base)]
        return spec

    def loader(self, name: str, file: str, run: Run | None = None) -> SourceFileLoader:
        """Return what loads one of the files; see `spec`."""
        return _Loader(name, self.path(file), self.files[file], run)

    def keep_lines(self) -> None:
        """Let tracebacks and identities see the files as they were read."""
        for name, content in self.files.items():
            try:
                text = decode_source(content)
            except (SyntaxError, UnicodeDecodeError):
                continue
            lines = [f"{line}\n" for line in text.splitlines()]
            # An entry without a time is never compared with the file.
            linecache.cache[self.path(name)] = (len(text), None, lines, self.path(name))

    def modules(self) -> dict[str, ModuleType]:
        """Return the modules that this process has of them, by name."""
        paths = set(map(self.path, self.files))
        found = {name: one for name, one in [*sys.modules.items()] if _file_of(one) in paths}
        found.pop("__main__", None)
        return found

    def with_loaded(self) -> UserCode:
        """Add what this process has loaded from the folder by other ways than reading tells."""
        more = {}
        for name, module in [*sys.modules.items()]:
            file = _file_of(module)
            if file is not None and file.startswith(self.folder):
                for place in places_of(name):
                    if place not in self.files and file == self.path(place):
                        more[place] = Path(file).read_bytes()
        return replace(self, files={**self.files, **more})

    def write(self, folder: Path) -> Path:
        """Write the files into a folder, and return it."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder


def places_of(module: str) -> tuple[str, str]:
    """Return where a module's code can stand; what Python looks for first comes first."""
    base = module.replace(".", "/")
    return f"{base}/__init__.py", f"{base}.py"


class _Loader(SourceFileLoader):
    """Loads a module from its content, and neither reads nor writes bytecode."""

    #: For `ecg_mlflow.grids.source_code.owner`, wherever the file stands.
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


class _Beside:
    """Finds the modules beside the grid file of the study that this process works for."""

    def __init__(self) -> None:
        self.code = UserCode()
        self.run: Run | None = None

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return how to load a module, for Python's import."""
        return self.code.spec(name, name, self.run) if is_imported(name) else None


_beside = _Beside()


def use(code: UserCode, *, anew: bool = False, run: Run | None = None) -> bool:
    """Let this process import the modules among a study's files, whenever it comes to that.

    Parameters
    ----------
    code
        The study's files; those of the one before can be imported no more.
    anew
        Run modules again that this process has already.
    run
        Runs modules; see `Run`.

    Returns
    -------
    Whether the modules are run anew: the files are others than before.
    """
    if _beside not in sys.meta_path:
        sys.meta_path.insert(0, _beside)
    before, _beside.code, _beside.run = _beside.code, code, run
    code.keep_lines()
    if before.folder == code.folder and before.files.items() <= code.files.items() and not anew:
        return False
    for name, module in [*sys.modules.items()]:
        is_theirs = name in before.names or name in code.names
        if is_theirs and is_imported(name) and not is_library(_file_of(module) or ""):
            del sys.modules[name]
    return True


def is_imported(module: str) -> bool:
    """Say whether a module of this name is imported from beside a grid file, if it is there."""
    return module.partition(".")[0] not in TAKEN and not module.startswith(GRID_PREFIX)


def _file_of(module: object) -> str | None:
    """Return a module's file; without a look at its attributes, which would load some modules."""
    file = getattr(module, "__dict__", {}).get("__file__")
    return file if isinstance(file, str) else None


def needed_code(functions: Sequence[tuple[str, str]], folder: Path | None) -> UserCode:
    """Read the files in which functions stand, and those that these import.

    Parameters
    ----------
    functions
        Pairs of module and qualified name.
    folder
        Where the user's files are.

    Raises
    ------
    ModelError
        If a function's file is not among them.
    """
    if not functions:
        return UserCode()
    modules = {module.removeprefix(GRID_PREFIX) for module, _ in functions}
    found = {
        module: name
        for module in modules
        for name in reversed(places_of(module))
        if folder is not None and (folder / name).is_file()
    }
    if missing := sorted(file_name(module) for module in modules - set(found)):
        names = [] if folder is None else sorted(one.name for one in folder.glob("*.py"))
        raise ModelError(
            f"the pipeline's functions stand in {missing}, which a model must have with it; given "
            f"are {names}. Write them in the grid file, or in a file or a package beside it"
        )
    assert folder is not None
    return UserCode.read(folder, found.values())


def imported_modules(name: str, content: bytes) -> set[str]:
    """List the modules that a Python file may import, anywhere in it.

    Parameters
    ----------
    name
        Its path among the files, such as ``nets/blocks.py``.
    content
        Of the file; nothing is imported by one with a syntax error.
    """
    package = name.rpartition("/")[0].replace("/", ".")
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            try:
                start = "." * node.level + (node.module or "")
                base = resolve_name(start, package) if node.level else start
            except ImportError:  # from beyond the top
                continue
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {module for module in found if module.partition(".")[0] not in TAKEN}
