"""Count, index and iterate over the configurations of a sum of products."""

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

Product: TypeAlias = "tuple[Option, ...]"


class Configurations:
    """The sequence of configurations of a sum of products, each made when it is asked for."""

    @property
    def products(self) -> tuple[Product, ...]:
        """The products whose sum this is."""
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all options, in order of first appearance."""
        return tuple(dict.fromkeys(option.name for product in self.products for option in product))

    @property
    def is_finite(self) -> bool:
        """Whether the configurations can be counted and listed: every option is a list."""
        return all(option.range is None for product in self.products for option in product)

    def gen_configs(self) -> Iterator[ConfigAlias]:
        """Yield the configurations in order; every call starts at the first one."""
        return iter(self)

    def unique(self) -> tuple[list[ConfigAlias], list[tuple[ConfigAlias, ConfigAlias]]]:
        """Separate the configurations with new values from those that repeat an earlier one.

        Returns
        -------
        kept : list of ConfigAlias
            The first of each set of equal configurations, in order.
        duplicates : list of (ConfigAlias, ConfigAlias)
            Pairs of the kept configuration and one that repeats it.
        """
        first: dict[ConfigAlias, ConfigAlias] = {}
        duplicates = []
        for config in self:
            kept = first.setdefault(config, config)
            if kept is not config:
                duplicates.append((kept, config))
        return list(first), duplicates

    def __len__(self) -> int:
        return sum(map(size, self.products))

    def __iter__(self) -> Iterator[ConfigAlias]:
        for product in self.products:
            size(product)  # raises for a range before the first configuration is asked for
        return self._listed()

    def _listed(self) -> Iterator[ConfigAlias]:
        for product in self.products:
            names = [option.name for option in product]
            for kvs in itertools.product(*(option.values for option in product)):
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
        for product in self.products:
            if position < size(product):
                return _config_at(product, position)
            position -= size(product)
        raise AssertionError("the products have fewer configurations than their sizes say")


def size(product: Product) -> int:
    """Return the number of a product's configurations.

    Raises
    ------
    GridError
        If one of its options is a range.
    """
    for option in product:
        if option.range is not None:
            raise GridError(
                f"option {option.name!r} is {option.range!r}, a range, so the grid can't be run as "
                "a whole: choose a sampler (sampler=tpe, sampler=random), or list values"
            )
    return math.prod(len(option.values) for option in product)


def _config_at(product: Product, position: int) -> ConfigAlias:
    """Read a position as a number whose last digit is the index into the last option."""
    chosen: list[tuple[str, KV]] = []
    for option in reversed(product):
        position, i = divmod(position, len(option.values))
        chosen.append((option.name, option.values[i]))
    return ConfigAlias(dict(reversed(chosen)))
