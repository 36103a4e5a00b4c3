"""The values of options: one with its alias, a range of them, and one for every option.

An alias is a value's name in tables, params and charts.
"""

from __future__ import annotations

import re
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, overload

import numpy as np

from ecg_mlflow.errors import CanonicalError, GridError
from ecg_mlflow.grids.canonical import counts_as, digest
from ecg_mlflow.grids.placeholder import C, found_in

_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")


class Range(ABC):
    """The values between two bounds, both included; an option takes it in place of a list.

    Attributes
    ----------
    low, high
        The bounds.
    """

    low: float
    high: float

    @abstractmethod
    def kv(self, x: float) -> KV:
        """Return the value for a number drawn in [low, high]; a number outside gives a bound."""

    @abstractmethod
    def at(self, share: float) -> KV:
        """Return the value at a quantile.

        Parameters
        ----------
        share
            The share of the range's distribution below the value, from 0 to 1. A uniformly drawn
            share therefore gives a value drawn from the range.
        """

    @abstractmethod
    def exactly(self, x: object) -> KV | None:
        """Return a number as a value of this range, unrounded; None if the range lacks it.

        A string that spells a number is accepted too, because a command line gives strings.
        """

    @abstractmethod
    def covers(self, other: Range) -> bool:
        """Return whether this range contains all values of another one."""

    def ends(self) -> tuple[KV, KV]:
        """Return the first and the last value."""
        return self.kv(self.low), self.kv(self.high)


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
        for within in found_in(value, C):
            raise GridError(
                f"{reprlib.repr(value)} holds {within!r}, and an option's value can't be another "
                "option: pair them with Option.product(a, b)"
            )
        for within in found_in(value, Range):
            raise GridError(
                f"{within!r} is a range, which can't be a value or part of one: an option takes it "
                f"in place of the list of its values, as in Option('lr', {within!r})"
            )
        try:
            identity = digest(value)
        except CanonicalError as error:
            raise GridError(f"a configuration can't have this value: {error}") from error
        if alias is None:
            name = getattr(value, "__name__", None)
            alias = name if isinstance(name, str) else str(value)
            if not isinstance(value, str) and _ADDRESS.search(alias):
                raise GridError(
                    f"the alias of this value would be {alias!r}, which holds a memory address and "
                    "differs in every process: write KV(value, 'alias')"
                )
        if not isinstance(alias, str) or not alias:
            raise GridError(
                f"the alias of {reprlib.repr(value)} is {alias!r}, and it must be a non-empty "
                "string: write KV(value, 'alias')"
            )
        vars(self).update(value=_snapshot(value), alias=alias, digest=identity)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KV):
            return NotImplemented
        return (self.digest, self.alias) == (other.digest, other.alias)

    def __hash__(self) -> int:
        return hash((self.digest, self.alias))


class ConfigAlias(Mapping[str, object]):
    """An immutable mapping from option names to values, with the alias of each value.

    Two configurations are equal if their values are equal; aliases and order do not count.

    Parameters
    ----------
    options : Mapping
        Option name to :class:`KV`, or to a plain value, which gets its default alias.

    Raises
    ------
    GridError
        Same as :class:`KV`.
    """

    def __init__(self, options: Mapping[str, object]) -> None:
        self._kvs = {
            name: value if isinstance(value, KV) else KV(value) for name, value in options.items()
        }

    def config(self) -> dict[str, object]:
        """Return the values by option, in the grid's order."""
        return dict(self)

    @overload
    def alias(self, as_string: Literal[False] = False) -> dict[str, str]: ...

    @overload
    def alias(self, as_string: Literal[True]) -> str: ...

    def alias(self, as_string: bool = False) -> dict[str, str] | str:
        """Return the aliases by option.

        Parameters
        ----------
        as_string : bool
            Whether to join them, sorted by option: ``'blocks_[2, 2]-model_ResNet18'``.

        Returns
        -------
        dict or str
        """
        aliases = {name: kv.alias for name, kv in self._kvs.items()}
        if as_string:
            return "-".join(f"{name}_{alias}" for name, alias in sorted(aliases.items()))
        return aliases

    @cached_property
    def digest(self) -> str:
        """Identity of the configuration by its values."""
        return digest({name: kv.digest for name, kv in self._kvs.items()})

    def __getitem__(self, name: str) -> object:
        return _snapshot(self._kvs[name].value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kvs)

    def __len__(self) -> int:
        return len(self._kvs)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, ConfigAlias) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"ConfigAlias({self.alias()})"


def _snapshot(value: object) -> object:
    """Copy the plain containers in a value, at any depth; all else is returned as it is."""
    if type(value) is list:
        return [*map(_snapshot, value)]
    if type(value) is tuple:
        return (*map(_snapshot, value),)
    if type(value) is dict:
        return {key: _snapshot(item) for key, item in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else value
