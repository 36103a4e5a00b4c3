"""Describe a grid as parameters that a sampler chooses, so that it chooses what the grid has.

A first parameter, ``product``, chooses one of the products that the grid is a sum of, where there
are several. It is followed by a parameter for each option that has more than one value there.
Options with one value follow from the product, which is how the pairs that ``Option.product``
makes stay pairs.

Optuna wants a parameter of one name to have one set of values in the whole study. So options of
one name that have other values in other products are different parameters, ``lr`` and ``lr (2)``;
products with the same values share the parameter, and with it what is learnt of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids import KV, ConfigAlias, Grid, IntUniform, LogUniform, Option, Range
from ecg_mlflow.grids.canonical import digest

Choice: TypeAlias = "str | float | int"
Params: TypeAlias = "dict[str, Choice]"
_Domain: TypeAlias = "Mapping[str, KV] | Range"
"""The values of an option by alias, or its range."""

_RANGE_COUNTS_AS = 10
"""Values that a range is taken to have when products are weighed against each other."""
_LISTED = 10_000
"""A grid of no more configurations is listed, once, to count and to draw among those left."""
_N_DRAWS = 1000
"""Draws after which a grid that is not listed is taken to hold little or nothing new."""


class AskedTrial(Protocol):
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

    def ask(self, trial: AskedTrial) -> Choice:
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
class _Product:
    """One product of a grid: what it is called, its options' values, and who chooses them."""

    label: str
    domains: Mapping[str, _Domain]
    dimensions: Mapping[str, Dimension]

    @property
    def weight(self) -> int:
        """Number of configurations, for ranges as if they had some few values."""
        return math.prod(
            _RANGE_COUNTS_AS if isinstance(domain, Range) else len(domain)
            for domain in self.domains.values()
        )

    def suggest(self, trial: AskedTrial) -> ConfigAlias:
        asked = {name: dimension.ask(trial) for name, dimension in self.dimensions.items()}
        return ConfigAlias(
            {name: _value(domain, asked.get(name)) for name, domain in self.domains.items()}
        )

    def draw(self, rng: np.random.Generator) -> ConfigAlias:
        return ConfigAlias({name: _drawn(domain, rng) for name, domain in self.domains.items()})

    def params(self, config: Mapping[str, object]) -> Params | None:
        """Return what the parameters choose for a configuration; None if it is not from here."""
        if config.keys() != self.domains.keys():
            return None
        found = {name: _choice(domain, config[name]) for name, domain in self.domains.items()}
        if None in found.values():
            return None
        return {
            dimension.name: choice
            for name, dimension in self.dimensions.items()
            if (choice := found[name]) is not None
        }

    def examples(self) -> list[ConfigAlias]:
        """List few configurations, in the grid's order, that show every value in some place."""
        columns = [
            domain.ends() if isinstance(domain, Range) else tuple(domain.values())
            for domain in self.domains.values()
        ]
        n = max(map(len, columns), default=1)
        places = sorted({tuple(i % len(column) for column in columns) for i in range(n)})
        return [
            ConfigAlias(
                {
                    name: column[i]
                    for name, column, i in zip(self.domains, columns, row, strict=True)
                }
            )
            for row in places
        ]


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
    dimensions
        All parameters: the product's, if there is one, then the options' in order of appearance.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._choice, self._products = _products(grid)
        self._by_label = {product.label: product for product in self._products}
        varied = (one for product in self._products for one in product.dimensions.values())
        self.dimensions = (*([self._choice] if self._choice else []), *dict.fromkeys(varied))
        weights = [product.weight for product in self._products]
        self._n = sum(weights) if grid.is_finite else None
        self._shares = [weight / sum(weights) for weight in weights]

    @cached_property
    def n_configs(self) -> int | None:
        """Number of configurations, by value where there are up to 10 000; None with a range."""
        return self._n if self._n is None or self._n > _LISTED else len(self._distinct)

    @cached_property
    def _distinct(self) -> list[ConfigAlias]:
        return self.grid.unique()[0]

    def suggest(self, trial: AskedTrial) -> ConfigAlias:
        """Ask a trial for one parameter after the other; return the configuration they make.

        Numbers are rounded as their range does.
        """
        product = self._products[0]
        if self._choice is not None:
            product = self._by_label[str(self._choice.ask(trial))]
        return product.suggest(trial)

    def encode(self, config: ConfigAlias) -> Params | None:
        """Return parameters that stand for a configuration; None where the grid does not have it.

        It may come from another grid; what counts are its values, whatever their aliases.
        """
        for product in self._products:
            params = product.params(config)
            if params is not None:
                return {self._choice.name: product.label, **params} if self._choice else params
        return None

    def draw(self, rng: np.random.Generator) -> ConfigAlias:
        """Draw a configuration, all being equally likely.

        A product is as likely as it has configurations, where a range counts as ten values. Within
        a range, numbers are as likely as the range says.
        """
        return self._products[int(rng.choice(len(self._products), p=self._shares))].draw(rng)

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
        shown = (config for product in self._products for config in product.examples())
        return list(dict.fromkeys(shown))


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


