"""Pictures of a search, drawn from what its trials reached, whichever sampler chose them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.search import charts
from ecg_mlflow.search.base import TrialState
from ecg_mlflow.search.importances import importances

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Result:
    """What has become of a trial.

    Attributes
    ----------
    number
        In the order of the asking.
    options
        By option, the alias of its value, or the number where the option is a range.
    values
        One per objective, or None.
    state
        Only COMPLETE ones are compared with each other.
    """

    number: int
    options: Mapping[str, str | float]
    values: tuple[float, ...] | None
    state: TrialState


def figures(
    trials: Sequence[Result], objectives: Sequence[tuple[str, bool]], log: Container[str] = ()
) -> dict[str, Figure]:
    """Draw a search: each picture if there is something to see in it.

    Parameters
    ----------
    trials
        All of them, in any order.
    objectives
        Name of each, and whether it is maximized.
    log
        Options that are shown on a logarithmic scale.

    Returns
    -------
    dict
        ``optimisation_history``, what the trials reached one after the other, if one is complete.
        ``slices``, what they reached with each value of an option, and ``importances``, how far
        the options decide it, if complete trials differ in what they reached. ``pareto_front``,
        two or three objectives against each other, if two trials are complete.
    """
    ordered = sorted(trials, key=lambda trial: trial.number)
    done = [trial for trial in ordered if trial.state is TrialState.COMPLETE and trial.values]
    if not done:
        return {}
    numbers = np.array([trial.number for trial in done])
    reached = np.array([trial.values for trial in done], dtype=np.float64)
    others = {
        state.value: [trial.number for trial in ordered if trial.state is state]
        for state in (TrialState.PRUNED, TrialState.FAILED)
    }
    drawn = {"optimisation_history": charts.history(numbers, reached, others, objectives)}
    columns = _columns(done)
    shares = {
        name: importances(columns, reached[:, i], log) for i, (name, _) in enumerate(objectives)
    }
    told = {name: one for name, one in shares.items() if one}
    if told:
        drawn["importances"] = charts.importances(told)
        drawn["slices"] = charts.slices(numbers, reached, columns, objectives, log)
    if len(objectives) in (2, 3) and len(done) > 1:
        front = pareto_front(reached.tolist(), [is_maximized for _, is_maximized in objectives])
        drawn["pareto_front"] = charts.pareto_front(numbers, reached, front, objectives)
    return drawn


def pareto_front(values: Sequence[Sequence[float]], maximize: Sequence[bool]) -> list[int]:
    """Find what nothing else beats: no other is as good in all objectives and better in one.

    Parameters
    ----------
    values
        One row per candidate, one column per objective; NaN is the worst.
    maximize
        Whether more is better, for each objective.

    Returns
    -------
    list of int
        Indices of rows, ascending; equal ones are all among them or none.
    """
    signs = np.where(maximize, 1.0, -1.0)
    merits = np.asarray(values, dtype=np.float64).reshape(-1, len(signs)) * signs
    merits = np.where(np.isnan(merits), -np.inf, merits)
    return [
        i
        for i, merit in enumerate(merits)
        if not ((merits >= merit).all(axis=1) & (merits > merit).any(axis=1)).any()
    ]


def _columns(done: Sequence[Result]) -> dict[str, list[str | float | None]]:
    """Collect what each option was in each trial, for the options that vary."""
    names = dict.fromkeys(name for trial in done for name in trial.options)
    columns = {name: [trial.options.get(name) for trial in done] for name in names}
    return {name: column for name, column in columns.items() if len(set(column)) > 1}
