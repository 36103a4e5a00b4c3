"""Define ranges of numbers, from which a sampler draws an option's values.

A drawn number has up to 17 digits, of which a network's quality depends on two or three.
Therefore a range rounds its values to four significant digits: they stay short in tables and file
names, which show the exact value that was trained with. A range that is narrow compared with its
bounds keeps more digits. Rounded values stay within the bounds.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.grids.numbers import is_integer
from ecg_mlflow.grids.values import KV, Range

_N_DIGITS = 4
_MAX_INT = 2**53
"""Largest bound: samplers and stores use floats, which are exact for integers up to here."""


@dataclass(frozen=True, repr=False)
class _FloatRange(Range):
    """Base of the two ranges of real numbers."""

    low: float
    high: float

    def __post_init__(self) -> None:
        low, high = _finite(self, "low", self.low), _finite(self, "high", self.high)
        _require(self, low < high, "low must be less than high; for one value, list it")
        _require(self, math.isfinite(high - low), "high - low must be a finite number")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def kv(self, x: float) -> KV:
        """Return the value for a number drawn in [low, high], rounded within the bounds."""
        size = max(abs(self.low), abs(self.high)) / (self.high - self.low)
        n_digits = min(max(_N_DIGITS, math.ceil(math.log10(size)) + 2), 17)
        rounded = min(max(float(f"{x:.{n_digits - 1}e}"), self.low), self.high)
        return KV(rounded + 0.0)  # turns -0.0 into 0.0

    def exactly(self, x: object) -> KV | None:
        """Return a number, or a string that spells one, as a value; None if it is outside."""
        number = _number(x)
        return KV(number + 0.0) if self.low <= number <= self.high else None

    def covers(self, other: Range) -> bool:
        """Return whether the other one is a range of real numbers within these bounds."""
        within = self.low <= other.low and other.high <= self.high
        return isinstance(other, _FloatRange) and within

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.low!r}, {self.high!r})"


@counts_as("Uniform", version=1)
@dataclass(frozen=True, repr=False)
class Uniform(_FloatRange):
    """Real numbers between two bounds, all equally likely.

    Parameters
    ----------
    low, high : float
        The bounds, both included.

    Raises
    ------
    GridError
        If a bound is not a finite number, or if `low` is not less than `high`.
    """

    def at(self, share: float) -> KV:
        """Return the value at the share, from 0 to 1, of the way from low to high."""
        return self.kv(self.low + share * (self.high - self.low))


@counts_as("LogUniform", version=1)
@dataclass(frozen=True, repr=False)
class LogUniform(_FloatRange):
    """Positive numbers between two bounds, all orders of magnitude equally likely.

    Parameters
    ----------
    low, high : float
        The bounds, both included.

    Raises
    ------
    GridError
        Same as :class:`Uniform`, and if `low` is not positive.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self, self.low > 0, "on a logarithmic scale low must be more than 0")

    def at(self, share: float) -> KV:
        """Return the value at the share, from 0 to 1, of the way between the logarithms."""
        return self.kv(_between_logs(self.low, self.high, share))


@counts_as("IntUniform", version=1)
@dataclass(frozen=True, repr=False)
class IntUniform(Range):
    """Whole numbers between two bounds: `low`, ``low + step``, and so on up to `high`.

    Parameters
    ----------
    low, high : int
        The bounds, both included; `high` only if the steps reach it exactly.
    step : int
        Distance between neighbouring values.
    log : bool
        Whether all orders of magnitude are equally likely, rather than all numbers.

    Raises
    ------
    GridError
        If a bound is not a whole number up to 2**53, or `low` is not less than `high`; if `step`
        is not a whole number from 1 to ``high - low``; with `log`, if `low` is not positive or
        `step` is not 1.
    """

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        for field in ("low", "high", "step"):
            object.__setattr__(self, field, _whole(self, field, getattr(self, field)))
        size, is_log = self.high - self.low, self.log is not False
        _require(self, isinstance(self.log, bool), f"log is True or False, not {self.log!r}")
        _require(self, size > 0, "low must be less than high; for one value, list it")
        _require(self, 1 <= self.step <= size, f"step must be 1 to high - low, {size}")
        _require(self, not is_log or self.low >= 1, "on a logarithmic scale low must be 1 or more")
        _require(self, not is_log or self.step == 1, "step must be 1, or log False: choose one")

    @property
    def last(self) -> int:
        """The greatest value: `high`, or the last step below it."""
        return self.high - (self.high - self.low) % self.step

    def kv(self, x: float) -> KV:
        """Return the value nearest to a number."""
        inside = min(max(x, self.low), self.last)
        return KV(self.low + self.step * round((inside - self.low) / self.step))

    def at(self, share: float) -> KV:
        """Return the value with this share, from 0 to 1, of all values below it."""
        if self.log:  # each number stands for the interval that rounds to it
            return self.kv(_between_logs(self.low - 0.5, self.high + 0.5, share))
        n_steps = (self.last - self.low) // self.step
        return self.kv(self.low + self.step * min(math.floor(share * (n_steps + 1)), n_steps))

    def exactly(self, x: object) -> KV | None:
        """Return a number, or a string that spells one, as a value; None if the range lacks it."""
        number = _number(x)
        is_inside = self.low <= number <= self.last and (number - self.low) % self.step == 0
        return self.kv(number) if is_inside else None

    def covers(self, other: Range) -> bool:
        """Return whether the other one is a range of whole numbers that are all in this one."""
        if not isinstance(other, IntUniform) or self.exactly(other.low) is None:
            return False
        return self.exactly(other.last) is not None and other.step % self.step == 0

    def __repr__(self) -> str:
        step = f", step={self.step!r}" if self.step != 1 else ""
        log = f", log={self.log!r}" if self.log is not False else ""
        return f"IntUniform({self.low!r}, {self.high!r}{step}{log})"


def _finite(owner: Range, field: str, value: object) -> float:
    number = math.nan if isinstance(value, str) else _number(value)
    _require(owner, math.isfinite(number), f"{field} must be a finite number, not {value!r}")
    return number


def _whole(owner: Range, field: str, value: object) -> int:
    if not is_integer(value) or abs(int(value)) > _MAX_INT:
        raise GridError(f"{owner!r}: {field} must be a whole number up to 2**53, not {value!r}")
    return int(value)


def _require(owner: Range, ok: bool, must: str) -> None:
    if not ok:
        raise GridError(f"{owner!r}: {must}")


def _number(value: object) -> float:
    """Return a value, or what it spells, as a number; NaN if it is none."""
    if isinstance(value, Real | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            return float(value)
    return math.nan


def _between_logs(low: float, high: float, share: float) -> float:
    return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
