"""What the file of ``--backend-config`` may say, read and checked before a run is made."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from ecg_mlflow.cli.run import MACHINES
from ecg_mlflow.errors import BackendError

#: The key that is no option of ``ecg-mlflow run``: what prepares the project's environment.
ENV_MANAGER = "env_manager"
LOCAL = "local"
#: What reads the value of each key.
_TYPES: Mapping[str, click.ParamType[Any]] = {
    **{str(option.name): option.type for option in MACHINES},
    ENV_MANAGER: click.Choice([LOCAL, "virtualenv", "uv", "conda"]),
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
    if key not in _TYPES:
        near = difflib.get_close_matches(key.lower().replace("-", "_"), _TYPES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise BackendError(
            f"the backend's configuration has {key!r}, which is none of its keys: "
            f"{', '.join(_TYPES)}.{hint} What a study computes is said with -P or in the grid file"
        )
    if key == "gpus" and isinstance(value, list):
        value = ",".join(map(str, value))
    text = str(value).strip()
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not text:
            raise click.BadParameter("it takes a text or a number")
        _TYPES[key].convert(text, None, None)
    except click.BadParameter as error:
        message = f"the backend's configuration has {key}={value!r}: {error.message}"
        raise BackendError(message) from None
    return text
