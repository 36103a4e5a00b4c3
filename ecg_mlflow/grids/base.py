"""What every range of values is and does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecg_mlflow.grids.kv import KV


class Range(ABC):
    """The values between two bounds, both included; it stands in place of an option's list.

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
        """Return the value that has `share`, between 0 and 1, of all values below it.

        So an evenly drawn share gives a value as the range distributes them.
        """

    @abstractmethod
    def exactly(self, x: object) -> KV | None:
        """Return a number as a value of this range, unrounded; None where it is not in it.

        Also a string that spells a number is taken, for that is what a command line gives.
        """

    @abstractmethod
    def covers(self, other: Range) -> bool:
        """Tell whether all values of another range are values of this one."""

    def ends(self) -> tuple[KV, KV]:
        """Return the first and the last value."""
        return self.kv(self.low), self.kv(self.high)
