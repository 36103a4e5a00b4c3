"""The interface of all samplers, and the sampler that lists the whole grid."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from ecg_mlflow.grids import ConfigAlias, Grid


class TrialState(Enum):
    """How far a trial has come."""

    RUNNING = "running"
    """It was asked for, and nothing was told of it yet."""
    COMPLETE = "complete"
    """It has its values."""
    PRUNED = "pruned"
    """It was stopped early, for others are better at the same age."""
    FAILED = "failed"
    """It has no values: its runs failed."""


class Trial(NamedTuple):
    """A configuration that a sampler has chosen, once, and its place in the order of the asking."""

    number: int
    config: ConfigAlias


class Sampler(Protocol):
    """Chooses configurations one by one, and learns from what they reach.

    No configuration is chosen twice. A sampler stores nothing: to resume a search, ask for its
    trials again and tell their outcomes, in the same order.
    """

    @property
    def n_trials(self) -> int:
        """How many trials there will be in all, as far as is known."""

    def ask(self) -> Trial | None:
        """Choose the next configuration; None where there is nothing left to choose."""

    def tell(
        self, number: int, state: TrialState, values: Sequence[float] = (), note: str = ""
    ) -> None:
        """Record the outcome of a trial, once.

        Parameters
        ----------
        number
            Of the trial.
        state
            Anything but RUNNING.
        values
            One per objective, for a COMPLETE one; for a PRUNED one, the last that is known of it,
            or nothing.
        note
            Why it was pruned or failed.
        """

    def update(self, grid: Grid) -> None:
        """Choose from this grid from now on; trials under way are not concerned."""

    def write_journal(self, path: Path) -> None:
        """Write the search as an Optuna journal, if there is anything to write."""


class GridSampler:
    """Asks for every configuration of a grid once, in the grid's order, whatever it is told.

    Parameters
    ----------
    grid
        Configurations that are equal by value count as one.

    Raises
    ------
    GridError
        If an option is a range: there are no configurations to list.
    """

    def __init__(self, grid: Grid) -> None:
        self._asked: set[ConfigAlias] = set()
        self.update(grid)

    @property
    def n_trials(self) -> int:
        """How many have been asked, and how many are left."""
        return len(self._asked) + len(self._waiting)

    def ask(self) -> Trial | None:
        """Return the next configuration of the grid."""
        if not self._waiting:
            return None
        trial = Trial(len(self._asked), self._waiting.popleft())
        self._asked.add(trial.config)
        return trial

    def tell(
        self, number: int, state: TrialState, values: Sequence[float] = (), note: str = ""
    ) -> None:
        """Learn nothing."""

    def update(self, grid: Grid) -> None:
        """Drop what has not been asked; ask for what is new in this grid."""
        self._waiting = deque(one for one in grid.unique()[0] if one not in self._asked)

    def write_journal(self, path: Path) -> None:
        """Write nothing: a grid is no search."""
