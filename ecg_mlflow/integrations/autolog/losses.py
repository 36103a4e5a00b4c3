"""The loss of each iteration of ``model.fit``; Keras reports the mean over the epoch so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops


class LossRecorder:
    """Copies each training loss into a variable on the device, inside the compiled step.

    Keras's `compute_loss` is where every training step gets its loss from, penalties of the layers
    included, so the copy is the very number that is minimised. Nothing waits for the device before
    `fetch`.

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
    is_muted
        Nothing is recorded any more, while the training goes on with the step as it is.
    """

    def __init__(self, model: keras.Model, on_step: Callable[[], None]) -> None:
        self.batch_size = 0
        self.reported = False
        self.is_muted = False
        self._model, self._on_step = model, on_step
        self._per_call = int(model.steps_per_execution)
        self._seen = 0
        self._waiting: list[tuple[Any, Any, int]] = []
        # The losses of one call, how many there were in all, and the largest batch. In one
        # variable, because a step that finds no more data must change none of them, and what
        # doesn't depend on the data is computed.
        zeros = np.zeros(self._per_call + 2)
        self._state = keras.Variable(zeros, trainable=False, dtype="float64", autocast=False)
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
        state, n = self._state.value, self._per_call
        losses, count, largest = state[:n], state[n], state[n + 1]
        is_next = ops.equal(np.arange(n), ops.mod(ops.cast(count, "int32"), n))
        losses = ops.where(is_next, ops.mean(ops.cast(loss, "float64")), losses)
        parts = keras.tree.flatten(outputs)
        if parts and parts[0] is not None:
            largest = ops.maximum(largest, ops.cast(ops.shape(parts[0])[0], "float64"))
        self._state.assign(ops.concatenate([losses, ops.stack([count + 1, largest])]))

    def _reporting(self, train_function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def reporting(iterator: Any) -> Any:
            logs = train_function(iterator)
            if self.is_muted:
                return logs
            reported = logs.get("loss") if isinstance(logs, dict) else None
            state = ops.copy(self._state)
            self._waiting.append((state, reported, time.time_ns() // 1_000_000))
            self._on_step()
            return logs

        return reporting

    @property
    def n_waiting(self) -> int:
        """Calls of the step since the last `fetch`."""
        return len(self._waiting)

    def fetch(self) -> list[tuple[float, int]]:
        """Bring the losses since the last call from the device, each with its time in ms."""
        waiting, self._waiting = self._waiting, []
        found: list[tuple[float, int]] = []
        if not waiting:
            return found
        states = ops.convert_to_numpy(ops.stack([state for state, _, _ in waiting]))
        for (_, reported, time_ms), state in zip(waiting, states, strict=True):
            new = range(self._seen, int(state[-2]))
            self._seen = new.stop
            # A call computes one loss for each batch, and ends early where the data do.
            self.reported |= not 1 <= len(new) <= self._per_call
            if not self.reported:
                found += [(float(state[i % self._per_call]), time_ms) for i in new]
            elif reported is not None:
                found.append((float(reported), time_ms))
        self.batch_size = int(states[-1, -1])
        return found

    def skip(self) -> None:
        """Leave out what was computed since the last `fetch`, as in a validation."""
        self._seen = int(self._state.numpy()[-2])

    def remove(self) -> None:
        """Give the network back its own training step."""
        if self._own_compute_loss is not None:
            self._model.compute_loss = self._own_compute_loss
        elif "compute_loss" in vars(self._model):
            del self._model.compute_loss
        self._model.train_function = None
