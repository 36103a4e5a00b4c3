"""Losses of single iterations: of ``model.fit``, and of a loop whose losses are on a device.

Keras itself reports the mean over the epoch so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_mlflow.errors import AutologError

if TYPE_CHECKING:
    import keras

#: Losses that may wait on the device.
RING = 1024
#: Longest time for which losses stay on the device.
FETCH_S = 2.0


class LossRecorder:
    """Copies each training loss into a ring buffer on the device, inside the compiled step.

    Keras's `compute_loss` is where every training step gets its loss from, penalties of the layers
    included, so the copy is the very number that is minimised. Nothing waits for the device before
    `fetch`, or before the ring is full.

    For a training step of a model's own that does not call `compute_loss` once for each batch, and
    for one that is spread over several devices, the losses are what the step reports as ``loss``.

    Parameters
    ----------
    model
        A compiled network, in `fit` and before its first batch.
    on_step
        Called after each call of the compiled step.

    Attributes
    ----------
    batch_size
        The largest batch so far; 0 if none was seen.
    reported
        Whether the losses are those that Keras reports.
    """

    def __init__(self, model: keras.Model, on_step: Callable[[], None]) -> None:
        import keras

        self.batch_size = 0
        self.reported = False
        self._model = model
        self._per_call = int(model.steps_per_execution)
        self._ring = max(RING, self._per_call)
        self._seen = 0
        self._waiting: list[tuple[Any, int]] = []
        self._values: list[float] = []
        self._times_ms: list[int] = []

        def variable(shape: tuple[int, ...], dtype: str) -> Any:
            zeros = np.zeros(shape, dtype)
            return keras.Variable(zeros, trainable=False, dtype=dtype, autocast=False)

        # The ring, and behind it how many losses there were. In one variable, because a step that
        # finds no more data must change neither, and what doesn't depend on them is computed.
        self._state = variable((self._ring + 1,), "float64")
        self._examples = variable((), "int32")
        self._own_compute_loss = vars(model).get("compute_loss")
        if model.distribute_strategy.num_replicas_in_sync == 1:
            model.compute_loss = self._recording(model.compute_loss)
        # What was compiled before has no copy in it.
        model.make_train_function(force=True)
        model.train_function = self._reporting(model.train_function, on_step)

    def _recording(self, compute_loss: Callable[..., Any]) -> Callable[..., Any]:
        def recording(*args: Any, **kwargs: Any) -> Any:
            loss = compute_loss(*args, **kwargs)
            if kwargs.get("training", args[4] if len(args) > 4 else True):
                self._record(loss, kwargs.get("y_pred", args[2] if len(args) > 2 else None))
            return loss

        return recording

    def _record(self, loss: Any, outputs: Any) -> None:
        from keras import ops, tree

        state, places = self._state.value, np.arange(self._ring + 1)
        now = ops.mod(ops.cast(state[-1], "int32"), self._ring)
        number = ops.mean(ops.cast(loss, "float64"))
        copied = ops.where(ops.equal(places, now), number, state)
        self._state.assign(ops.where(places == self._ring, copied + 1, copied))
        parts = tree.flatten(outputs)
        if parts and parts[0] is not None:
            size = ops.cast(ops.shape(parts[0])[0], "int32")
            self._examples.assign(ops.maximum(self._examples.value, size))

    def _reporting(
        self, train_function: Callable[[Any], Any], on_step: Callable[[], None]
    ) -> Callable[[Any], Any]:
        def reporting(iterator: Any) -> Any:
            if (len(self._waiting) + 1) * self._per_call > self._ring:
                self._collect()
            logs = train_function(iterator)
            reported = logs.get("loss") if isinstance(logs, dict) else None
            self._waiting.append((reported, time.time_ns() // 1_000_000))
            on_step()
            return logs

        return reporting

    @property
    def n_waiting(self) -> int:
        """Calls of the step since the last `fetch`."""
        return len(self._values) + len(self._waiting)

    def fetch(self) -> tuple[list[float], list[int]]:
        """Bring the losses since the last call from the device, with their times in ms."""
        self._collect()
        values, times_ms = self._values, self._times_ms
        self._values, self._times_ms = [], []
        return values, times_ms

    def _collect(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        state = self._state.numpy()
        count = int(state[-1])
        new = count - self._seen
        # A call ends early where the data do; it computes one loss for each batch otherwise.
        as_expected = len(waiting) <= new <= len(waiting) * self._per_call
        self.reported = self.reported or not as_expected
        if self.reported:
            known = [(value, when) for value, when in waiting if value is not None]
            self._values += [float(value) for value, _ in known]
            self._times_ms += [when for _, when in known]
        else:
            times = [when for _, when in waiting]
            self._values += state[np.arange(self._seen, count) % self._ring].tolist()
            self._times_ms += np.repeat(times, self._per_call)[:new].tolist()
        self._seen = count
        self.batch_size = int(self._examples.numpy())

    def skip(self) -> None:
        """Leave out what was computed since the last `fetch`: losses of a validation."""
        self._seen = int(self._state.numpy()[-1])

    def remove(self) -> None:
        """Give the network back its own training step."""
        if self._own_compute_loss is not None:
            self._model.compute_loss = self._own_compute_loss
        elif "compute_loss" in vars(self._model):
            del self._model.compute_loss
        self._model.train_function = None


class LossQueue:
    """Takes losses of rising iterations, and returns them as numbers."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Any, int]] = []
        self._fetched = time.monotonic()
        self._n_all = 0
        self._begin_ms = self._end_ms = 0

    @property
    def is_due(self) -> bool:
        """Whether a loss has waited for long, or is the very first."""
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

    def fetch(self) -> Iterator[tuple[int, list[float], list[int]]]:
        """Yield the losses of consecutive iterations, waiting for the device.

        Each piece has the first iteration, the losses, and when they came, in ms since 1970.

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
        iterations = np.array([iteration for iteration, _, _ in waiting])
        gaps = np.flatnonzero(np.diff(iterations) != 1) + 1
        for begin, end in pairwise([0, *gaps.tolist(), len(waiting)]):
            part = waiting[begin:end]
            values = [_as_number(value, iteration) for iteration, value, _ in part]
            yield part[0][0], values, [when for _, _, when in part]


def _as_number(value: Any, iteration: int) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise AutologError(
            f"the loss of iteration {iteration} is no number: {type(value).__name__}, {error}"
        ) from error


class Stopwatch:
    """Adds up the seconds between `go` and `halt`; each may be called again.

    Attributes
    ----------
    has_begun
        Whether `go` was ever called.
    """

    def __init__(self) -> None:
        self.has_begun = False
        self._total = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """The time measured so far."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self._total + running

    def go(self) -> None:
        """Start, or go on."""
        self.has_begun = True
        if self._since is None:
            self._since = time.perf_counter()

    def halt(self) -> None:
        """Stop until `go`; a watch that never began stays so."""
        self._total, self._since = self.seconds, None
