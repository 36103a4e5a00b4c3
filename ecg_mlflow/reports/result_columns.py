"""The columns of a study's results that say which run a row is of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecg_mlflow.tracking.stored_run import STATUSES, StoredRun
from ecg_mlflow.tracking.stored_study import StoredStudy

#: Columns of every frame beside options and metrics.
COLUMNS = ("config", "repetition", "run", "status", "iteration")


def run_columns(
    found: StoredStudy, runs: Sequence[StoredRun], lengths: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Return the columns that have one value for each run.

    Parameters
    ----------
    found
        The study: its options and their values in the grid's order, numbers in rising order where
        a sampler chooses them.
    runs
        Those that get rows.
    lengths
        How many, of shape ``(n_runs,)``.

    Returns
    -------
    Each of shape ``(n_rows,)``: options and texts as categoricals, numbers as int32.
    """
    columns: dict[str, Any] = {}
    metrics = {name for run in found.runs for name in run.metrics}
    for name, aliases in _option_values(found).items():
        numbers = _as_numbers(aliases)
        known: Mapping[str, object] = dict(zip(aliases, numbers or aliases, strict=True))
        categories: Sequence[object] = numbers or aliases
        if numbers and not found.planned:
            categories = sorted(numbers)
        values = [known.get(run.options.get(name, "")) for run in runs]
        column = f"option_{name}" if name in COLUMNS or name in metrics else name
        columns[column] = _categorical(values, categories, lengths)
    for name in ("config", "repetition"):
        each = np.array([getattr(run, name) for run in runs], np.int32)
        columns[name] = np.repeat(each, lengths)
    run_ids = [run.run_id for run in runs]
    columns["run"] = _categorical(run_ids, run_ids, lengths)
    columns["status"] = _categorical([run.shown_status for run in runs], STATUSES, lengths)
    return columns


def _categorical(values: Sequence[object], categories: Any, lengths: npt.NDArray[np.int64]) -> Any:
    """Repeat each value so many times; a value that is no category is missing."""
    places = {category: code for code, category in enumerate(categories)}
    codes = np.array([places.get(value, -1) for value in values], np.int32)
    return pd.Categorical.from_codes(np.repeat(codes, lengths), pd.Index(categories))


def _option_values(found: StoredStudy) -> dict[str, list[str]]:
    """Return the aliases of each option's values: planned ones in the grid's order, then others."""
    values: dict[str, dict[str, None]] = {}
    for options in (*found.planned, *(run.options for run in found.runs)):
        for name, alias in options.items():
            values.setdefault(name, {})[alias] = None
    return {name: list(aliases) for name, aliases in values.items()}


def _as_numbers(aliases: Sequence[str]) -> list[int] | list[float] | None:
    """Return the numbers that aliases spell; None where one is none, or two are the same."""
    for kind in (int, float):
        try:
            numbers = [kind(alias) for alias in aliases]
        except ValueError:
            continue
        is_plain = all(math.isfinite(number) for number in numbers)
        return numbers if is_plain and len(set(numbers)) == len(numbers) else None
    return None
