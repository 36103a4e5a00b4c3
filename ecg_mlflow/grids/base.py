"""The interface that every range of values implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecg_mlflow.grids.kv import KV


class Range(ABC):
    """The values between two bounds, both included; an option takes it in place of a list.

    Attributes
    ----------
    low, high
        The bounds.
    """

    low: float
    high: float

    @abstractmethod
    def kv(self, x: float) -> KV:
        """Return the value for a number drawn in [low, high]; a number outside gives a bound."""

    @abstractmethod
    def at(self, share: float) -> KV:
        """Return the value at a quantile.

        Parameters
        ----------
        share
            The share of the range's distribution below the value, from 0 to 1. A uniformly drawn
            share therefore gives a value drawn from the range.
        """

    @abstractmethod
    def exactly(self, x: object) -> KV | None:
        """Return a number as a value of this range, unrounded; None if the range lacks it.

        A string that spells a number is accepted too, because a command line gives strings.
        """

    @abstractmethod
    def covers(self, other: Range) -> bool:
        """Return whether this range contains all values of another one."""

    def ends(self) -> tuple[KV, KV]:
        """Return the first and the last value."""
        return self.kv(self.low), self.kv(self.high)
