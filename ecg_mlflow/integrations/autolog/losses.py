"""The loss of each iteration of ``model.fit``; Keras reports the mean over the epoch so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

#: Losses that may wait on the device.
RING = 1024


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
        self._model, self._on_step = model, on_step
        self._per_call = int(model.steps_per_execution)
        self._ring = max(RING, self._per_call)
        self._seen = 0
        self._waiting: list[tuple[Any, int]] = []
        self._fetched: list[tuple[float, int]] = []
        # The ring, and behind it how many losses there were. In one variable, because a step that
        # finds no more data must change neither, and what doesn't depend on them is computed.
        self._state, self._examples = (
            keras.Variable(np.zeros(shape, dtype), trainable=False, dtype=dtype, autocast=False)
            for shape, dtype in (((self._ring + 1,), "float64"), ((), "int32"))
        )
        self._own_compute_loss = vars(model).get("compute_loss")
        if model.distribute_strategy.num_replicas_in_sync == 1:
            model.compute_loss = self._recording(model.compute_loss)
        # What was compiled before has no copy in it.
        model.make_train_function(force=True)
        model.train_function = self._reporting(model.train_function)

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

    def _reporting(self, train_function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def reporting(iterator: Any) -> Any:
            if (len(self._waiting) + 1) * self._per_call > self._ring:
                self._collect()
            logs = train_function(iterator)
            reported = logs.get("loss") if isinstance(logs, dict) else None
            self._waiting.append((reported, time.time_ns() // 1_000_000))
            self._on_step()
            return logs

        return reporting

    @property
    def n_waiting(self) -> int:
        """Calls of the step since the last `fetch`."""
        return len(self._fetched) + len(self._waiting)

    def fetch(self) -> list[tuple[float, int]]:
        """Bring the losses since the last call from the device, each with its time in ms."""
        self._collect()
        fetched, self._fetched = self._fetched, []
        return fetched

    def _collect(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        before = self._seen
        state = self.skip()
        new = self._seen - before
        # A call ends early where the data do; it computes one loss for each batch otherwise.
        self.reported |= not len(waiting) <= new <= len(waiting) * self._per_call
        if self.reported:
            self._fetched += [(float(loss), when) for loss, when in waiting if loss is not None]
        else:
            times = np.repeat([when for _, when in waiting], self._per_call)[:new]
            losses = state[np.arange(before, self._seen) % self._ring]
            self._fetched += zip(losses.tolist(), times.tolist(), strict=True)
        self.batch_size = int(self._examples.numpy())

    def skip(self) -> Any:
        """Leave out what was computed since the last `fetch`, as in a validation."""
        state = self._state.numpy()
        self._seen = int(state[-1])
        return state

    def remove(self) -> None:
        """Give the network back its own training step."""
        if self._own_compute_loss is not None:
            self._model.compute_loss = self._own_compute_loss
        elif "compute_loss" in vars(self._model):
            del self._model.compute_loss
        self._model.train_function = None
