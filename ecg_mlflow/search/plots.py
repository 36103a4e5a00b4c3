"""Draw a search with Optuna, from what its trials reached, whichever sampler chose them.

They are drawn from a study made for that: in a search's own study the parameters are called and
spelt as suits the sampler, and a plain grid has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from ecg_mlflow.search.objective import Objective

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure
    from optuna.distributions import BaseDistribution

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
    with _drawing() as draw:
        from optuna.importance import FanovaImportanceEvaluator

        study = _study(trials, objectives)
        drawn = {}
        for i, objective in enumerate(objectives):
            suffix = f"_{objective.metric.replace('/', '_')}" if len(objectives) > 1 else ""
            shown: dict[str, Any] = {"target_name": objective.metric}
            if len(objectives) > 1:
                shown["target"] = partial(_value, i)
            drawn[f"optimisation_history{suffix}"] = draw("optimization_history", study, **shown)
            reached = {values[i] for _, values in trials}
            if len(reached) > 1 and study.trials[0].params:
                drawn[f"slices{suffix}"] = draw("slice", study, **shown)
                evaluator = FanovaImportanceEvaluator(seed=0)
                try:
                    found = draw("param_importances", study, evaluator=evaluator, **shown)
                except RuntimeError:  # no tree has found a split: next to no variance
                    continue
                drawn[f"importances{suffix}"] = found
        if len(objectives) in (2, 3):
            names = [objective.metric for objective in objectives]
            drawn["pareto_front"] = draw("pareto_front", study, target_names=names)
        return drawn


def _value(i: int, trial: optuna.trial.FrozenTrial) -> float:
    return float(trial.values[i])


@contextmanager
def _drawing() -> Iterator[Any]:
    """Give a function that calls Optuna's plots by name and returns readable figures.

    Optuna draws with pyplot, in a style of its own: what is drawn is taken out of pyplot's hands,
    and the process's style is as it was afterwards.
    """
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as plots

    from ecg_mlflow.search.optuna_sampler import quiet

    def draw(name: str, study: optuna.Study, **options: Any) -> Figure:
        axes = getattr(plots, f"plot_{name}")(study, **options)
        panels = list(axes.flat) if hasattr(axes, "flat") else [axes]
        figure: Figure = panels[0].figure
        plt.close(figure)
        if name == "slice":
            figure.set_size_inches(max(6.0, 3.2 * len(panels) + 1.0), 4.8)
            for panel in panels:
                for label in panel.get_xticklabels():
                    label.set(rotation=35, ha="right")
        return figure

    with quiet(), mpl.rc_context():
        yield draw


def _study(
    trials: Sequence[tuple[Options, Sequence[float]]], objectives: Sequence[Objective]
) -> optuna.Study:
    """Make a study of complete trials, with the options that vary as its parameters."""
    import optuna
    from optuna.study import StudyDirection
    from optuna.trial import create_trial

    names = dict.fromkeys(name for options, _ in trials for name in options)
    columns = {name: _column(options.get(name) for options, _ in trials) for name in names}
    varied = {name: column for name, column in columns.items() if len(set(column)) > 1}
    spaces = {name: _space(column) for name, column in varied.items()}
    ways = (StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE)
    study = optuna.create_study(directions=[ways[one.maximize] for one in objectives])
    for place, (_, values) in enumerate(trials):
        study.add_trial(
            create_trial(
                params={name: column[place] for name, column in varied.items()},
                distributions=spaces,
                values=list(values),
            )
        )
    return study


def _column(cells: Iterable[str | float | None]) -> list[Any]:
    """Return numbers as they are where all are numbers, and short words otherwise."""
    found = list(cells)
    if all(isinstance(cell, int | float) for cell in found):
        return found
    words = {cell: _ABSENT if cell is None else str(cell) for cell in found}
    short = {cell: _shortened(word) for cell, word in words.items()}
    if len(set(short.values())) < len(set(words.values())):
        short = words  # they differ in what was left out
    return [short[cell] for cell in found]


def _magnitude(word: str) -> float:
    """Return what words are ordered by: numbers by their size, others as they came, behind."""
    try:
        return float(word)
    except ValueError:
        return math.inf


def _shortened(word: str) -> str:
    half = _LONGEST // 2
    return word if len(word) <= _LONGEST else f"{word[: half - 1]}…{word[-half:]}"


def _space(column: Sequence[Any]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if any(isinstance(cell, str) for cell in column):
        words = sorted(dict.fromkeys(column), key=_magnitude)
        return CategoricalDistribution(tuple(words))
    low, high = float(min(column)), float(max(column))
    return FloatDistribution(low, high, log=low > 0 and high / low >= _WIDE)
