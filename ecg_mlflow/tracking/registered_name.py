"""The names that MLflow gives versions of registered models."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>.+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class RegisteredName:
    """``models:/<name>@<alias>``, or ``models:/<name>/<version>``.

    Attributes
    ----------
    name
        Of the registered model.
    alias, version
        One of them; the other one is None.
    """

    name: str
    alias: str | None
    version: int | None

    @classmethod
    def from_uri(cls, uri: str) -> RegisteredName | None:
        """Read a URI; None if it is of another form, such as a folder or ``models:/<id>``."""
        found = _FORM.fullmatch(uri)
        if found is None:
            return None
        version = found["version"]
        return cls(found["name"], found["alias"], None if version is None else int(version))
