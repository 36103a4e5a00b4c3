"""The whole grid, in its order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ecg_mlflow.grids import ConfigAlias, Grid
from ecg_mlflow.search.sampler import Trial, TrialState


class GridSampler:
    """Asks for every configuration of a grid once, whatever it is told.

    There is no history to keep: what was asked is known from the grid.

    Parameters
    ----------
    grid
        Configurations that are equal by value count as one.

    Raises
    ------
    GridError
        If an option is a range: there are no configurations to list.
    """

    is_exhaustive = True

    def __init__(self, grid: Grid) -> None:
        self._states: list[TrialState] = []
        self._asked: set[ConfigAlias] = set()
        self._waiting = deque(grid.unique()[0])

    @property
    def n_trials(self) -> int:
        """How many have been asked, and how many are left."""
        return len(self._states) + len(self._waiting)

    def history(self) -> list[Trial]:
        """Return nothing: each session asks from the start."""
        return []

    def ask(self) -> Trial | None:
        """Return the next configuration of the grid."""
        if not self._waiting:
            return None
        trial = Trial(len(self._states), self._waiting.popleft())
        self._states.append(trial.state)
        self._asked.add(trial.config)
        return trial

    def tell(
        self, number: int, state: TrialState, values: Sequence[float] = (), note: str = ""
    ) -> None:
        """Check that there is such a trial, and that it was under way."""
        assert 0 <= number < len(self._states), f"trial {number} was not asked for"
        assert state is not TrialState.RUNNING, f"trial {number} is told that it is under way"
        assert self._states[number] is TrialState.RUNNING, f"trial {number} was told before"
        self._states[number] = state

    def update(self, grid: Grid) -> None:
        """Drop what has not been asked, and go on with what is new in this grid."""
        self._waiting = deque(config for config in grid.unique()[0] if config not in self._asked)
