"""Define options, and the grids that ``*``, ``+`` and ``@`` build from them.

A grid is a sum of products, each of which crosses its options. Configurations come product by
product; within a product the last option varies fastest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import TypeAlias, overload

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.grids.selection import narrowed
from ecg_mlflow.grids.values import KV, ConfigAlias, Range

Product: TypeAlias = "tuple[Option, ...]"


class Design:
    """A sum of products of options, which is a sequence of configurations: an option or a grid.

    Each configuration is made when it is asked for. ``+``, ``*`` and ``@`` combine designs.
    """

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
        pairs = [(first.setdefault(config, config), config) for config in self]
        return list(first), [(kept, config) for kept, config in pairs if kept is not config]

    def only(self, config: Mapping[str, object]) -> Grid:
        """Return the part of the design that has the given values.

        Parameters
        ----------
        config : Mapping
            For each option name an alias or a list of aliases; a number matches the alias that
            spells it. An option with a range takes a number, a list of numbers or a narrower
            range. Other options keep all their values; products that lack a named option are
            left out.

        Returns
        -------
        Grid

        Raises
        ------
        GridError
            If an option name, an alias or a number does not occur, or if no configuration is
            left.
        """
        given = config.alias() if isinstance(config, ConfigAlias) else config
        products = narrowed(self.products, given)
        return Grid([Option(*part) for part in product.items()] for product in products)

    def _n_configs(self) -> int:
        for option in itertools.chain(*self.products):
            if option.range is not None:
                raise GridError(
                    f"option {option.name!r} is {option.range!r}, a range, so the grid can't be "
                    "run as a whole: choose a sampler (sampler=tpe, sampler=random), or list values"
                )
        return sum(math.prod(len(one.values) for one in product) for product in self.products)

    def __len__(self) -> int:
        return self._n_configs()

    def __iter__(self) -> Iterator[ConfigAlias]:
        self._n_configs()  # raises for a range before the first configuration is asked for
        return (
            ConfigAlias({option.name: kv for option, kv in zip(product, kvs, strict=True)})
            for product in self.products
            for kvs in itertools.product(*(option.values for option in product))
        )

    @overload
    def __getitem__(self, index: int) -> ConfigAlias: ...

    @overload
    def __getitem__(self, index: slice) -> list[ConfigAlias]: ...

    def __getitem__(self, index: int | slice) -> ConfigAlias | list[ConfigAlias]:
        return list(self)[index]

    def __add__(self, other: Design) -> Grid:
        _check_design(self, "+", other)
        return Grid(self.products + other.products)

    def __mul__(self, other: Design) -> Grid:
        _check_design(self, "*", other)
        return Grid(left + right for left in self.products for right in other.products)

    def __matmul__(self, other: Design) -> Grid:
        _check_design(self, "@", other)
        return Option.product(self, other)


@counts_as("Option", version=1)
@dataclass(frozen=True, init=False, repr=False)
class Option(Design):
    """A named parameter with the values that it takes, or the range that it is drawn from.

    Parameters
    ----------
    name : str
        Name of the parameter.
    values : iterable or Range
        Plain values, or :class:`KV` for those that need an alias of their own. With a range
        (:class:`Uniform`, :class:`LogUniform`, :class:`IntUniform`) the configurations can't be
        listed, so a grid with a range needs a sampler.

    Attributes
    ----------
    values
        Empty if the option is a range.
    range
        The range, if it is one.

    Raises
    ------
    GridError
        If `values` is empty or not a list of values, if a value is invalid (see :class:`KV`), or
        if two different values have one alias.
    """

    name: str
    values: tuple[KV, ...]
    range: Range | None

    def __init__(self, name: str, values: Iterable[object] | Range) -> None:
        if not isinstance(name, str) or not name:
            raise GridError(f"an option's name must be a non-empty string, not {name!r}")
        vars(self).update(name=name, values=(), range=None)
        if isinstance(values, Range):
            vars(self)["range"] = values
            return
        if isinstance(values, str | bytes | KV | Mapping | Set) or not isinstance(values, Iterable):
            raise GridError(
                f"option {name!r} takes a list of values, not {values!r} of type "
                f"{type(values).__name__}: write Option({name!r}, [value, ...])"
            )
        vars(self)["values"] = tuple(_kv(name, i, value) for i, value in enumerate(values))
        if not self.values:
            raise GridError(
                f"option {name!r} has no values, so the grid has no configurations: give at least "
                "one value"
            )
        _check_aliases([self])

    @staticmethod
    def product(*options: Design) -> Grid:
        """Pair options value by value: the first values of all, then the second, and so on.

        Parameters
        ----------
        *options : Option, or Grid made by `product` or ``@``
            All of the same length.

        Returns
        -------
        Grid
            One product of single values for each pair.

        Raises
        ------
        GridError
            If lengths differ, or if an operand is a grid that crosses options.
        """
        if not options:
            raise GridError("Option.product pairs options, and none was given")
        columns = [_column(option) for option in options]
        if len({len(column) for column in columns}) > 1:
            pairs = zip(options, columns, strict=True)
            lengths = ", ".join(f"{' with '.join(one.names)} {len(kvs)}" for one, kvs in pairs)
            raise GridError(
                "Option.product pairs values one by one, so all options need the same number, and "
                f"they have {lengths}: make them equal, or use * for every combination"
            )
        return Grid(tuple(itertools.chain(*row)) for row in zip(*columns, strict=True))

    @property
    def products(self) -> tuple[Product, ...]:
        """One product: the option alone."""
        return ((self,),)

    def alias(self) -> dict[str, list[str] | Range]:
        """Return the aliases of the values, or the range, under the option's name."""
        return {self.name: self.range or [kv.alias for kv in self.values]}

    def __repr__(self) -> str:
        return f"Option({self.alias()})"


