"""Trials: a configuration with its repetitions, and how trials are compared with each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ecg_mlflow.records.splits import TEST
from ecg_mlflow.search.objective import Objective, mean, pareto_front
from ecg_mlflow.search.pruners import is_among_best
from ecg_mlflow.search.sampler import TrialState
from ecg_mlflow.study.plan import ConfigPlan, PlannedRun
from ecg_mlflow.study.search_config import SearchConfig

#: Evaluations of a run: iteration, counted from zero, and metrics.
Tests: TypeAlias = "Iterable[tuple[int, Mapping[str, float]]]"
#: With adaptive repetitions, the best third of those that have as many get another one.
CONTENDERS = 3


@dataclass
class OpenTrial:
    """A configuration under way, or one that has ended.

    Attributes
    ----------
    number
        As its sampler counts.
    config, runs
        What it trains: a run per repetition.
    rungs
        Ages, in epochs, at which it is judged; each is one at which it is evaluated.
    bracket
        The group that it is compared with.
    state
        How far it has come.
    granted
        How many of its repetitions may be trained; 0 for a trial of an earlier session that has
        not been taken up yet.
    run_ids
        By repetition, the child run, or the run of another study that was taken over; empty where
        one that failed is to begin anew.
    under_way
        Repetitions that a worker has, or has had.
    curves
        By repetition, the objective by age.
    metrics
        By repetition, what the finished ones have reached.
    failed
        Repetitions that have failed.
    withdrawn
        Repetitions that were given up, unless they came to their end before they heard of it.
    judged
        By rung, how many repetitions had reached it when it was judged there last.
    ended_ms
        When the last of its runs ended, as far as that was before this session.
    """

    number: int
    config: ConfigPlan
    runs: tuple[PlannedRun, ...]
    rungs: tuple[float, ...] = ()
    bracket: int = 0
    state: TrialState = TrialState.RUNNING
    granted: int = 0
    run_ids: dict[int, str] = field(default_factory=dict)
    under_way: set[int] = field(default_factory=set)
    curves: dict[int, dict[float, float]] = field(default_factory=dict)
    metrics: dict[int, Mapping[str, float]] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    withdrawn: set[int] = field(default_factory=set)
    judged: dict[float, int] = field(default_factory=dict)
    ended_ms: int = 0

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.state is TrialState.RUNNING

    @property
    def n_ended(self) -> int:
        """How many repetitions have finished or failed."""
        return len(self.metrics) + len(self.failed)

    @property
    def has_all_ended(self) -> bool:
        """Whether all repetitions that it was granted have finished or failed."""
        return 0 < self.granted <= self.n_ended

    @property
    def n_pruned(self) -> int:
        """How many repetitions were given up before their end."""
        return len(self.withdrawn - self.metrics.keys())

    @property
    def n_runs(self) -> int:
        """How many runs it has, as far as is known now."""
        return self.granted if self.is_running else self.n_ended + self.n_pruned

    def withdraw(self) -> list[PlannedRun]:
        """Give it up, with all its repetitions; return the runs that have not ended."""
        runs = self.runs[: self.granted]
        over = self.metrics.keys() | self.failed
        left = [run for run in runs if run.repetition not in over]
        self.withdrawn.update(run.repetition for run in left)
        return left

    def note_tests(self, repetition: int, tests: Tests, metric: str) -> None:
        """Record evaluations of one repetition."""
        curve = self.curves.setdefault(repetition, {})
        for iteration, metrics in tests:
            age = (iteration + 1) / self.config.iterations_per_epoch
            curve[age] = metrics.get(metric, math.nan)

    def values_at(self, age: float) -> list[float]:
        """Return the objective at an age, of the repetitions that have reached it, in their order.

        Of a repetition that was not evaluated at this very age, the last value before it counts.
        """
        return [
            curve[max(one for one in curve if one <= age)]
            for _, curve in sorted(self.curves.items())
            if curve and min(curve) <= age <= max(curve)
        ]

    def due_rung(self) -> float | None:
        """Return the highest age at which it can be judged anew, if any.

        All repetitions that are under way must have reached it: the mean over the fastest of them
        would change a moment later.
        """
        ages = [max(self.curves.get(one, ()), default=0.0) for one in self.under_way]
        for age in reversed(self.rungs):
            is_new = len(self.values_at(age)) > self.judged.get(age, 0)
            if is_new and age <= min(ages, default=math.inf):
                return age
        return None

    def values(self, objectives: Sequence[Objective], first: int | None = None) -> list[float]:
        """Return the mean of each objective over the finished repetitions, or the first so many."""
        counted = [m for one, m in self.metrics.items() if first is None or one < first]
        return [mean(m.get(one.metric, math.nan) for m in counted) for one in objectives]

    def options(self) -> dict[str, str | float]:
        """Return what its configuration shows: numbers as numbers, all else by its alias."""
        cells: dict[str, str | float] = {}
        for name, alias in self.config.config.alias().items():
            value = self.config.config[name]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            cells[name] = value if is_number and str(value) == alias else alias  # type: ignore[assignment]
        return cells

    def row(self) -> dict[str, Any]:
        """Describe it in a row of a table; see `trial_scheduler.TrialScheduler.rows`."""
        names = dict.fromkeys(name for metrics in self.metrics.values() for name in metrics)
        return {
            "trial": self.number,
            "state": self.state.value,
            **self.options(),
            "runs": len(self.metrics),
            **{name: mean(m[name] for m in self.metrics.values() if name in m) for name in names},
        }


def rungs_of(config: ConfigPlan, ages: Iterable[float]) -> tuple[float, ...]:
    """Move ages to the first evaluation at or after each; the end is none, nothing being left."""
    tests = config.tests.iterations(config.n_iterations)
    evaluated = [(test + 1) / config.iterations_per_epoch for test in tests][:-1]
    moved = (next((one for one in evaluated if one >= age), None) for age in ages)
    return tuple(sorted({one for one in moved if one is not None}))


def judge_at_rung(
    trial: OpenTrial, age: float, trials: Iterable[OpenTrial], search: SearchConfig
) -> tuple[str, float] | None:
    """Compare a trial with the others of its bracket that have come to the same age.

    Compared are means over equally many repetitions. Against the first repetitions of those that
    got no second one a mean of two would look bad: they were chosen for being good, by luck too.
    The trial is noted as judged at this rung and those before.

    Returns
    -------
    Why it is given up and its value there; None where it goes on.
    """
    assert search.pruner is not None
    objective, reached = search.first, trial.values_at(age)
    n, value = len(reached), mean(reached)
    trial.judged |= {rung: n for rung in trial.rungs if rung <= age}
    others = [
        objective.merit(mean(found[:n]))
        for other in trials
        if other is not trial and other.bracket == trial.bracket
        if len(found := other.values_at(age)) >= n
    ]
    merit = objective.merit(value)
    if search.pruner.keeps(merit, others):
        return None
    better = sum(other > merit for other in others)
    reason = (
        f"pruned at epoch {age:g}: {objective.metric} {value:.4f} there, where {better} of "
        f"{len(others)} others were better"
    )
    return reason, value


def is_contender(trial: OpenTrial, trials: Iterable[OpenTrial], objective: Objective) -> bool:
    """Say whether a trial gets another repetition: among the best third of those with as many.

    Their means are over as many repetitions as this one has.
    """
    level = trial.granted

    def merit(one: OpenTrial) -> float:
        return objective.merit(one.values([objective], level)[0])

    others = [one for one in trials if one is not trial and one.n_ended >= level and one.metrics]
    return is_among_best(merit(trial), [*map(merit, others)], CONTENDERS)


def finalists(
    trials: Iterable[OpenTrial], objectives: Sequence[Objective], n: int
) -> list[OpenTrial]:
    """Return the trials that a study ends with, the best first.

    They have all their repetitions. With several objectives the whole Pareto front comes first.
    """
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    most = max((len(trial.metrics) for trial in done), default=0)
    done = [trial for trial in done if len(trial.metrics) == most]
    values = [trial.values(objectives) for trial in done]
    front = pareto_front(values, objectives) if len(objectives) > 1 else []
    order = sorted(
        range(len(done)), key=lambda i: (i not in front, -objectives[0].merit(values[i][0]))
    )
    return [done[place] for place in order[: max(n, len(front))]]


def is_scored(metrics: Mapping[str, float]) -> bool:
    """Say whether a run has been scored on the test records."""
    return any(name.startswith(f"{TEST}_") for name in metrics)
