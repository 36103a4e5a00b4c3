"""How the command line reads its values, the same for ``mlflow run -P`` and for a shell."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from pathlib import Path


def spellings(name: str) -> tuple[str, str]:
    """Return an option's name and the one that ``mlflow run -P a_name=...`` makes of it."""
    return name, "--" + name.removeprefix("--").replace("-", "_")


def flag_option(
    parser: argparse.ArgumentParser, name: str, meaning: str, default: bool | None = False
) -> None:
    """Add an option that is true where it is named, or has the value true or false."""
    parser.add_argument(
        *spellings(name),
        type=flag,
        default=default,
        nargs="?",
        const=True,
        metavar="true|false",
        help=meaning,
    )


def text(given: str) -> str | None:
    """Read a text; ``mlflow run`` hands over an empty one for what was not given."""
    return given.strip() or None


def count(given: str) -> int | None:
    """Read a whole number of at least 0.

    Raises
    ------
    ValueError
        If it is none, as argparse expects of what it reads with.
    """
    if not given.strip():
        return None
    number = int(given)
    if number < 0:
        raise ValueError
    return number


def whole(given: str) -> int | None:
    """Read a whole number of at least 1.

    Raises
    ------
    ValueError
        If it is none.
    """
    number = count(given)
    if number == 0:
        raise ValueError
    return number


def amount(given: str) -> float:
    """Read a number of at least 0.

    Raises
    ------
    ValueError
        If it is none.
    """
    number = float(given)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


def probability(given: str) -> float:
    """Read a number between 0 and 1, both left out.

    Raises
    ------
    ValueError
        If it is none.
    """
    number = float(given)
    if not 0 < number < 1:
        raise ValueError
    return number


def minutes(given: str) -> float:
    """Read a positive number.

    Raises
    ------
    ValueError
        If it is none.
    """
    number = float(given)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def flag(given: str) -> bool:
    """Read true or false.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if given.lower() in ("", "false", "no", "0"):
        return False
    if given.lower() in ("true", "yes", "1"):
        return True
    raise ValueError


# What argparse calls a value that can't be read.
count.__name__ = "whole number of at least 0"
whole.__name__ = "whole number of at least 1"
amount.__name__ = "number of at least 0"
probability.__name__ = "number between 0 and 1"
minutes.__name__ = "positive number of minutes"
flag.__name__ = "true or false"


def callers_folder() -> list[Path]:
    """Return where ``mlflow run`` was typed: paths that a user gives mean that folder.

    MLflow runs an entry point in the project's folder and does not say from where it was called;
    its own working directory does. The shell that it starts may stand in between.
    """
    if "MLFLOW_RUN_ID" not in os.environ:
        return []
    caller = os.getppid()
    with suppress(OSError, ValueError, IndexError):
        while Path(f"/proc/{caller}/comm").read_text().strip() in ("bash", "sh"):
            # "pid (name) state parent ...", and a shell's name has no spaces
            caller = int(Path(f"/proc/{caller}/stat").read_text().split()[3])
        return [Path(f"/proc/{caller}/cwd").resolve(strict=True)]
    return []
