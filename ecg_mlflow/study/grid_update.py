"""Change a study's grid by its results, as the grid file's `update_grid` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecg_mlflow.errors import EcgMlflowError, ResearchError
from ecg_mlflow.grids import Grid, Option
from ecg_mlflow.training.schedule import Schedule

#: Takes a `pandas.DataFrame` of results.
UpdateGrid = Callable[[Any], "Grid | Option | None"]


@dataclass(frozen=True)
class GridUpdate:
    """When and how a grid is changed.

    Attributes
    ----------
    update_grid
        Takes the results so far, a row per configuration that has ended, and returns the grid to
        go on with, or None to keep the present one.
    schedule
        When: after which configurations, counted from 0 in the order in which they end; the last
        is the one after which there is nothing left to do.
    """

    update_grid: UpdateGrid
    schedule: Schedule

    def next_grid(
        self, n_ended: int, last: bool, rows: Callable[[], Sequence[Mapping[str, Any]]]
    ) -> Grid | None:
        """Return the next grid; None to keep the present one.

        Parameters
        ----------
        n_ended
            How many configurations have ended, failed and pruned ones too.
        last
            Whether there is nothing left to do.
        rows
            Returns the results.

        Raises
        ------
        ResearchError
            If the grid file's function fails or returns something else.
        """
        if not self.schedule.fires(n_ended - 1, last):
            return None
        import pandas as pd

        try:
            found = self.update_grid(pd.DataFrame(list(rows())))
        except Exception as error:
            what = str(error)
            if not isinstance(error, EcgMlflowError):
                what = (
                    f"it failed on the results of {n_ended} configurations with "
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
