"""Draw a search with Optuna, from what its trials reached, whichever sampler chose them.

They are drawn from a study made for that: in a search's own study the parameters are called and
spelt as suits the sampler, and a plain grid has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import matplotlib as mpl
import matplotlib.pyplot as plt
import optuna
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import create_trial
from optuna.visualization import matplotlib as optuna_plots

from ecg_mlflow.search.objective import Objective
from ecg_mlflow.search.optuna_sampler import quiet

Options: TypeAlias = "Mapping[str, str | float]"

_ABSENT = "-"
"""The value of an option that a configuration doesn't have."""
_LONGEST = 24
"""Letters of a value that a picture has room for."""
_WIDE = 100
"""Ratio of the largest to the least number from which on a scale is logarithmic."""


def figures(
    trials: Sequence[tuple[Options, Sequence[float]]], objectives: Sequence[Objective]
) -> dict[str, Figure]:
    """Draw a search: each picture if there is something to see in it.

    Parameters
    ----------
    trials
        Options and values of those that are complete, in the order of the asking: by option, the
        alias of its value, or a number; and a value per objective.
    objectives
        What their values are of.

    Returns
    -------
    dict
        By name: ``optimisation_history``, what was reached trial by trial; ``slices``, what was
        reached with each value of an option, and ``importances``, how far the options decide it
        (fANOVA, Hutter, Hoos and Leyton-Brown, ICML 2014), if trials differ in what they reached.
        With several objectives there is one of each per objective, called
        ``importances_<metric>``, and with two or three a ``pareto_front``.
    """
    if not trials:
        return {}
    # Optuna draws in a style of its own: the process's is as it was afterwards.
    with quiet(), mpl.rc_context():
        study = _study(trials, objectives)
        drawn = {}
        for i, objective in enumerate(objectives):
            suffix = f"_{objective.metric.replace('/', '_')}" if len(objectives) > 1 else ""
            shown: dict[str, Any] = {"target_name": objective.metric}
            if len(objectives) > 1:
                shown["target"] = lambda trial, i=i: trial.values[i]
            drawn[f"optimisation_history{suffix}"] = _draw("optimization_history", study, **shown)
            reached = {values[i] for _, values in trials}
            if len(reached) > 1 and study.trials[0].params:
                drawn[f"slices{suffix}"] = _draw("slice", study, **shown)
                evaluator = FanovaImportanceEvaluator(seed=0)
                try:
                    found = _draw("param_importances", study, evaluator=evaluator, **shown)
                except RuntimeError:  # no tree has found a split: next to no variance
                    continue
                drawn[f"importances{suffix}"] = found
        if len(objectives) in (2, 3):
            names = [objective.metric for objective in objectives]
            drawn["pareto_front"] = _draw("pareto_front", study, target_names=names)
        return drawn


def _draw(name: str, study: optuna.Study, **options: Any) -> Figure:
    """Call one of Optuna's plots; return its figure, readable and out of pyplot's hands."""
    axes = getattr(optuna_plots, f"plot_{name}")(study, **options)
    panels = list(axes.flat) if hasattr(axes, "flat") else [axes]
    figure: Figure = panels[0].figure
    plt.close(figure)
    if name == "slice":
        figure.set_size_inches(max(6.0, 3.2 * len(panels) + 1.0), 4.8)
        for panel in panels:
            for label in panel.get_xticklabels():
                label.set(rotation=35, ha="right")
    return figure


def _study(
    trials: Sequence[tuple[Options, Sequence[float]]], objectives: Sequence[Objective]
) -> optuna.Study:
    """Make a study of complete trials, with the options that vary as its parameters."""
    params: list[dict[str, Any]] = [{} for _ in trials]
    distributions: dict[str, BaseDistribution] = {}
    for name in dict.fromkeys(name for options, _ in trials for name in options):
        column: list[Any] = [options.get(name, _ABSENT) for options, _ in trials]
        if len(set(column)) == 1:
            continue
        if any(isinstance(cell, str) for cell in column):
            words = _words(column)
            column = [words[cell] for cell in column]
            distributions[name] = CategoricalDistribution(tuple(dict.fromkeys(words.values())))
        else:
            low, high = min(column), max(column)
            is_log = low > 0 and high / low >= _WIDE
            distributions[name] = FloatDistribution(low, high, log=is_log)
        for mine, cell in zip(params, column, strict=True):
            mine[name] = cell
    study = optuna.create_study(directions=[one.direction for one in objectives])  # type: ignore[misc]
    for mine, (_, values) in zip(params, trials, strict=True):
        study.add_trial(create_trial(params=mine, distributions=distributions, values=[*values]))
    return study


def _words(column: Sequence[str | float]) -> dict[str | float, str]:
    """Spell the cells of a column, short where they stay apart: numbers first, by their size."""
    ordered = sorted({*column}, key=lambda cell: (isinstance(cell, str), cell))
    half = _LONGEST // 2
    whole = {cell: str(cell) for cell in ordered}
    short = {
        cell: word if len(word) <= _LONGEST else f"{word[: half - 1]}…{word[-half:]}"
        for cell, word in whole.items()
    }
    return short if len({*short.values()}) == len({*whole.values()}) else whole
