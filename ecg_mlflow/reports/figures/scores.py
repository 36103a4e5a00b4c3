"""What the pictures of a comparison show of a configuration and of a subgroup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Interval = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """One configuration's metric.

    Attributes
    ----------
    name
        As the table of the comparison writes it.
    mean
        Over the repetitions; NaN where the metric is not defined.
    over_records, over_repetitions
        Intervals, from the lower bound to the upper one; None where there is none.
    repetitions
        The metric of each repetition.
    in_group
        Whether it can't be told from the best.
    marks
        What else it is, such as ``("smallest", "fastest")``.
    parameters
        How many its model has; None where that is not known.
    """

    name: str
    mean: float
    over_records: Interval | None = None
    over_repetitions: Interval | None = None
    repetitions: tuple[float, ...] = ()
    in_group: bool = False
    marks: tuple[str, ...] = ()
    parameters: int | None = None


@dataclass(frozen=True)
class Subgroup:
    """The metric of the records that have one value in a column of the labels file.

    Attributes
    ----------
    column, value
        Such as ``sex`` and ``F``.
    n_records, n_positive
        How many there are, and how many of them are of the positive class.
    metric
        NaN where these records don't define it.
    interval
        None where there is none.
    """

    column: str
    value: str
    n_records: int
    n_positive: int
    metric: float
    interval: Interval | None = None


def ranked(scores: Sequence[Score], higher_is_better: bool = True) -> list[tuple[int, Score]]:
    """Sort by mean, best first, and number from 1; what is NaN comes last."""
    sign = -1 if higher_is_better else 1
    order = sorted(scores, key=lambda one: (math.isnan(one.mean), sign * one.mean))
    return list(enumerate(order, start=1))


def pareto_front(scores: Sequence[Score], higher_is_better: bool = True) -> list[Score]:
    """Return those that no other beats in the metric with as few parameters, smallest first."""
    sign = -1 if higher_is_better else 1
    front: list[Score] = []
    for score in sorted(scores, key=lambda one: (one.parameters or 0, sign * one.mean)):
        if not front or sign * score.mean < sign * front[-1].mean:
            front.append(score)
    return front


def count(parameters: float) -> str:
    """Return ``850``, ``2.4k`` or ``11.2M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if parameters >= size:
            return f"{parameters / size:.3g}{letter}"
    return f"{parameters:.0f}"


def told(value: float, interval: Interval | None = None) -> str:
    """Return ``0.812 [0.751, 0.864]``, or what there is of it."""
    if math.isnan(value):
        return "not defined"
    if interval is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def interval_ends(interval: Interval | None, mean: float) -> Interval:
    """Return the lengths of an error bar below and above a mean; none where there is none."""
    if interval is None:
        return 0.0, 0.0
    return max(0.0, mean - interval[0]), max(0.0, interval[1] - mean)
