"""Change a study's grid by its results, as the grid file's `update_grid` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ecg_mlflow.errors import EcgMlflowError, ResearchError
from ecg_mlflow.grids import Grid, Option

#: Takes a `pandas.DataFrame` of the results so far, a row per configuration that has ended;
#: returns the grid to go on with, or None to keep the present one.
UpdateGrid = Callable[[Any], "Grid | Option | None"]


def updated_grid(update_grid: UpdateGrid, rows: Sequence[Mapping[str, Any]]) -> Grid | None:
    """Return the next grid; None to keep the present one.

    Raises
    ------
    ResearchError
        If the grid file's function fails or returns something else.
    """
    import pandas as pd

    try:
        found = update_grid(pd.DataFrame(list(rows)))
    except Exception as error:
        what = str(error)
        if not isinstance(error, EcgMlflowError):
            what = (
                f"it failed on the results of {len(rows)} configurations with "
                f"{type(error).__name__}: {error}. Correct the grid file and resume the study"
            )
        raise ResearchError(f"update_grid: {what}") from error
    if isinstance(found, Option):
        return Grid(found)
    if found is not None and not isinstance(found, Grid):
        raise ResearchError(
            f"update_grid must return a grid, an option, or None to keep the present grid, not "
            f"{found!r} of type {type(found).__name__}"
        )
    return found
