"""What the file of ``--backend-config`` may say, read and checked before a run is made."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ecg_mlflow.cli_values import amount, count, minutes, whole
from ecg_mlflow.errors import BackendError

#: The key that is no option of ``ecg-mlflow run``: what prepares the project's environment.
ENV_MANAGER = "env_manager"
ENV_MANAGERS = ("local", "virtualenv", "uv", "conda")
LOCAL = "local"


def _executor(given: str) -> str:
    if given not in ("processes", "ray"):
        raise ValueError
    return given


def _env_manager(given: str) -> str:
    if given not in ENV_MANAGERS:
        raise ValueError
    return given


_executor.__name__ = "processes or ray"
_env_manager.__name__ = ", ".join(ENV_MANAGERS)
_TEXT: Callable[[str], object] = str

#: Options of ``ecg-mlflow run`` that say where and how a study runs, and what reads their values.
OPTIONS: Mapping[str, Callable[[str], object]] = {
    "executor": _executor,
    "workers": count,
    "threads": whole,
    "gpus": _TEXT,
    "branches": whole,
    "gpus_per_worker": amount,
    "ray_address": _TEXT,
    "hang_minutes": minutes,
    "checkpoint_minutes": minutes,
}


@dataclass(frozen=True)
class BackendConfig:
    """How a project is run.

    Attributes
    ----------
    options
        Options of ``ecg-mlflow run`` by name, their values as on a command line.
    env_manager
        What prepares the project's environment; None where that was not said.
    """

    options: Mapping[str, str]
    env_manager: str | None = None

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> BackendConfig:
        """Read and check what the file says.

        Parameters
        ----------
        config
            Values by key: texts and numbers, a list of GPUs too; null is the same as no entry.

        Raises
        ------
        BackendError
            A key that is not known, or a value that can't be read.
        """
        texts = {key: _text(key, value) for key, value in config.items() if value is not None}
        options = {key: text for key, text in texts.items() if key != ENV_MANAGER}
        return cls(options, texts.get(ENV_MANAGER))

    def params(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the parameters of the project run: what was given with ``-P`` wins."""
        given = dict(given or {})
        names = {name.replace("-", "_") for name in given}
        return {**given, **{name: v for name, v in self.options.items() if name not in names}}


def _text(key: str, value: object) -> str:
    """Return a value as text for the command line.

    Raises
    ------
    BackendError
        If there is no such key, or the value can't be read.
    """
    readers = {**OPTIONS, ENV_MANAGER: _env_manager}
    if key not in readers:
        near = difflib.get_close_matches(key.lower().replace("-", "_"), readers, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise BackendError(
            f"the backend's configuration has {key!r}, which is none of its keys: "
            f"{', '.join(readers)}.{hint} What a study computes is said with -P or in the grid file"
        )
    if key == "gpus" and isinstance(value, list):
        value = ",".join(map(str, value))
    text = str(value).strip()
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not text:
            raise ValueError
        readers[key](text)
    except ValueError:
        wanted = "a text" if readers[key] is _TEXT else readers[key].__name__
        raise BackendError(
            f"the backend's configuration has {key}={value!r}; it takes {wanted}"
        ) from None
    return text
