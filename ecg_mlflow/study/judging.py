"""Trials held against each other: at a rung, and where another repetition is to be had."""

from __future__ import annotations

from collections.abc import Iterable

from ecg_mlflow.search.objective import Objective
from ecg_mlflow.search.pruners import is_among_best
from ecg_mlflow.study.search_config import Contest
from ecg_mlflow.study.trials import OpenTrial

#: With adaptive repetitions, the best third of those that have as many get another one.
CONTENDERS = 3


def judge(
    trial: OpenTrial, age: float, trials: Iterable[OpenTrial], contest: Contest
) -> tuple[str, float] | None:
    """Hold a trial against the others of its bracket that have come to the same age.

    Compared are means over equally many repetitions. Against the first repetitions of those that
    got no second one a mean of two would look bad: they were chosen for being good, by luck too.

    Parameters
    ----------
    trial
        Is noted as judged there, and at the rungs before.
    age
        One of its rungs, in epochs.
    trials
        All of the study; those that were given up count with what they had reached.
    contest
        How they are compared.

    Returns
    -------
    Why it is given up and its value there; None where it goes on.
    """
    n_reached = trial.n_reached(age)
    trial.judged |= {rung: n_reached for rung in trial.rungs if rung <= age}
    objective, value = contest.first, trial.value_at(age, n_reached)
    assert contest.pruner is not None
    assert value is not None
    others = [
        objective.merit(found)
        for other in trials
        if other is not trial
        and other.bracket == trial.bracket
        and (found := other.value_at(age, n_reached)) is not None
    ]
    merit = objective.merit(value)
    if contest.pruner.keeps(merit, others):
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

    others = [
        merit(other)
        for other in trials
        if other is not trial and other.n_ended >= level and other.metrics
    ]
    return is_among_best(merit(trial), others, CONTENDERS)
