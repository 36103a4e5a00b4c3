"""Options and the grids that are built from them with ``*``, ``+`` and ``@``.

A grid is a sum of products, called cubes. Configurations come cube by cube, and inside a cube the
last option varies fastest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids.base import Range
from ecg_mlflow.grids.configurations import Configurations, Cube, size
from ecg_mlflow.grids.kv import KV
from ecg_mlflow.grids.selection import narrowed


class Operand(Configurations):
    """What an option and a grid have in common: ``+``, ``*`` and ``@`` take either."""

    def __add__(self, other: Operand) -> Grid:
        _check_operand(self, "+", other)
        return Grid(self.cubes + other.cubes)

    def __mul__(self, other: Operand) -> Grid:
        _check_operand(self, "*", other)
        return Grid(left + right for left in self.cubes for right in other.cubes)

    def __matmul__(self, other: Operand) -> Grid:
        _check_operand(self, "@", other)
        return Option.product(self, other)

    def only(self, config: Mapping[str, object]) -> Grid:
        """Return the part that agrees with what is given.

        Parameters
        ----------
        config : Mapping
            By option, the alias that its value has, or a list of them; a number stands for the
            alias that spells it. An option that is a range becomes the number, the list of
            numbers or the range within it that is given. Options that are not named stay as they
            are; products without one of the named options are left out.

        Returns
        -------
        Grid

        Raises
        ------
        GridError
            If no option has such a name, no value of it such an alias, no range of it such a
            number, or if nothing is left.
        """
        cubes = narrowed(self.cubes, config)
        return Grid([Option(name, domain) for name, domain in cube] for cube in cubes)


@dataclass(frozen=True, init=False, repr=False)
class Option(Operand):
    """A named parameter and the values that it takes in turn, or the range that it is drawn from.

    Parameters
    ----------
    name : str
        What the parameter is called.
    values : iterable or Range
        Plain values, or :class:`KV` for those that need an alias of their own. With a range
        (:class:`Uniform`, :class:`LogUniform`, :class:`IntUniform`) there is no list of
        configurations, so that a grid with it is for samplers that choose one by one.

    Attributes
    ----------
    values
        Empty where the option is a range.
    range
        The range, if it is one.

    Raises
    ------
    GridError
        If `values` is empty or not a list of values, if a value is unfit (see :class:`KV`), or if
        two different values have one alias.
    """

    name: str
    values: tuple[KV, ...]
    range: Range | None

    def __init__(self, name: str, values: Iterable[object] | Range) -> None:
        if not isinstance(name, str) or not name:
            raise GridError(f"an option's name is a non-empty string, not {name!r}")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "range", values if isinstance(values, Range) else None)
        if isinstance(values, Range):
            object.__setattr__(self, "values", ())
            return
        if isinstance(values, str | bytes | KV | Mapping | Set) or not isinstance(values, Iterable):
            raise GridError(
                f"option {name!r} takes a list of values, not {values!r} of type "
                f"{type(values).__name__}: write Option({name!r}, [value, ...])"
            )
        object.__setattr__(
            self, "values", tuple(_kv(name, i, value) for i, value in enumerate(values))
        )
        if not self.values:
            raise GridError(
                f"option {name!r} has no values, so no configuration either: give it at least one"
            )
        _check_aliases([self])

    @staticmethod
    def product(*options: Operand) -> Grid:
        """Pair options value by value: the first values of all, then the second, and so on.

        Parameters
        ----------
        *options : Option, or Grid made by `product` or ``@``
            All of one length.

        Returns
        -------
        Grid
            One cube of single values per pair.

        Raises
        ------
        GridError
            If lengths differ (the message names them), or if an operand is a grid that crosses
            options.
        """
        if not options:
            raise GridError("Option.product pairs options, and none came")
        columns = [_column(option) for option in options]
        if len({len(column) for column in columns}) > 1:
            lengths = " and ".join(
                f"{_label(option)} has {len(column)} value{'s' * (len(column) != 1)}"
                for option, column in zip(options, columns, strict=True)
            )
            raise GridError(
                f"a product pairs values one by one, so all need the same number, but {lengths}: "
                "make them equal, or use * for every combination"
            )
        return Grid(tuple(itertools.chain(*row)) for row in zip(*columns, strict=True))

    @property
    def cubes(self) -> tuple[Cube, ...]:
        """The option alone."""
        return ((self,),)

    def alias(self) -> dict[str, list[str] | Range]:
        """Return the aliases of the values, or the range, under the option's name."""
        return {self.name: self.range or [kv.alias for kv in self.values]}

    def __repr__(self) -> str:
        return f"Option({self.alias()})"


