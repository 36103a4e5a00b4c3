"""How far each option decides what is reached."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from ecg_mlflow.search.quiet import quiet

Column: TypeAlias = "Sequence[str | float | None]"
"""What one option was in each trial; None in those that don't have it."""


def importances(
    columns: Mapping[str, Column], reached: NDArray[np.float64], log: Container[str] = ()
) -> dict[str, float]:
    """Return the share of the variance that each option alone accounts for.

    A random forest learns the objective from the options, and its variance over the whole space is
    split up among them (fANOVA, Hutter, Hoos and Leyton-Brown, ICML 2014); what options do together
    only is left out, and the rest is scaled to 1.

    Parameters
    ----------
    columns
        By option.
    reached
        The objective, shape (n_trials,).
    log
        Options whose numbers count by their orders of magnitude.

    Returns
    -------
    dict
        By option, the most important first; empty where the options tell nothing, because all
        trials have reached the same, or because none of the options varies.
    """
    encoded = {name: _encoded(column, name in log) for name, column in columns.items()}
    varied = {name: column for name, column in encoded.items() if len(set(column)) > 1}
    if not varied or not np.ptp(reached):
        return {}
    spaces = {name: _space(column) for name, column in varied.items()}
    with quiet():
        study = optuna.create_study()
        for row, value in zip(zip(*varied.values(), strict=True), reached, strict=True):
            params = dict(zip(varied, row, strict=True))
            study.add_trial(create_trial(params=params, distributions=spaces, value=float(value)))
        try:
            shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
        except RuntimeError:  # no tree has found a split: the objective has next to no variance
            return {}
    return {name: float(share) for name, share in shares.items()} | dict.fromkeys(
        encoded.keys() - shares.keys(), 0.0
    )


def _encoded(column: Column, is_log: bool) -> list[str] | list[float]:
    """Write the column of a listed option as strings, that of a range as finite numbers."""
    numbers = [x for x in column if isinstance(x, int | float)]
    if any(isinstance(x, str) for x in column) or not numbers:
        return ["" if x is None else str(x) for x in column]
    # In the middle, so that not to have the option is not taken for one of its extremes.
    middle = float(np.median(numbers))
    filled = np.array([middle if x is None else float(x) for x in column])
    return [float(x) for x in (np.log10(filled) if is_log else filled)]


def _space(column: list[str] | list[float]) -> BaseDistribution:
    strings = [x for x in column if isinstance(x, str)]
    if strings:
        return CategoricalDistribution(tuple(dict.fromkeys(strings)))
    return FloatDistribution(min(map(float, column)), max(map(float, column)))
