"""The parameters that choose within each cube of a grid, and what they are called."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Protocol, TypeAlias

import numpy as np

from ecg_mlflow.canonical import digest
from ecg_mlflow.grids import KV, Grid, IntUniform, LogUniform, Option, Range

Choice: TypeAlias = "str | float | int"
Params: TypeAlias = "Mapping[str, Choice]"

_RANGE_COUNTS_AS = 10
"""Values that a range is taken to have when cubes are weighed against each other."""
_TOLERANCE = 1e-9
"""Relative error that a bound may have after its logarithm was taken and undone."""


class Asked(Protocol):
    """What is needed of Optuna's trial."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """Choose one of these."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Choose a number."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Choose a whole number."""


@dataclass(frozen=True)
class Dimension:
    """One parameter of a space.

    Attributes
    ----------
    name
        What it is called.
    choices
        The aliases that it chooses from; empty for a range.
    range
        The range that it draws from, if it does.
    """

    name: str
    choices: tuple[str, ...] = ()
    range: Range | None = None

    def ask(self, trial: Asked) -> Choice:
        """Let a trial choose."""
        span = self.range
        if isinstance(span, IntUniform):
            # Optuna warns of an upper bound that the steps do not meet.
            return trial.suggest_int(self.name, span.low, span.last, step=span.step, log=span.log)
        if span is not None:
            log = isinstance(span, LogUniform)
            return trial.suggest_float(self.name, span.low, span.high, log=log)
        return trial.suggest_categorical(self.name, self.choices)


@dataclass(frozen=True)
class Branch:
    """One cube of a grid as a part of a space.

    Attributes
    ----------
    label
        What it is called among the cubes.
    values
        By option, its values by alias, or its range.
    dimensions
        By option, the parameter that chooses its value; options of one value have none. The
        parameter is shared with cubes that have the same values, maybe in another order.
    """

    label: str
    values: Mapping[str, Mapping[str, KV] | Range]
    dimensions: Mapping[str, Dimension]

    @property
    def weight(self) -> int:
        """Number of configurations, for ranges as if they had some few values."""
        return math.prod(
            _RANGE_COUNTS_AS if isinstance(values, Range) else len(values)
            for values in self.values.values()
        )

    @property
    def names(self) -> list[str]:
        """The parameters' names, in the order of the options."""
        return [dimension.name for dimension in self.dimensions.values()]

    def kvs(self, params: Params) -> dict[str, KV] | None:
        """Return each option's value; None where a parameter chose what it can't choose here."""
        found: dict[str, KV] = {}
        for name, values in self.values.items():
            if name not in self.dimensions:
                kv = next(iter(values.values())) if isinstance(values, Mapping) else None
            else:
                kv = _chosen(values, params[self.dimensions[name].name])
            if kv is None:
                return None
            found[name] = kv
        return found

    def choices(self, config: Mapping[str, object]) -> tuple[Choice, ...] | None:
        """Return what the parameters would have chosen; None where it can't have been here."""
        if config.keys() != self.values.keys():
            return None
        found: list[Choice] = []
        for name, values in self.values.items():
            choice = _choice(values, config[name])
            if choice is None:
                return None
            if name in self.dimensions:
                found.append(choice)
        return tuple(found)

    def draw(self, rng: np.random.Generator) -> tuple[Choice, ...]:
        """Draw a choice for each parameter."""
        return tuple(
            _plain(values.at(rng.random()))
            if isinstance(values, Range)
            else list(values)[int(rng.integers(len(values)))]
            for values in self._varied()
        )

    def combinations(self) -> Iterator[tuple[Choice, ...]]:
        """Yield all choices for the parameters together, in the grid's order; without ranges."""
        return itertools.product(*map(_spots, self._varied()))

    def examples(self) -> list[tuple[Choice, ...]]:
        """List few of the choices, in the grid's order, that have every choice in some place."""
        columns = [_spots(values) for values in self._varied()]
        n = max(map(len, columns), default=1)
        places = sorted({tuple(i % len(column) for column in columns) for i in range(n)})
        return [tuple(column[i] for column, i in zip(columns, row, strict=True)) for row in places]

    def _varied(self) -> list[Mapping[str, KV] | Range]:
        return [self.values[name] for name in self.dimensions]


