"""Comparisons made up of a few numbers, for the figures that draw them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ecg_mlflow.reports.study_results import Configuration, Results, TrainedRun
from ecg_mlflow.stats.comparison import Comparison, Estimate, Standing
from ecg_mlflow.stats.intervals import UNKNOWN, Interval
from ecg_mlflow.stats.metrics import higher_is_better
from ecg_mlflow.stats.pairs import PairTable, SeedSpread
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.stored_study import StoredStudy

STUDY = StoredStudy("study", "FINISHED", name="waves", client=None)


def standing(
    name: str,
    mean: float,
    *,
    metric: str = "f1",
    half: float | None = None,
    each: Sequence[float] = (),
    in_group: bool = False,
    parameters: float | None = None,
    ms_per_record: float | None = None,
) -> Standing:
    """Make a configuration with an interval over records of this half width."""
    records = UNKNOWN if half is None else Interval(mean - half, mean + half)
    repetitions = Interval(mean - half / 2, mean + half / 2) if each and half else UNKNOWN
    estimate = Estimate(mean, math.nan, repetitions, records, tuple(each) or (mean,))
    return Standing(
        name,
        (),
        parameters,
        ms_per_record,
        estimates={metric: estimate},
        p_value=1.0,
        in_group=in_group,
    )


def comparison_of(*standings: Standing, metric: str = "f1", level: float = 0.95) -> Comparison:
    """Rank configurations by their means."""
    sign = -1 if higher_is_better(metric) else 1
    means = np.array([sign * one.estimates[metric].mean for one in standings])
    ranked = tuple(standings[i] for i in np.argsort(means, kind="stable"))
    nothing = np.zeros((len(ranked), len(ranked)))
    pairs = PairTable(nothing, nothing, nothing, 1.0)
    return Comparison(metric, (metric,), level, 100, ranked, pairs, SeedSpread(), ())


def several(n: int, sizes: tuple[float, float] = (500, 500_000), words: int = 0) -> Comparison:
    """Make up configurations of three repetitions, half of them of one size.

    Those with a mean above 0.85 are in the group of the best, and the one in the middle, its
    smallest, at about 0.7; `words` make their names longer.
    """
    rng = np.random.default_rng(0)
    exponents = rng.uniform(*np.log10(sizes), n)
    exponents[n // 2 :] = exponents[0]  # many configurations differ in what costs no parameters
    exponents[n // 2] = exponents.min() - 0.01
    found = []
    for i, exponent in enumerate(exponents):
        center = 0.7 if i == n // 2 else rng.uniform(0.6, 0.9)
        each = (center + rng.normal(0, 0.02, 3)).tolist()
        mean = float(np.mean(each))
        name = f"layout=cna, filters=[8, 16, {i}]" + ", dropout=0.5" * words
        in_group = mean > 0.85 or i == n // 2
        size = float(round(10**exponent))
        found.append(standing(name, mean, half=0.06, each=each, in_group=in_group, parameters=size))
    return comparison_of(*found)


def configuration(
    name: str,
    tested: Sequence[Predictions],
    validated: Sequence[Predictions] | None = None,
    parameters: float = 1000.0,
) -> Configuration:
    """Make a configuration's repetitions, called name-0, name-1, ..."""
    metrics = {"trainable_parameters": parameters, "system/ms_per_record": 3.0}
    runs = []
    for i, test in enumerate(tested):
        known = {"options": {}, "repetition": i}
        child = StoredRun(f"{name}-{i}", "FINISHED", metrics=metrics, configuration=known)
        runs.append(TrainedRun(child, "best", test, validated[i] if validated else None))
    return Configuration(name, tuple(runs))


def results_of(*configurations: Configuration, notes: tuple[str, ...] = ()) -> Results:
    """A study that has validation records if its first configuration has predictions of them."""
    side = "validation" if configurations[0].runs[0].validation else "test"
    return Results((STUDY,), configurations, side, notes)
