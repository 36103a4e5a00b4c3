"""How a sampler may choose within a grid: parameter by parameter, and nothing that it lacks.

A first parameter, ``cube``, chooses one of the products that the grid is a sum of, where there are
several. It is followed by a parameter for each option that has more than one value there. Options
with one value follow from the cube, which is how the pairs that ``Option.product`` makes stay
pairs.

Optuna wants a parameter of one name to have one set of values in the whole study. So options of
one name that have other values in other cubes are different parameters, ``lr`` and ``lr (2)``;
cubes with the same values share the parameter, and with it what is learnt of it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids import ConfigAlias, Grid
from ecg_mlflow.search.products import Asked, Branch, Choice, Dimension, Params, branches

__all__ = ["Asked", "Dimension", "Params", "Space", "configuration"]

_COUNTED = 10_000
"""A grid of no more configurations is counted by value, which takes tens of microseconds each."""
_LISTED = 100_000
"""A grid of no more configurations is listed, once, to draw among those that are left."""
_N_DRAWS = 1000
"""Draws after which a grid that is not listed is taken to hold little or nothing new."""

_Place: TypeAlias = "tuple[Branch, tuple[Choice, ...]]"
"""A cube, and a choice for each of its parameters."""


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
        All parameters: the cube's, if there is one, then the options' in order of appearance.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._cube, self._branches = branches(grid)
        self._by_label = {branch.label: branch for branch in self._branches}
        varied = (one for branch in self._branches for one in branch.dimensions.values())
        self.dimensions = (*([self._cube] if self._cube else []), *dict.fromkeys(varied))
        weights = [branch.weight for branch in self._branches]
        total = sum(weights)
        self._n = total if grid.is_finite else None
        self._shares = np.array([weight / total for weight in weights])

    @cached_property
    def n_configs(self) -> int | None:
        """Number of configurations, by value where there are up to 10 000; None with a range."""
        return self._n if self._n is None or self._n > _COUNTED else len(self._distinct)

    def suggest(self, trial: Asked) -> ConfigAlias:
        """Ask a trial for one parameter after the other; return the configuration they make.

        Parameters
        ----------
        trial
            Optuna's, or one that answers like it.

        Returns
        -------
        ConfigAlias
        """
        params: dict[str, Choice] = {}
        branch = self._branches[0]
        if self._cube is not None:
            label = trial.suggest_categorical(self._cube.name, self._cube.choices)
            params[self._cube.name] = label
            branch = self._by_label[label]
        for dimension in branch.dimensions.values():
            params[dimension.name] = dimension.ask(trial)
        return self._config(params)

    def decode(self, params: Params) -> ConfigAlias | None:
        """Return the configuration that a trial's parameters stand for.

        Parameters
        ----------
        params : Mapping
            By parameter, an alias or a number; numbers are rounded as their range does.

        Returns
        -------
        ConfigAlias or None
            None where a parameter is missing, because the trial was left half asked, or where the
            parameters are another space's.
        """
        branch: Branch | None = self._branches[0]
        needed = set()
        if self._cube is not None:
            needed.add(self._cube.name)
            branch = self._by_label.get(str(params.get(self._cube.name)))
        if branch is None or params.keys() != needed.union(branch.names):
            return None
        kvs = branch.kvs(params)
        return None if kvs is None else ConfigAlias(kvs)

    def encode(self, config: ConfigAlias) -> Params | None:
        """Return parameters that stand for a configuration; None where the grid does not have it.

        It may come from another grid; what counts are its values, whatever their aliases.
        """
        for branch in self._branches:
            choices = branch.choices(config)
            # A number between two that a range gives is in its bounds, but none of its values.
            if choices is not None and self._config(self._params(branch, choices)) == config:
                return self._params(branch, choices)
        return None

    def draw(self, rng: np.random.Generator) -> Params:
        """Draw the parameters of a configuration, all configurations being equally likely.

        A cube is as likely as it has configurations, where a range counts as ten values. Within a
        range, numbers are as likely as the range says.
        """
        branch = self._branches[int(rng.choice(len(self._branches), p=self._shares))]
        return self._params(branch, branch.draw(rng))

    def untried(self, tried: Container[str], rng: np.random.Generator) -> Params | None:
        """Draw among the configurations that have not been tried.

        Parameters
        ----------
        tried : container of str
            Digests of those that have been.
        rng : numpy.random.Generator
            Where chance comes from.

        Returns
        -------
        Params or None
            None where all have been tried, which is certain in a grid without ranges; with ranges
            it means that a thousand draws gave nothing new.
        """
        if self._n is not None and self._n <= _LISTED:
            return self._one_left(self._distinct.items(), tried, rng)
        for _ in range(_N_DRAWS):
            params = self.draw(rng)
            if self._config(params).digest not in tried:
                return params
        return None if self._n is None else self._one_left(self._listed(), tried, rng)

    def examples(self) -> list[ConfigAlias]:
        """List few configurations that show everything once.

        Returns
        -------
        list of ConfigAlias
            In the grid's order, all different by value. Every cube is there, with each value of
            its options and both ends of its ranges at least once: of each cube, as many as the
            longest of its options has values. One that two cubes have may show in either's place.
        """
        shown = (
            self._config(self._params(branch, choices))
            for branch in self._branches
            for choices in branch.examples()
        )
        return list(dict.fromkeys(shown))

    @cached_property
    def _distinct(self) -> dict[str, _Place]:
        """In a grid without ranges, by digest, the first place of each configuration."""
        found: dict[str, _Place] = {}
        for digest, place in self._listed():
            found.setdefault(digest, place)
        return found

    def _listed(self) -> Iterator[tuple[str, _Place]]:
        for branch in self._branches:
            for choices in branch.combinations():
                yield self._config(self._params(branch, choices)).digest, (branch, choices)

    def _one_left(
        self, listed: Iterable[tuple[str, _Place]], tried: Container[str], rng: np.random.Generator
    ) -> Params | None:
        left = [place for digest, place in listed if digest not in tried]
        return self._params(*left[int(rng.integers(len(left)))]) if left else None

    def _params(self, branch: Branch, choices: Sequence[Choice]) -> Params:
        cube = {self._cube.name: branch.label} if self._cube is not None else {}
        return {**cube, **dict(zip(branch.names, choices, strict=True))}

    def _config(self, params: Params) -> ConfigAlias:
        """Decode parameters that are known to be of this space."""
        config = self.decode(params)
        assert config is not None, f"{params} are no parameters of {self.grid!r}"
        return config


def configuration(grid: Grid, options: Mapping[str, str]) -> ConfigAlias | None:
    """Find a configuration of a grid by its options' aliases; None where the grid lacks it."""
    cubes = [cube for cube in grid.cubes if {option.name for option in cube} == options.keys()]
    try:
        return next(iter(Grid(cubes).only(options))) if cubes else None
    except GridError:
        return None
