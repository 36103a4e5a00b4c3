"""Hold one value of an option and its alias, its name in tables, params and charts."""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass, field

import numpy as np

from ecg_mlflow.errors import CanonicalError, GridError
from ecg_mlflow.grids.base import Range
from ecg_mlflow.grids.canonical import counts_as, digest
from ecg_mlflow.grids.placeholder import parts, references

_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")


@counts_as("KV", version=1)
@dataclass(frozen=True, init=False, eq=False)
class KV:
    """A value with an alias; two are equal if both value and alias are equal.

    Parameters
    ----------
    value : object
        Anything with a canonical form (:func:`ecg_mlflow.grids.canonical.canonical`). Lists,
        tuples, dicts and arrays are copied, so a grid keeps its values when they are changed later.
    alias : str, optional
        By default the value's ``__name__`` if it has one, else ``str(value)``.

    Attributes
    ----------
    digest : str
        Identity of the value, independent of its alias.

    Raises
    ------
    GridError
        If the value has no canonical form or holds a placeholder ``C`` or a range, if the alias is
        not a non-empty string, or if the default alias would contain a memory address.
    """

    value: object
    alias: str
    digest: str = field(repr=False)

    def __init__(self, value: object, alias: str | None = None) -> None:
        if isinstance(value, KV):
            raise GridError(f"{value!r} has an alias already: write KV(value, alias) once")
        if names := references(value):
            raise GridError(
                f"{reprlib.repr(value)} holds C({min(names)!r}), and an option's value can't be "
                "another option: pair them with Option.product(a, b)"
            )
        if (within := _range_in(value)) is not None:
            raise GridError(
                f"{within!r} is a range, which can't be a value or part of one: an option takes it "
                f"in place of the list of its values, as in Option('lr', {within!r})"
            )
        try:
            identity = digest(value)
        except CanonicalError as error:
            raise GridError(f"a configuration can't have this value: {error}") from error
        object.__setattr__(self, "value", snapshot(value))
        object.__setattr__(self, "alias", _default_alias(value) if alias is None else alias)
        object.__setattr__(self, "digest", identity)
        if not isinstance(self.alias, str) or not self.alias:
            raise GridError(
                f"the alias of {reprlib.repr(value)} is {self.alias!r}, and it must be a non-empty "
                "string: write KV(value, 'alias')"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KV):
            return NotImplemented
        return (self.digest, self.alias) == (other.digest, other.alias)

    def __hash__(self) -> int:
        return hash((self.digest, self.alias))


def snapshot(value: object) -> object:
    """Copy the plain containers in a value.

    Parameters
    ----------
    value : object
        Nested lists, tuples, dicts and arrays are copied; everything else is returned as it is.

    Returns
    -------
    object
    """
    if type(value) is list:
        return [snapshot(item) for item in value]
    if type(value) is tuple:
        return tuple(snapshot(item) for item in value)
    if type(value) is dict:
        return {key: snapshot(item) for key, item in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else value


def _range_in(value: object) -> Range | None:
    if isinstance(value, Range):
        return value
    return next((found for part in parts(value) if (found := _range_in(part)) is not None), None)


def _default_alias(value: object) -> str:
    name = getattr(value, "__name__", None)
    alias = name if isinstance(name, str) else str(value)
    if not isinstance(value, str) and _ADDRESS.search(alias):
        raise GridError(
            f"the alias of this value would be {alias!r}, which holds a memory address and differs "
            "in every process: write KV(value, 'alias')"
        )
    return alias