def branches(grid: Grid) -> tuple[Dimension | None, list[Branch]]:
    """Find the parameters that choose a configuration of a grid.

    Returns
    -------
    cube : Dimension or None
        The parameter that chooses the cube by its label; None where there is one cube.
    branches : list of Branch
        The cubes, without those that repeat an earlier one.
    """
    cubes = list(dict.fromkeys(grid.cubes))
    names, labels = set(grid.names), set[str]()
    called = _free("cube (grid)" if "cube" in names else "cube", names)
    known: dict[tuple[str, frozenset[str] | Range], Dimension] = {}
    found = [_branch(_free(_label(cube), labels), cube, names, known) for cube in cubes]
    choices = tuple(branch.label for branch in found)
    return Dimension(called, choices) if len(cubes) > 1 else None, found


def _branch(
    label: str,
    cube: Sequence[Option],
    names: set[str],
    known: dict[tuple[str, frozenset[str] | Range], Dimension],
) -> Branch:
    """Describe a cube; `names` are taken, and `known` the parameters of earlier cubes."""
    values: dict[str, Mapping[str, KV] | Range] = {}
    dimensions: dict[str, Dimension] = {}
    for option in cube:
        by_alias = {kv.alias: kv for kv in option.values}
        values[option.name] = option.range or by_alias
        if len(by_alias) == 1:
            continue
        key = (option.name, option.range or frozenset(by_alias))
        if key not in known:
            varied_before = any(name == option.name for name, _ in known)
            name = _free(option.name, names) if varied_before else option.name
            known[key] = Dimension(name, tuple(by_alias), option.range)
        dimensions[option.name] = known[key]
    return Branch(label, values, dimensions)


def _label(cube: Sequence[Option]) -> str:
    """Say which cube this is by the values that it fixes, or else by what it varies."""
    fixed = [
        f"{option.name}={option.values[0].alias}" for option in cube if len(option.values) == 1
    ]
    return ", ".join(fixed) or " * ".join(option.name for option in cube) or "no options"


def _free(name: str, taken: set[str]) -> str:
    """Take a name: this one, or if it is taken, the first with a number that is not."""
    numbered = (f"{name} ({i})" for i in itertools.count(2))
    free = next(one for one in itertools.chain([name], numbered) if one not in taken)
    taken.add(free)
    return free


def _chosen(values: Mapping[str, KV] | Range, choice: object) -> KV | None:
    """Return the value that a stored choice stands for; None where it is another space's."""
    if isinstance(values, Mapping):
        return values.get(choice) if isinstance(choice, str) else None
    if isinstance(choice, bool) or not isinstance(choice, Real):
        return None
    x = float(choice)
    if isinstance(values, IntUniform):
        return values.exactly(x)
    low, high = values.low, values.high
    inside = low - _TOLERANCE * abs(low) <= x <= high + _TOLERANCE * abs(high)
    return values.kv(x) if inside else None


def _choice(values: Mapping[str, KV] | Range, value: object) -> Choice | None:
    """Return the choice that stands for a value, as `_chosen` reads it; None if there is none."""
    if isinstance(values, Range):
        kv = values.exactly(value)
        return None if kv is None else _plain(kv)
    identity = digest(value)
    return next((alias for alias, kv in values.items() if kv.digest == identity), None)


def _spots(values: Mapping[str, KV] | Range) -> list[Choice]:
    """List what is to be shown of a parameter: all choices, or a range's ends."""
    if isinstance(values, Range):
        return [_plain(kv) for kv in values.ends()]
    return list(values)


def _plain(kv: KV) -> float | int:
    assert isinstance(kv.value, float | int)
    return kv.value
