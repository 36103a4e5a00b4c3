"""Consent to run code that comes from a store: a study's files, or those of a model.

Whoever can write to a tracking store could otherwise run code on the machine of whoever reads it.
What this machine has run before, known by the hash of its files, needs no further consent.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import platformdirs

from ecg_mlflow.errors import UntrustedCodeError
from ecg_mlflow.files import chosen_folder, write_whole
from ecg_mlflow.terminal import say

#: Moves the folder that lists what this machine has run.
TRUST_VARIABLE = "ECG_MLFLOW_TRUSTED_CODE"
#: Files that a question names.
LISTED = 20
#: What was run by this process, should the folder not be writable.
_here: set[Path] = set()


def trusted_root() -> Path:
    """Return the folder with a file for each code that was run: the user's own, never a shared one.

    It is not in the cache, which several people may share and write to.
    """
    state = partial(platformdirs.user_state_path, "ecg_mlflow", appauthor=False)
    return chosen_folder(TRUST_VARIABLE, lambda: state() / "trusted_code")


def file_hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file's content, by its name, in hexadecimal digits."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def code_hash(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of files' names and contents, in hexadecimal digits."""
    lines = [f"{name!r} {one}\n" for name, one in sorted(file_hashes(files).items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def is_trusted(files: Mapping[str, bytes]) -> bool:
    """Return whether this machine has run exactly these files before, or has none to run."""
    path = trusted_root() / code_hash(files)
    return not files or path in _here or path.is_file()


def trust(files: Mapping[str, bytes]) -> None:
    """Remember that these files were run by their own user, or with consent.

    Where that can't be written down, the next process asks for consent again.
    """
    if is_trusted(files):
        return
    path = trusted_root() / code_hash(files)
    _here.add(path)
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, b"")


@dataclass(frozen=True)
class Consent:
    """How a command gets consent to run code that comes from a store.

    Attributes
    ----------
    given
        The user has given it beforehand: ``--trust-code``, ``trust_code=True``.
    what
        What would run, such as ``the code of study 1a2b``.
    look
        How to look at it without running it.
    """

    given: bool = False
    what: str = "code from the store"
    look: str = "in the MLflow UI"

    def of(self, what: str, look: str) -> Consent:
        """Return the same for other code."""
        return replace(self, what=what, look=look)

    def require(self, files: Mapping[str, bytes]) -> None:
        """Return if these files may be run, and remember it.

        Raises
        ------
        UntrustedCodeError
            If this machine hasn't run them before, and the user doesn't consent.
        """
        if is_trusted(files):
            return
        found = (
            f"{self.what} would run here, and this machine has not run it before: {_listed(files)}"
        )
        if not self.given and not (_has_terminal() and _agrees(found, files)):
            raise UntrustedCodeError(
                f"{found}. Whoever can write to the store can have changed it. Look at it "
                f"({self.look}); then say --trust-code, in Python trust_code=True"
            )
        trust(files)


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _agrees(found: str, files: Mapping[str, bytes]) -> bool:
    """Ask at the terminal; show the files to those who want to see them."""
    say(found, file=sys.stderr)
    while True:
        say("Run it? [y]es, [n]o, [s]how it: ", end="", file=sys.stderr)
        answer = sys.stdin.readline().strip().lower()
        if answer not in ("s", "show"):
            return answer in ("y", "yes")
        for name, content in files.items():
            text = content.decode("utf-8", "backslashreplace")
            say(f"--- {name}\n{text}", file=sys.stderr)


def _listed(files: Mapping[str, bytes]) -> str:
    shown = [f"{name!r} ({len(files[name])} bytes)" for name in list(files)[:LISTED]]
    return ", ".join(shown) + (f" and {len(files) - LISTED} more" if len(files) > LISTED else "")