@dataclass(frozen=True, init=False, repr=False)
class Grid(Operand):
    """A set of configurations: a sum of products of options.

    ``Grid()`` has one configuration without options, for a study that varies nothing; it is the
    neutral element of ``*``.

    Parameters
    ----------
    cubes : Option, Grid or iterable of iterables of Option
        The options that each cube crosses.

    Raises
    ------
    GridError
        If there is no cube, if a cube has two options of one name, or if two different values of
        one option have one alias.
    """

    _cubes: tuple[Cube, ...]

    def __init__(self, cubes: Operand | Iterable[Iterable[Option]] = ((),)) -> None:
        given = cubes.cubes if isinstance(cubes, Operand) else cubes
        object.__setattr__(self, "_cubes", tuple(map(_cube, given)))
        if not self._cubes:
            raise GridError(
                "a grid of no cubes has no configurations; Grid() has one, without options"
            )
        _check_aliases(itertools.chain(*self._cubes))

    @property
    def cubes(self) -> tuple[Cube, ...]:
        """The products whose sum this is."""
        return self._cubes

    def __repr__(self) -> str:
        return f"Grid({[[option.alias() for option in cube] for cube in self._cubes]})"


def _kv(name: str, position: int, value: object) -> KV:
    if isinstance(value, KV):
        return value
    if isinstance(value, Range):
        raise GridError(
            f"option {name!r} has the range {value!r} in its list of values, and it is either a "
            f"range or a list: write Option({name!r}, {value!r})"
        )
    try:
        return KV(value)
    except GridError as error:
        raise GridError(f"option {name!r}, value {position}: {error}") from error


def _cube(options: Iterable[Option]) -> Cube:
    """Check that these options can be crossed."""
    if isinstance(options, Operand) or not isinstance(options, Iterable):
        raise GridError(
            f"Grid takes cubes, which are lists of options, not {options!r}: combine options and "
            "grids with * (every combination) or + (alternatives)"
        )
    cube = tuple(options)
    for option in cube:
        if not isinstance(option, Option):
            raise GridError(
                f"a cube is made of options, not of {option!r} of type {type(option).__name__}: "
                "write Option(name, values)"
            )
    names = [option.name for option in cube]
    for name in names:
        if names.count(name) > 1:
            raise GridError(
                f"option {name!r} comes twice in one product: give one of the two another name, "
                "put all values into one option, or use + for alternatives"
            )
    return cube


def _column(operand: Operand) -> list[Cube]:
    """Split an operand of a product into the cubes of single values that it lists."""
    if isinstance(operand, Operand) and not operand.is_finite:
        raise GridError(
            f"a product pairs values, and {operand!r} has a range, which has no list of them: "
            "write * for every combination"
        )
    if isinstance(operand, Option):
        return [(Option(operand.name, [kv]),) for kv in operand.values]
    if not isinstance(operand, Grid):
        raise GridError(
            f"a product pairs options, not {operand!r} of type {type(operand).__name__}"
        )
    if any(size(cube) > 1 for cube in operand.cubes):
        raise GridError(
            f"a product pairs options, and {operand!r} crosses some. In Python @ binds as tightly "
            "as *, so c * a @ b means (c * a) @ b: write c * (a @ b)"
        )
    return list(operand.cubes)


def _label(operand: Operand) -> str:
    return " with ".join(map(repr, operand.names))


def _check_operand(left: Operand, symbol: str, right: object) -> None:
    if not isinstance(right, Operand):
        raise GridError(
            f"{left!r} {symbol} {right!r}: the right side is of type {type(right).__name__}, "
            f"and {symbol} combines options and grids only: write Option(name, values)"
        )


def _check_aliases(options: Iterable[Option]) -> None:
    known: dict[tuple[str, str], KV] = {}
    for option in options:
        for kv in option.values:
            twin = known.setdefault((option.name, kv.alias), kv)
            if twin.digest != kv.digest:
                raise GridError(
                    f"two different values of option {option.name!r} have the alias {kv.alias!r}: "
                    f"{twin.value!r} and {kv.value!r}. Write KV(value, 'alias') for one of them"
                )
