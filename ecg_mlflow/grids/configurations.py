"""Counting, indexing and iterating over the configurations of a sum of products."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias, overload

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids.config import ConfigAlias
from ecg_mlflow.grids.kv import KV

if TYPE_CHECKING:
    from ecg_mlflow.grids.grid import Option

Cube: TypeAlias = "tuple[Option, ...]"


class Configurations:
    """The sequence of configurations that a sum of cubes stands for; nothing of it is stored."""

    @property
    def cubes(self) -> tuple[Cube, ...]:
        """The products whose sum this is."""
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all options, in order of first appearance."""
        return tuple(dict.fromkeys(option.name for cube in self.cubes for option in cube))

    @property
    def is_finite(self) -> bool:
        """Whether no option is a range, so that the configurations can be counted and listed."""
        return all(option.range is None for cube in self.cubes for option in cube)

    def gen_configs(self) -> Iterator[ConfigAlias]:
        """Yield the configurations in order; every call starts afresh."""
        return iter(self)

    def unique(self) -> tuple[list[ConfigAlias], list[tuple[ConfigAlias, ConfigAlias]]]:
        """Tell the configurations that differ by value from those that repeat an earlier one.

        Returns
        -------
        kept : list of ConfigAlias
            The first of all that are equal, in order.
        twins : list of (ConfigAlias, ConfigAlias)
            Each repeated configuration, after the kept one that it equals.
        """
        first: dict[ConfigAlias, ConfigAlias] = {}
        twins = []
        for config in self:
            kept = first.setdefault(config, config)
            if kept is not config:
                twins.append((kept, config))
        return list(first), twins

    def __len__(self) -> int:
        return sum(map(size, self.cubes))

    def __iter__(self) -> Iterator[ConfigAlias]:
        for cube in self.cubes:
            size(cube)  # refuses a range now, rather than when the first one is asked for
        return self._listed()

    def _listed(self) -> Iterator[ConfigAlias]:
        for cube in self.cubes:
            names = [option.name for option in cube]
            for kvs in itertools.product(*(option.values for option in cube)):
                yield ConfigAlias(dict(zip(names, kvs, strict=True)))

    @overload
    def __getitem__(self, index: int) -> ConfigAlias: ...

    @overload
    def __getitem__(self, index: slice) -> list[ConfigAlias]: ...

    def __getitem__(self, index: int | slice) -> ConfigAlias | list[ConfigAlias]:
        n = len(self)
        if isinstance(index, slice):
            return [self[i] for i in range(n)[index]]
        position = operator.index(index)
        if not -n <= position < n:
            raise IndexError(f"configuration {position} of {n}: indices run from {-n} to {n - 1}")
        position %= n
        for cube in self.cubes:
            if position < size(cube):
                return _config_at(cube, position)
            position -= size(cube)
        raise AssertionError("the cubes hold fewer configurations than their sizes say")


def size(cube: Cube) -> int:
    """Return the number of a cube's configurations.

    Raises
    ------
    GridError
        If one of its options is a range.
    """
    for option in cube:
        if option.range is not None:
            raise GridError(
                f"option {option.name!r} is {option.range!r}, a range, so the grid can't be run as "
                "a whole: choose a sampler (sampler=tpe, sampler=random), or list values"
            )
    return math.prod(len(option.values) for option in cube)


def _config_at(cube: Cube, position: int) -> ConfigAlias:
    """Read a position as a number whose last digit is the index into the last option."""
    chosen: list[tuple[str, KV]] = []
    for option in reversed(cube):
        position, i = divmod(position, len(option.values))
        chosen.append((option.name, option.values[i]))
    return ConfigAlias(dict(reversed(chosen)))
