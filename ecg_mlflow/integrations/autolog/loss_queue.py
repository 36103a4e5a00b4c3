"""Losses of a loop on their way: scalars on a device, which are not waited for at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ecg_mlflow.errors import AutologError

#: Longest time for which losses stay on the device.
FETCH_S = 2.0


class Piece(NamedTuple):
    """Losses of consecutive iterations, and when they came, in ms since 1970."""

    first: int
    values: list[float]
    times_ms: list[int]


class LossQueue:
    """Takes losses in rising iterations, and gives them back as numbers."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Any, int]] = []
        self._fetched = time.monotonic()
        self._n_all = 0
        self._begin_ms = self._end_ms = 0

    @property
    def is_due(self) -> bool:
        """Whether something waits for long, or is the very first."""
        waits_long = time.monotonic() - self._fetched > FETCH_S
        return bool(self._waiting) and (waits_long or not self._n_all)

    @property
    def rate(self) -> float | None:
        """Iterations per second from the first to the last loss; None for less than two."""
        spent_ms = self._end_ms - self._begin_ms
        return 1e3 * (self._n_all - 1) / spent_ms if spent_ms > 0 else None

    def put(self, iteration: int, value: Any) -> None:
        """Add a loss that came just now."""
        self._waiting.append((iteration, value, time.time_ns() // 1_000_000))

    def fetch(self) -> Iterator[Piece]:
        """Yield what waits, waiting for the device.

        Raises
        ------
        AutologError
            A value is no number.
        """
        waiting, self._waiting = self._waiting, []
        self._fetched = time.monotonic()
        if not waiting:
            return
        if not self._n_all:
            self._begin_ms = waiting[0][2]
        self._n_all, self._end_ms = self._n_all + len(waiting), waiting[-1][2]
        for begin, end in _consecutive([iteration for iteration, _, _ in waiting]):
            part = waiting[begin:end]
            values = [_as_number(value, iteration) for iteration, value, _ in part]
            yield Piece(part[0][0], values, [when for _, _, when in part])


def _as_number(value: Any, iteration: int) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise AutologError(
            f"the loss of iteration {iteration} is no number: {type(value).__name__}, {error}"
        ) from error


def _consecutive(iterations: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Divide places into those of iterations that follow each other one by one."""
    ends = [i for i in range(1, len(iterations)) if iterations[i] != iterations[i - 1] + 1]
    return pairwise([0, *ends, len(iterations)])
