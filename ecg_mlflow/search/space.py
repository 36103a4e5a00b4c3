"""Describe a grid as parameters that a sampler chooses, so that it chooses what the grid has.

A first parameter, ``product``, chooses one of the products that the grid is a sum of, by its place,
where there are several. It is followed by a parameter for each option that has more than one value
there. Options with one value follow from the product, which is how the pairs that `Option.product`
makes stay pairs.

Optuna wants a parameter of one name to have one set of values in the whole study. So options of
one name that have other values in other products are different parameters, ``lr`` and ``lr (2)``;
products with the same values share the parameter, and with it what is learnt of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids import KV, ConfigAlias, Grid, IntUniform, LogUniform, Option, Range
from ecg_mlflow.grids.canonical import digest

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Choice: TypeAlias = "str | float | int"

_RANGE_COUNTS_AS = 10
"""Values that a range is taken to have when products are weighed against each other."""
_LISTED = 10_000
"""A grid of no more configurations is listed, once, to count and to draw among those left."""
_N_DRAWS = 1000
"""Draws after which a grid that is not listed is taken to hold little or nothing new."""


class _Axis(NamedTuple):
    """An option of a product, and the parameter that chooses among its values.

    Attributes
    ----------
    option
        Its name.
    range, values
        What it takes: a range, or values by alias.
    parameter
        Name of the parameter; empty where there is one value only.
    choices
        The aliases in the order in which the parameter has them; empty for a range.
    """

    option: str
    range: Range | None
    values: Mapping[str, KV]
    parameter: str = ""
    choices: tuple[str, ...] = ()

    def suggest(self, trial: BaseTrial) -> KV:
        """Let a trial choose."""
        span, name = self.range, self.parameter
        if isinstance(span, IntUniform):
            # Optuna warns of an upper bound that the steps do not meet.
            return span.kv(
                trial.suggest_int(name, span.low, span.last, step=span.step, log=span.log)
            )
        if span is not None:
            is_log = isinstance(span, LogUniform)
            return span.kv(trial.suggest_float(name, span.low, span.high, log=is_log))
        if not name:
            return next(iter(self.values.values()))
        return self.values[trial.suggest_categorical(name, self.choices)]

    def choice(self, value: object) -> Choice | None:
        """Return the choice that stands for a value; None if there is no such value."""
        identity = digest(value)
        if self.range is None:
            return next((alias for alias, kv in self.values.items() if kv.digest == identity), None)
        kv = self.range.exactly(value)
        # A number between two that a range gives is in its bounds, but none of its values.
        if kv is None or not isinstance(kv.value, float | int):
            return None
        return kv.value if self.range.kv(kv.value).digest == identity else None

    def draw(self, rng: np.random.Generator) -> KV:
        if self.range is not None:
            return self.range.at(rng.random())
        kvs = [*self.values.values()]
        return kvs[int(rng.integers(len(kvs)))] if len(kvs) > 1 else kvs[0]

    def examples(self) -> tuple[KV, ...]:
        return self.range.ends() if self.range is not None else (*self.values.values(),)


class Space:
    """The choices that a grid leaves.

    Parameters
    ----------
    grid : Grid
        With or without ranges.

    Attributes
    ----------
    grid
        The grid.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        products = dict.fromkeys(grid.products)
        taken = set(grid.names)
        self._product = _free("product", taken) if len(products) > 1 else ""
        #: By an option's name and values, the parameter.
        parameters: dict[tuple[str, object], tuple[str, tuple[str, ...]]] = {}

        def axis(option: Option) -> _Axis:
            values = {kv.alias: kv for kv in option.values}
            if len(values) == 1:
                return _Axis(option.name, None, values)
            key = option.name, option.range or frozenset(values)
            if key not in parameters:
                is_new = all(name != option.name for name, _ in parameters)
                name = option.name if is_new else _free(option.name, taken)
                parameters[key] = name, (*values,)
            return _Axis(option.name, option.range, values, *parameters[key])

        self._products = [[axis(option) for option in product] for product in products]
        weights = [
            math.prod(_RANGE_COUNTS_AS if one.range else len(one.values) for one in axes)
            for axes in self._products
        ]
        self._n = sum(weights) if grid.is_finite else None
        self._shares = [weight / sum(weights) for weight in weights]

    @cached_property
    def n_configs(self) -> int | None:
        """Number of configurations, by value where there are up to 10 000; None with a range."""
        return self._n if self._n is None or self._n > _LISTED else len(self._distinct)

    @cached_property
    def _distinct(self) -> list[ConfigAlias]:
        return self.grid.unique()[0]

    def suggest(self, trial: BaseTrial) -> ConfigAlias:
        """Ask a trial for one parameter after the other; return the configuration they make.

        Numbers are rounded as their range does.
        """
        places = [str(i) for i in range(len(self._products))]
        place = trial.suggest_categorical(self._product, places) if self._product else 0
        return ConfigAlias({one.option: one.suggest(trial) for one in self._products[int(place)]})

    def encode(self, config: ConfigAlias) -> dict[str, Choice] | None:
        """Return parameters that stand for a configuration; None where the grid does not have it.

        It may come from another grid; what counts are its values, whatever their aliases.
        """
        for place, axes in enumerate(self._products):
            if config.keys() != {one.option for one in axes}:
                continue
            choices = [one.choice(config[one.option]) for one in axes]
            params: dict[str, Choice] = {self._product: str(place)} if self._product else {}
            for one, choice in zip(axes, choices, strict=True):
                if choice is None:
                    break
                if one.parameter:
                    params[one.parameter] = choice
            else:
                return params
        return None

    def draw(self, rng: np.random.Generator) -> ConfigAlias:
        """Draw a configuration, all being equally likely.

        A product is as likely as it has configurations, where a range counts as ten values. Within
        a range, numbers are as likely as the range says.
        """
        axes = self._products[int(rng.choice(len(self._products), p=self._shares))]
        return ConfigAlias({one.option: one.draw(rng) for one in axes})

    def untried(self, tried: Container[str], rng: np.random.Generator) -> ConfigAlias | None:
        """Draw among the configurations that have not been tried.

        Parameters
        ----------
        tried : container of str
            Digests of those that have been.
        rng : numpy.random.Generator
            Where chance comes from.

        Returns
        -------
        ConfigAlias or None
            None where all have been tried, which is certain in a grid without ranges; with ranges
            it means that a thousand draws gave nothing new.
        """
        is_listed = self._n is not None and self._n <= _LISTED
        for _ in range(0 if is_listed else _N_DRAWS):
            if (config := self.draw(rng)).digest not in tried:
                return config
        if self._n is None:
            return None
        listed = self._distinct if is_listed else self.grid
        left = [config for config in listed if config.digest not in tried]
        return left[int(rng.integers(len(left)))] if left else None

    def examples(self) -> list[ConfigAlias]:
        """List few configurations that show everything once.

        Returns
        -------
        list of ConfigAlias
            In the grid's order, all different by value. Every product is there, with each value of
            its options and both ends of its ranges at least once: of each product, as many as the
            longest of its options has values. One that two products have may show in either's
            place.
        """
        shown: dict[ConfigAlias, None] = {}
        for axes in self._products:
            columns = [one.examples() for one in axes]
            n = max(map(len, columns), default=1)
            for places in sorted({tuple(i % len(kvs) for kvs in columns) for i in range(n)}):
                cells = zip(axes, columns, places, strict=True)
                shown[ConfigAlias({one.option: kvs[i] for one, kvs, i in cells})] = None
        return [*shown]


def configuration(grid: Grid, options: Mapping[str, str]) -> ConfigAlias | None:
    """Find a configuration of a grid by its options' aliases; None where the grid lacks it."""
    products = [
        product
        for product in grid.products
        if {option.name for option in product} == options.keys()
    ]
    try:
        return next(iter(Grid(products).only(options))) if products else None
    except GridError:
        return None


def _free(name: str, taken: set[str]) -> str:
    """Take a name: this one, or if it is taken, the first with a number that is not."""
    numbered = (f"{name} ({i})" for i in itertools.count(2))
    free = next(one for one in itertools.chain([name], numbered) if one not in taken)
    taken.add(free)
    return free
