"""Finding and loading a grid file: a Python file that defines ``research = Research(...)``."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from ecg_mlflow.errors import DataNotFoundError, EcgMlflowError, ResearchError
from ecg_mlflow.grids.code_transfer import settled, watched
from ecg_mlflow.grids.user_code import GRID_PREFIX, UserCode, use
from ecg_mlflow.study.research import Research

_PACKAGE = Path(__file__).parents[1]
#: The shipped grids: in a checkout beside the package, in an installation inside it.
EXAMPLES = (_PACKAGE.parent / "examples", _PACKAGE / "examples")


def find_grid_file(name: str, folders: Sequence[Path]) -> Path:
    """Find a grid file by path, or by the name of a shipped one.

    Parameters
    ----------
    name
        ``resnet.py``, ``resnet``, or a path.
    folders
        Where a relative path may start.

    Raises
    ------
    DataNotFoundError
        If there is none; the message lists where it was looked for and what there is.
    """
    given = str(Path(name).expanduser())
    names = [given] if given.endswith(".py") else [given, f"{given}.py"]
    places = [folder / one for folder in (*folders, *EXAMPLES) for one in names]
    for place in places:
        if place.is_file():
            return place.resolve()
    files = {path for folder in EXAMPLES for path in folder.glob("*.py")}
    # One of the examples is a script that does without a grid.
    shipped = sorted({path.name for path in files if "research = " in path.read_text()})
    raise DataNotFoundError(
        f"no grid file {name!r}; looked for "
        + ", ".join(dict.fromkeys(str(place) for place in places))
        + f". Give a path, or one of the examples: {', '.join(shipped)}"
    )


@dataclass(frozen=True)
class GridFile:
    """A grid file that has been run.

    Attributes
    ----------
    path
        Where it is.
    research
        What it declares, named after the file if it has no name.
    module
        The file as a module.
    code
        The file, and the modules and packages that it imports from beside itself, anywhere in
        them: no other process can import them.
    """

    path: Path
    research: Research
    module: ModuleType
    code: UserCode


def load_grid_file(path: Path) -> GridFile:
    """Run a grid file; it is code, and runs with the user's rights, in this process only.

    Raises
    ------
    ResearchError
        If the file fails, with the line at fault, or defines no `research`.
    """
    code = UserCode.read(path.parent, [path.name])
    use(code, anew=True, run=watched)
    name = f"{GRID_PREFIX}{path.stem}"
    module = ModuleType(name)
    module.__file__ = str(path)
    module.__loader__ = code.loader(name, path.name)
    # By name, so that sources can be found, and functions sent to workers.
    sys.modules[name] = module
    # For what is not found by reading: modules in C, and those imported by a computed name.
    sys.path.insert(0, str(path.parent))
    try:
        # Not by an import: that would leave a __pycache__ beside the file.
        exec(compile(code.files[path.name], str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        use(UserCode())
        kind = "" if isinstance(error, EcgMlflowError) else f"{type(error).__name__}: "
        raise ResearchError(f"{_where(path, error)}: {kind}{error}") from error
    finally:
        with suppress(ValueError):  # the file may have changed the list itself
            sys.path.remove(str(path.parent))
    research = getattr(module, "research", None)
    if not isinstance(research, Research):
        raise ResearchError(
            f"{path} must define research = Research(...); it has "
            + ("none" if research is None else f"research = {research!r}")
        )
    research = research if research.name else replace(research, name=path.stem)
    code = settled(code)
    use(code)
    return GridFile(path, research, module, code)


def _where(path: Path, error: BaseException) -> str:
    """Return ``file:line`` of the last place in the grid file that the error passed."""
    if isinstance(error, SyntaxError) and error.filename == str(path) and error.lineno:
        return f"{path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)