def _products(grid: Grid) -> tuple[Dimension | None, list[_Product]]:
    """Return the products of a grid, without repeated ones, and the parameter that chooses one."""
    products = list(dict.fromkeys(grid.products))
    names, labels = set(grid.names), set[str]()
    called = _free("product (grid)" if "product" in names else "product", names)
    known: dict[tuple[str, frozenset[str] | Range], Dimension] = {}
    found = [
        _product(_free(_label(product), labels), product, names, known) for product in products
    ]
    choices = tuple(one.label for one in found)
    return Dimension(called, choices) if len(products) > 1 else None, found


def _product(
    label: str,
    product: Sequence[Option],
    names: set[str],
    known: dict[tuple[str, frozenset[str] | Range], Dimension],
) -> _Product:
    """Describe a product; `names` are taken, and `known` the parameters of earlier ones."""
    domains: dict[str, _Domain] = {}
    dimensions: dict[str, Dimension] = {}
    for option in product:
        by_alias = {kv.alias: kv for kv in option.values}
        domains[option.name] = option.range or by_alias
        if len(by_alias) == 1:
            continue
        key = (option.name, option.range or frozenset(by_alias))
        if key not in known:
            varied_before = any(name == option.name for name, _ in known)
            name = _free(option.name, names) if varied_before else option.name
            known[key] = Dimension(name, tuple(by_alias), option.range)
        dimensions[option.name] = known[key]
    return _Product(label, domains, dimensions)


def _label(product: Sequence[Option]) -> str:
    """Name a product by the values that it fixes, or else by what it varies."""
    fixed = [
        f"{option.name}={option.values[0].alias}" for option in product if len(option.values) == 1
    ]
    return ", ".join(fixed) or " * ".join(option.name for option in product) or "no options"


def _free(name: str, taken: set[str]) -> str:
    """Take a name: this one, or if it is taken, the first with a number that is not."""
    numbered = (f"{name} ({i})" for i in itertools.count(2))
    free = next(one for one in itertools.chain([name], numbered) if one not in taken)
    taken.add(free)
    return free


def _value(domain: _Domain, choice: Choice | None) -> KV:
    """Return the value that was chosen; None where there is only one."""
    if isinstance(domain, Range):
        assert isinstance(choice, float | int)
        return domain.kv(choice)
    return next(iter(domain.values())) if choice is None else domain[str(choice)]


def _choice(domain: _Domain, value: object) -> Choice | None:
    """Return the choice that stands for a value; None if the domain has no such value."""
    identity = digest(value)
    if not isinstance(domain, Range):
        return next((alias for alias, kv in domain.items() if kv.digest == identity), None)
    kv = domain.exactly(value)
    # A number between two that a range gives is in its bounds, but none of its values.
    if kv is None or not isinstance(kv.value, float | int):
        return None
    return kv.value if domain.kv(kv.value).digest == identity else None


def _drawn(domain: _Domain, rng: np.random.Generator) -> KV:
    if isinstance(domain, Range):
        return domain.at(rng.random())
    kvs = list(domain.values())
    return kvs[int(rng.integers(len(kvs)))] if len(kvs) > 1 else kvs[0]
