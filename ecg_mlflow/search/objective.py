"""The metrics that a search optimises, and the direction in which each is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ecg_mlflow.errors import SearchError

DIRECTIONS = ("maximize", "minimize")
#: Words in the names of metrics of which less is better, where no direction is given.
_LESS_IS_BETTER = ("loss", "brier", "parameters", "seconds", "ms_per_record", "memory", "outside")


@dataclass(frozen=True)
class Objective:
    """A metric and its direction.

    Attributes
    ----------
    metric
        Name of a logged metric.
    maximize
        Whether more is better.
    """

    metric: str
    maximize: bool

    @property
    def direction(self) -> str:
        """``maximize`` or ``minimize``."""
        return DIRECTIONS[not self.maximize]

    def merit(self, value: float) -> float:
        """Return a number that is larger where the value is better; the worst for NaN."""
        if math.isnan(value):
            return -math.inf
        return value if self.maximize else -value

    def __str__(self) -> str:
        return f"{self.direction} {self.metric}"


def parse_objectives(metrics: str, directions: str | None = None) -> tuple[Objective, ...]:
    """Read ``"test_f1"``, or ``"test_f1, trainable_parameters"`` and ``"maximize, minimize"``.

    Without directions, metrics whose name says loss, parameters, seconds or memory are minimized
    and all others maximized.

    Raises
    ------
    SearchError
        If there is no metric, one comes twice, or directions are unknown or of another number.
    """
    names = _listed(metrics)
    if not names or len(set(names)) < len(names):
        raise SearchError(f"objective={metrics!r} must name one metric, or several, each once")
    if directions is None:
        return tuple(Objective(n, not any(word in n for word in _LESS_IS_BETTER)) for n in names)
    ways = _listed(directions)
    if len(ways) != len(names) or not set(ways) <= set(DIRECTIONS):
        raise SearchError(
            f"direction={directions!r} must say {' or '.join(DIRECTIONS)} for each of the "
            f"{len(names)} objectives ({', '.join(names)})"
        )
    return tuple(Objective(n, w == DIRECTIONS[0]) for n, w in zip(names, ways, strict=True))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def mean(values: Iterable[float]) -> float:
    """Return the mean; NaN for nothing."""
    known = list(values)
    return fmean(known) if known else math.nan


def pareto_front(values: Sequence[Sequence[float]], objectives: Sequence[Objective]) -> list[int]:
    """Return the places of those that no other one beats in one objective and equals in the rest.

    Parameters
    ----------
    values
        ``(n, n_objectives)``; one with a NaN is never on the front.
    objectives
        Which of them are better high, and which low.
    """
    signs = [1 if one.maximize else -1 for one in objectives]
    merits = np.asarray(values, dtype=float).reshape(-1, len(signs)) * signs
    #: By row and column: whether the second is as good as the first in every objective.
    as_good = np.all(merits[None] >= merits[:, None], axis=2)
    is_beaten = np.any(as_good & ~as_good.T, axis=1)
    is_known = ~np.any(np.isnan(merits), axis=1)
    return [int(place) for place in np.flatnonzero(is_known & ~is_beaten)]
