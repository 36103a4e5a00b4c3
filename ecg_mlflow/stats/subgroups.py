"""Metrics of groups of records, such as those of one sex, site or quarter of the ages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.intervals import UNKNOWN, Interval, metric_intervals
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.stats.scores import Floats

Value = str | float | None

#: Numbers with more different values are cut at their quartiles.
MOST_NUMBERS = 6
#: Words beyond the most frequent ones are put together.
MOST_WORDS = 12
NOT_KNOWN, OTHERS = "unknown", "other"
#: Without a positive record they are 0 whatever the model does right.
_OF_POSITIVES = frozenset({"f1", "precision"})


@dataclass(frozen=True)
class Subgroup:
    """The metrics of one group of records.

    Attributes
    ----------
    column, group
        Such as ``age`` and ``45-61``.
    n_records, n_positive
        How many there are, and how many of them are of the positive class.
    metrics
        By name; NaN where these records don't define it.
    intervals
        Bootstrap intervals over the group's records by name; NaN to NaN where there is none.
    """

    column: str
    group: str
    n_records: int
    n_positive: int
    metrics: dict[str, float]
    intervals: dict[str, Interval]

    @classmethod
    def of(
        cls,
        predictions: Predictions,
        column: str,
        group: str,
        metrics: Sequence[str],
        **bootstrap: Any,
    ) -> Subgroup:
        """Compute the metrics of records that are one group; see `subgroups`."""
        n_positive = int(predictions.is_positive.sum())
        intervals = metric_intervals(predictions, metrics, **bootstrap)
        found = {name: predictions.metrics.get(name, math.nan) for name in metrics}
        for name in _OF_POSITIVES & found.keys() if not n_positive else ():
            found[name], intervals[name] = math.nan, UNKNOWN
        return cls(column, group, len(predictions), n_positive, found, intervals)

    def cells(self) -> dict[str, object]:
        """Return the row of a table; a metric's bounds follow it."""
        found: dict[str, object] = {"column": self.column, "group": self.group}
        found |= {"records": self.n_records, "positive": self.n_positive}
        for name, value in self.metrics.items():
            interval = self.intervals[name]
            found |= {name: value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        return found


def subgroups(
    predictions: Predictions,
    values: Sequence[Value],
    name: str,
    metrics: Sequence[str],
    **bootstrap: Any,
) -> list[Subgroup]:
    """Compute metrics for each group of records that have one value in a column.

    Parameters
    ----------
    predictions
        Of one model.
    values
        ``(n_records,)`` cells of the column. Numbers (as text, too) of more than 6 different values
        are cut at their quartiles: ``<45``, ``45-61``, ``62-73``, ``>=74`` of whole numbers;
        ``4.5-6.1`` of others is without 6.1. Everything else is a group by itself; of more than 12,
        the rarest ones are together ``other``. None, NaN and empty text are ``unknown``.
    name
        Of the column.
    metrics
        Which ones. F1 and precision are not defined without positive records.
    **bootstrap
        ``level`` of the intervals, ``n_resamples`` and ``seed``, of each group alone; by default
        0.95, 2000 and 0.

    Returns
    -------
    list
        Ascending; ``other`` and ``unknown`` come last.

    Raises
    ------
    PredictionsError
        If there are not as many values as records, or no such metric.
    """
    if len(values) != len(predictions):
        raise PredictionsError(
            f"{name} has {len(values)} values for {len(predictions)} records; give one each, None "
            f"where it is unknown"
        )
    return [
        Subgroup.of(predictions.take(rows), name, label, metrics, **bootstrap)
        for label, rows in _groups(values)
    ]


def _groups(values: Sequence[Value]) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Yield each group's name and rows."""
    # A number that is NaN is written "nan" too.
    texts = ["" if one is None else str(one).strip() for one in values]
    known = np.array([text.lower() not in ("", "nan") for text in texts], bool)
    rows = np.flatnonzero(known)
    cells = [values[row] for row in rows.tolist()]
    try:
        numbers = np.array([float(one) for one in cells if one is not None], np.float64)
    except ValueError:
        numbers = np.array([math.inf])
    if np.isfinite(numbers).all():
        labels, order = _by_number(numbers)
    else:
        labels, order = _by_word([str(one) for one in cells])
    for label in order:
        yield label, rows[np.array(labels) == label]
    if not known.all():
        yield NOT_KNOWN, np.flatnonzero(~known)


def _by_word(words: list[str]) -> tuple[list[str], list[str]]:
    """Return each record's group, and the groups in their order."""
    names, counts = np.unique(np.array(words, dtype=np.str_), return_counts=True)
    if len(names) <= MOST_WORDS:
        return words, names.tolist()
    kept = sorted(names[np.argsort(-counts, kind="stable")[: MOST_WORDS - 1]].tolist())
    return [word if word in kept else OTHERS for word in words], [*kept, OTHERS]


def _by_number(numbers: Floats) -> tuple[list[str], list[str]]:
    """Return each record's group, and the groups in their order."""
    different = np.unique(numbers)
    if len(different) <= MOST_NUMBERS:
        return [f"{one:.15g}" for one in numbers], [f"{one:.15g}" for one in different]
    cuts = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75], method="higher"))
    # Where more than three quarters have the least value, they are a group, and the others one.
    cuts = cuts[cuts > different[0]] if cuts[-1] > different[0] else different[1:2]
    are_whole = bool((different == different.round()).all())
    form = ".15g" if are_whole else ".6g"
    between = [_span(low, high - are_whole, form) for low, high in pairwise(cuts)]
    names = [f"<{cuts[0]:{form}}", *between, f">={cuts[-1]:{form}}"]
    return [names[place] for place in np.searchsorted(cuts, numbers, "right")], names


def _span(low: float, high: float, form: str) -> str:
    return f"{low:{form}}" if low == high else f"{low:{form}}-{high:{form}}"
