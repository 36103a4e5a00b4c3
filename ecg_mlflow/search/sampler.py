"""What every sampler takes, does and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

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


@dataclass(frozen=True)
class Trial:
    """A configuration that a sampler has chosen, once.

    Attributes
    ----------
    number
        Its place in the order of the asking, from 0.
    config
        What is to be tried.
    state
        What the sampler was told of it.
    """

    number: int
    config: ConfigAlias
    state: TrialState = TrialState.RUNNING


class Sampler(Protocol):
    """Chooses configurations one by one, and learns from what they reach.

    No configuration is chosen twice. One process asks and tells; which others train is no concern
    of a sampler's.
    """

    @property
    def is_exhaustive(self) -> bool:
        """Whether it lists the whole grid whatever it is told, so that all can be asked at once."""

    @property
    def n_trials(self) -> int:
        """How many trials there will be in all, as far as is known: those of `history` too."""

    def history(self) -> list[Trial]:
        """Return the trials of earlier sessions in order; RUNNING ones are to be gone on with."""

    def ask(self) -> Trial | None:
        """Choose the next configuration; None where there is nothing left to choose."""

    def tell(
        self, number: int, state: TrialState, values: Sequence[float] = (), note: str = ""
    ) -> None:
        """Take note of what has become of a trial.

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
