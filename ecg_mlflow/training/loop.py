"""Train models: run steps, fetch losses in bulk, and evaluate and save on schedule.

Several models may share one stream of batches. Each of them is a `Branch` with its own length and
evaluations; if one fails, the others continue.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import DivergedError, RunGoneError, StorageError, TrackingError
from ecg_mlflow.training.schedule import Schedule

if TYPE_CHECKING:
    from ecg_mlflow.training.step import JointStep

#: Longest time between two fetches of losses, and so the delay until a diverged loss is noticed.
FETCH_SECONDS = 2.0
DIVERGED_ADVICE = (
    "a smaller learning rate, clipnorm=1.0 on the optimizer or a look at the input signals may help"
)


class Paused(Exception):  # noqa: N818 - a request, not an error
    """A training stops after a request and can be continued; branches may raise it."""


class Branch(ABC):
    """One model of a loop, and what is done at its events.

    An exception in the abstract methods fails this branch alone, also when its run is gone from the
    store. Not so `Paused` and errors of the machine: a full disk, a store that can't be reached.

    Parameters
    ----------
    n_iterations
        Number of iterations in total.
    schedule
        When to evaluate.

    Attributes
    ----------
    iteration
        The next iteration, from 0.
    tested
        The last iteration with an evaluation; -1 before the first.
    seconds, step_seconds
        Time spent training so far, without evaluations, and the part of it in the compiled step.
        Branches that train together share this time.
    withdrawn
        The reason to end the branch before its next iteration, because of other runs.
    is_over
        Whether the branch has ended or failed.
    """

    def __init__(self, n_iterations: int, schedule: Schedule) -> None:
        self.n_iterations = n_iterations
        self.schedule = schedule
        self.iteration = 0
        self.tested = -1
        self.seconds = self.step_seconds = 0.0
        self.withdrawn: str | None = None
        self.is_over = False
        self._fresh: list[tuple[int, Any, int]] = []

    @abstractmethod
    def log_losses(
        self, first_iteration: int, values: npt.NDArray[np.float32], times_ms: list[int]
    ) -> None:
        """Record the losses of consecutive iterations."""

    @abstractmethod
    def test(self, iteration: int) -> None:
        """Evaluate now, after this iteration."""

    @abstractmethod
    def save(self) -> None:
        """Write a checkpoint; all losses so far have been passed to `log_losses`."""

    @abstractmethod
    def end(self) -> None:
        """Record the end of the branch, after its last iteration, test and checkpoint."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Record that the branch failed with this error."""

    @abstractmethod
    def withdraw(self) -> None:
        """Record that the branch ends early because other runs are better."""

    # --- Called by the loop ----------------------------------------------------------------------

    @property
    def is_trained(self) -> bool:
        """Whether all iterations are done."""
        return self.iteration >= self.n_iterations

    @property
    def test_is_due(self) -> bool:
        """Whether the schedule wants an evaluation after the iteration just done."""
        done = self.iteration - 1
        return self.tested < done and self.schedule.fires(done, last=self.is_trained)

    def trained(self, loss: Any, time_ms: int) -> None:
        """Record an iteration."""
        self._fresh.append((self.iteration, loss, time_ms))
        self.iteration += 1

    def hand_over(self, fetch: Callable[[list[Any]], npt.NDArray[np.float32]]) -> None:
        """Fetch the waiting losses and log those before the first that isn't finite.

        Raises
        ------
        DivergedError
            If one of them is NaN or infinite.
        """
        if not self._fresh:
            return
        (first, *_), losses, times_ms = zip(*self._fresh, strict=True)
        values = fetch(list(losses))
        self._fresh = []
        finite = np.isfinite(values)
        n_good = len(losses) if finite.all() else int(np.argmin(finite))
        if n_good:
            self.log_losses(first, values[:n_good], list(times_ms[:n_good]))
        if n_good < len(losses):
            raise DivergedError(
                f"the loss of iteration {first + n_good} is {values[n_good]}; {DIVERGED_ADVICE}"
            )

    def guard(self, act: Callable[[], None]) -> None:
        """Call `act` for this branch; if it raises, this branch fails alone."""
        try:
            act()
        except Exception as error:  # a user's model or signal step may raise any
            is_own = isinstance(error, RunGoneError)
            if not is_own and isinstance(error, Paused | StorageError | TrackingError):
                raise
            self.is_over = True
            self.fail(error)

    def evaluate_now(self) -> None:
        """Evaluate after the iteration just done."""
        iteration = self.iteration - 1
        self.test(iteration)
        self.tested = iteration

    def finish(self) -> None:
        """Record the end of the branch, or that it was withdrawn."""
        self.guard(self.end if self.withdrawn is None else self.withdraw)
        self.is_over = True


