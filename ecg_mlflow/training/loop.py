"""The training loop: steps, losses in bulk, evaluations when the schedule says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import DivergedError
from ecg_mlflow.schedule import Schedule

#: Longest time between two fetches of losses: how late a diverged loss is noticed.
FETCH_SECONDS = 2.0
DIVERGED_ADVICE = (
    "a smaller learning rate, clipnorm=1.0 on the optimizer or a look at the input signals may help"
)


class Step(Protocol):
    """What the loop needs of a compiled step."""

    def train(self, windows: Any, targets: Any) -> Any:
        """Update on one batch; return the loss without waiting for it."""

    def fetch(self, losses: list[Any]) -> npt.NDArray[np.float32]:
        """Bring losses from the device."""


class Observer(Protocol):
    """What a training tells while it runs."""

    def losses(
        self, first_iteration: int, values: npt.NDArray[np.float32], times_ms: list[int]
    ) -> None:
        """Take the losses of consecutive iterations."""

    def test(self, iteration: int) -> None:
        """Evaluate now, after this iteration."""


@dataclass
class TrainingLoop:
    """Trains one model from `iteration` to `n_iterations`.

    Parameters
    ----------
    step
        The compiled step.
    batches
        ``(windows, targets)`` from `iteration` on, without end.
    n_iterations
        Number of the iteration after the last.
    tests
        When to evaluate.
    observer
        Is told of losses and evaluations.
    iteration
        The next iteration, from 0.

    Attributes
    ----------
    seconds, step_seconds
        Time spent training so far, without evaluations, and the part of it in the compiled step.
    """

    step: Step
    batches: Iterator[tuple[Any, Any]]
    n_iterations: int
    tests: Schedule
    observer: Observer
    iteration: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0
    _losses: list[Any] = field(default_factory=list)
    _times_ms: list[int] = field(default_factory=list)
    _first: int = 0  # iteration of the first of these

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Train to the end, or to the end of the iteration in which `should_stop` turns true.

        Whatever is raised in between, a signal's exception too, the losses so far are handed over.

        Raises
        ------
        DivergedError
            If a loss is NaN or infinite; the losses before it have been handed over.
        """
        self._first = self.iteration
        try:
            self._train(should_stop)
        except BaseException:
            self._hand_over()
            raise

    def _train(self, should_stop: Callable[[], bool]) -> None:
        fetched = since = time.perf_counter()
        while self.iteration < self.n_iterations:
            windows, targets = next(self.batches)
            started = time.perf_counter()
            self._losses.append(self.step.train(windows, targets))
            now = time.perf_counter()
            self.step_seconds += now - started
            self._times_ms.append(time.time_ns() // 1_000_000)
            self.iteration += 1
            stopping = self.iteration == self.n_iterations or should_stop()
            testing = self.tests.fires(self.iteration - 1, last=stopping)
            if testing or stopping or now - fetched > FETCH_SECONDS:
                self._check(*self._hand_over())
                fetched = time.perf_counter()
            if testing:
                self.seconds += time.perf_counter() - since
                self.observer.test(self.iteration - 1)
                fetched = since = time.perf_counter()
            if stopping:
                break
        self.seconds += time.perf_counter() - since

    def _hand_over(self) -> tuple[int, npt.NDArray[np.float32]]:
        """Fetch the waiting losses and hand over those before the first that isn't finite.

        Returns
        -------
        The first loss's iteration, and all of them.
        """
        # An exception from a signal may have come between a loss and its time.
        n_whole = min(len(self._losses), len(self._times_ms))
        first, times_ms = self._first, self._times_ms[:n_whole]
        if not n_whole:
            return first, np.empty(0, np.float32)
        # Waiting for the device belongs to the steps.
        started = time.perf_counter()
        values = self.step.fetch(self._losses[:n_whole])
        self.step_seconds += time.perf_counter() - started
        n_good = _count_finite(values)
        if n_good:
            self.observer.losses(first, values[:n_good], times_ms[:n_good])
        self._losses, self._times_ms = [], []
        self._first = self.iteration
        return first, values

    @staticmethod
    def _check(first: int, values: npt.NDArray[np.float32]) -> None:
        n_good = _count_finite(values)
        if n_good < len(values):
            raise DivergedError(
                f"the loss of iteration {first + n_good} is {values[n_good]}; {DIVERGED_ADVICE}"
            )


def _count_finite(values: npt.NDArray[np.float32]) -> int:
    """Count the values before the first that is NaN or infinite."""
    finite = np.isfinite(values)
    return len(values) if finite.all() else int(np.argmin(finite))
