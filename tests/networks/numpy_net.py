"""A small network that trains in NumPy alone, for tests of everything around the training.

Its worker starts without TensorFlow, in a third of the time. What it computes depends on all that
Keras's step depends on: on initial weights of a seed, on the update's momentum, and on dropout
drawn from the number of the update. A run that goes on from a checkpoint has the same losses, bit
for bit, only where all of that is restored.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecg_mlflow.errors import CheckpointError


class NumpyNetSpec(NamedTuple):
    """Sizes of a network, for the plan."""

    n_inputs: int
    hidden: int
    n_classes: int

    def trainable_parameters(self) -> int:
        return (self.n_inputs + 1) * self.hidden + (self.hidden + 1) * self.n_classes

    def multiply_adds(self) -> int:
        return self.n_inputs * self.hidden + self.hidden * self.n_classes


class NumpyStep:
    """One hidden layer with dropout, updated by gradient descent with momentum."""

    def __init__(
        self, spec: NumpyNetSpec, seed: int, rate: float, *, dropout: float, momentum: float
    ) -> None:
        rng, n_hidden, n_classes = np.random.default_rng(seed), spec.hidden, spec.n_classes
        shapes = ((spec.n_inputs, n_hidden), (n_hidden,), (n_hidden, n_classes), (n_classes,))
        self._spec, self._seed, self._rate = spec, seed, rate
        self._dropout, self._momentum = dropout, momentum
        scale = spec.n_inputs**-0.5
        self._weights = [(scale * rng.normal(size=shape)).astype(np.float32) for shape in shapes]
        self._moments = [np.zeros_like(one) for one in self._weights]
        self._n_updates = np.zeros((), np.int64)

    @property
    def n_parameters(self) -> int:
        return self._spec.trainable_parameters()

    @staticmethod
    def join(steps: Sequence[NumpyStep]) -> JointNumpyStep:
        return JointNumpyStep(steps)

    def train(self, windows: np.ndarray, targets: np.ndarray) -> np.float32:
        x = windows.reshape(len(windows), -1)
        first, bias, second, offset = self._weights
        rng = np.random.default_rng([self._seed, int(self._n_updates)])
        kept = (rng.random((len(x), len(bias))) >= self._dropout) / (1 - self._dropout)
        hidden = np.tanh(x @ first + bias)
        dropped = (hidden * kept).astype(np.float32)
        with np.errstate(all="ignore"):  # a diverged loss is for the loop to find
            p = _softmax(dropped @ second + offset)
            loss = -np.mean(np.sum(targets * np.log(p), axis=1))
            slope = (p - targets) / np.float32(len(x))
            back = ((slope @ second.T) * kept * (1 - hidden**2)).astype(np.float32)
            gradients = (x.T @ back, back.sum(axis=0), dropped.T @ slope, slope.sum(axis=0))
            updates = zip(self._weights, self._moments, gradients, strict=True)
            for weight, moment, gradient in updates:
                moment *= np.float32(self._momentum)
                moment -= np.float32(self._rate) * gradient
                weight += moment
        self._n_updates += 1
        return np.float32(loss)

    def predict(self, windows: np.ndarray) -> np.ndarray:
        first, bias, second, offset = self._weights
        with np.errstate(all="ignore"):
            hidden = np.tanh(windows.reshape(len(windows), -1) @ first + bias)
            return _softmax(hidden @ second + offset)

    def state(self) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self._named().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        mine = self._named()
        if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in state.items()}:
            raise CheckpointError("the saved state is of another model")
        for name, array in mine.items():
            array[...] = state[name]

    def _named(self) -> dict[str, np.ndarray]:
        weights = {f"weight/{i}": one for i, one in enumerate(self._weights)}
        moments = {f"moment/{i}": one for i, one in enumerate(self._moments)}
        return {**weights, **moments, "n_updates": self._n_updates}

    def weights(self) -> list[np.ndarray]:
        return [one.copy() for one in self._weights]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        for mine, given in zip(self._weights, weights, strict=True):
            mine[...] = given

    def save(self, path: Path) -> None:
        with Path(path).open("wb") as file:  # by its name, NumPy would add a suffix
            np.savez(file, **{f"{i}": one for i, one in enumerate(self._weights)})

    def load_weights(self, path: Path) -> None:
        with np.load(path) as found:
            self.set_weights([found[name] for name in sorted(found)])


class JointNumpyStep:
    """Several networks that train on the same batches."""

    def __init__(self, steps: Sequence[NumpyStep]) -> None:
        self._steps = tuple(steps)

    def train(self, active: Sequence[int], windows: Any, targets: Any) -> list[np.float32]:
        return [self._steps[i].train(windows, targets) for i in active]

    def fetch(self, losses: list[np.float32]) -> np.ndarray:
        return np.array(losses, np.float32)

    def to_device(self, array: np.ndarray) -> np.ndarray:
        return array


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


class NumpyNet:
    """Builder of the network for a grid file: ``model=NumpyNet``."""

    def __init__(
        self, input_shape: Any, n_classes: int, *, hidden=4, dropout=0.25, momentum=0.9
    ) -> None:
        raise AssertionError("the model is built by its step factory")

    @staticmethod
    def describe(
        input_shape: tuple[int, int], n_classes: int, *, hidden: int = 4, **_: float
    ) -> NumpyNetSpec:
        return NumpyNetSpec(input_shape[0] * input_shape[1], hidden, n_classes)

    @staticmethod
    def step_factory(settings: Any, input_shape: tuple[int, int], seed: int) -> NumpyStep:
        arguments = {"dropout": 0.25, "momentum": 0.9, **settings.arguments}
        spec = NumpyNet.describe(input_shape, len(settings.classes), **arguments)
        rate = settings.optimizer.arguments.get("learning_rate", 1e-2)
        chance = {name: arguments[name] for name in ("dropout", "momentum")}
        return NumpyStep(spec, seed, rate, **chance)


def unhurried(signal: np.ndarray, fs: float) -> np.ndarray:
    """Step of a pipeline that changes nothing, and takes as long as the environment says."""
    time.sleep(float(os.environ.get("UNHURRIED_S", "0")))
    return signal