class TrainingLoop:
    """Trains all branches to their ends.

    In a continued training, branches that are ahead wait until the others reach their iteration.

    Parameters
    ----------
    step
        The compiled models, in the order of the branches: a `JointStep`, or what has its methods.
    branches
        One for each model.
    batches
        Endless ``(windows, targets)``, from the least iteration of all branches.
    save_every_s
        Longest time between two checkpoints; evaluations are followed by one too.
    """

    def __init__(
        self,
        step: JointStep,
        branches: Sequence[Branch],
        batches: Iterator[tuple[Any, Any]],
        save_every_s: float = 60.0,
    ) -> None:
        self._step = step
        self._branches = list(branches)
        self._batches = batches
        self._save_every_s = save_every_s

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train until every branch is over, or until `should_stop` turns true.

        In the second case it finishes the iteration and saves the branches.

        Returns
        -------
        Whether every branch is over.

        Raises
        ------
        Exception
            Exceptions of the step, after which it is unknown which models were updated, and errors
            of the machine. The losses so far have been passed on.
        """
        self._mark = self._fetched = self._saved = time.perf_counter()
        iteration = min(branch.iteration for branch in self._branches)
        try:
            # Tests and ends that an earlier stop prevented.
            if begun := [branch for branch in self._branches if branch.iteration]:
                self._handle_due(begun)
            while self._running():
                if should_stop():
                    self._count_time(self._running())
                    raise Paused
                self._end_withdrawn()
                self._iterate(iteration)
                iteration += 1
        except Paused:
            self._hand_over()
            self._save()
            return False
        except BaseException:
            self._hand_over()
            raise
        return True

    def _end_withdrawn(self) -> None:
        """End the branches that were withdrawn."""
        if any(branch.withdrawn for branch in self._running()):
            self._hand_over()
            for branch in self._running():
                if branch.withdrawn:
                    branch.finish()

    def _running(self) -> list[Branch]:
        return [branch for branch in self._branches if not branch.is_over]

    def _iterate(self, iteration: int) -> None:
        windows, targets = next(self._batches)
        active = [
            i
            for i, branch in enumerate(self._branches)
            if branch.iteration == iteration and not branch.is_over
        ]
        if not active:  # the branch at this iteration has failed or was withdrawn
            return
        ready = [self._branches[i] for i in active]
        started = time.perf_counter()
        losses = self._step.train(active, windows, targets)
        now = time.perf_counter()
        time_ms = time.time_ns() // 1_000_000
        for branch, loss in zip(ready, losses, strict=True):
            branch.step_seconds += now - started
            branch.trained(loss, time_ms)
        self._handle_due(ready)

    def _handle_due(self, ready: Sequence[Branch]) -> None:
        """Fetch losses, test, save and end these branches as due after an iteration."""
        now = time.perf_counter()
        testing = any(branch.test_is_due for branch in ready)
        ending = any(branch.is_trained for branch in ready)
        saving = testing or now - self._saved > self._save_every_s
        if not (saving or ending or now - self._fetched > FETCH_SECONDS):
            return
        self._hand_over()
        self._count_time(ready)
        for branch in ready:
            if branch.test_is_due and not branch.is_over:
                branch.guard(branch.evaluate_now)
        if saving:
            self._save()
        for branch in ready:
            if branch.is_trained and not branch.is_over:
                branch.finish()
        self._mark = self._fetched = time.perf_counter()

    def _hand_over(self) -> None:
        for branch in self._running():
            started = time.perf_counter()
            branch.guard(partial(branch.hand_over, self._step.fetch))
            # The wait for the device counts as step time.
            branch.step_seconds += time.perf_counter() - started

    def _save(self) -> None:
        for branch in self._running():
            branch.guard(branch.save)
        self._saved = time.perf_counter()

    def _count_time(self, branches: Sequence[Branch]) -> None:
        """Add the time since the last mark to these branches."""
        now = time.perf_counter()
        for branch in branches:
            branch.seconds += now - self._mark
        self._mark = now