@counts_as("Grid", version=1)
@dataclass(frozen=True, init=False, repr=False)
class Grid(Design):
    """A set of configurations: a sum of products of options.

    ``Grid()`` has one configuration without options, for a study that varies nothing. It is the
    neutral element of ``*``.

    Parameters
    ----------
    products : Option, Grid or iterable of iterables of Option
        For each product the options that it crosses.

    Raises
    ------
    GridError
        If there is no product, if a product has two options of one name, or if two different
        values of one option have one alias.
    """

    _products: tuple[Product, ...]

    def __init__(self, products: Design | Iterable[Iterable[Option]] = ((),)) -> None:
        given = products.products if isinstance(products, Design) else map(_product, products)
        vars(self)["_products"] = tuple(given)
        if not self._products:
            raise GridError(
                "a grid without products has no configurations; Grid() has one, without options"
            )
        _check_aliases(itertools.chain(*self._products))

    @property
    def products(self) -> tuple[Product, ...]:
        """The products whose sum this is."""
        return self._products

    def __repr__(self) -> str:
        return f"Grid({[[option.alias() for option in product] for product in self._products]})"


def _kv(name: str, position: int, value: object) -> KV:
    if isinstance(value, KV):
        return value
    try:
        return KV(value)
    except GridError as error:
        raise GridError(f"option {name!r}, value {position}: {error}") from error


def _product(options: Iterable[Option]) -> Product:
    """Check that these options can be crossed, and return them as a product."""
    if isinstance(options, Design) or not isinstance(options, Iterable):
        raise GridError(
            f"Grid takes products, which are lists of options, not {options!r}: combine options "
            "and grids with * (every combination) or + (alternatives)"
        )
    product = tuple(options)
    for i, option in enumerate(product):
        if not isinstance(option, Option):
            raise GridError(
                f"a product consists of options, not {option!r} of type {type(option).__name__}: "
                "write Option(name, values)"
            )
        if option.name in [one.name for one in product[:i]]:
            raise GridError(
                f"option {option.name!r} occurs twice in one product: give one of the two another "
                "name, put all values into one option, or use + for alternatives"
            )
    return product


def _column(operand: Design) -> list[Product]:
    """Split an operand of `Option.product` into products of single values."""
    if not isinstance(operand, Design):
        raise GridError(
            f"Option.product pairs options, not {operand!r} of type {type(operand).__name__}"
        )
    if not operand.is_finite:
        raise GridError(
            f"Option.product pairs values, and {operand!r} has a range, which has no list of "
            "values: write * for every combination"
        )
    if isinstance(operand, Option):
        return [(Option(operand.name, [kv]),) for kv in operand.values]
    if any(len(option.values) > 1 for product in operand.products for option in product):
        raise GridError(
            f"Option.product pairs options, and {operand!r} crosses some. In Python @ binds as "
            "tightly as *, so c * a @ b means (c * a) @ b: write c * (a @ b)"
        )
    return list(operand.products)


def _check_design(left: Design, symbol: str, right: object) -> None:
    if not isinstance(right, Design):
        raise GridError(
            f"{left!r} {symbol} {right!r}: the right side is of type {type(right).__name__}, "
            f"and {symbol} combines options and grids only: write Option(name, values)"
        )


def _check_aliases(options: Iterable[Option]) -> None:
    known: dict[tuple[str, str], KV] = {}
    for option in options:
        for kv in option.values:
            first = known.setdefault((option.name, kv.alias), kv)
            if first.digest != kv.digest:
                raise GridError(
                    f"two different values of option {option.name!r} have the alias {kv.alias!r}: "
                    f"{first.value!r} and {kv.value!r}. Write KV(value, 'alias') for one of them"
                )
