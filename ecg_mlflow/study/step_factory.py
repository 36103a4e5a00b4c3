"""What trains a run's model: Keras, or what the model's builder names in its place.

A builder may have an attribute ``step_factory``. The run then asks it for the step, and neither
Keras nor TensorFlow is imported in the worker. The rest of a run stays as it is: batches, loop,
checkpoints, metrics and the models that it logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.models.build import build_model
from ecg_mlflow.study.research import Settings
from ecg_mlflow.training.loop import Step

Array = npt.NDArray[Any]


class RunStep(Protocol):
    """What a run needs of its model; `CompiledStep` is Keras's."""

    @property
    def n_parameters(self) -> int:
        """The number of trainable parameters."""

    @staticmethod
    def join(steps: Sequence[Any]) -> Step:
        """Make the loop's step of several models that train on the same batches."""

    def predict(self, windows: Any) -> npt.NDArray[np.float32]:
        """Return the class probabilities ``(n, n_classes)`` of some windows."""

    def state(self) -> dict[str, Array]:
        """Return all that the next update depends on, for a checkpoint."""

    def restore(self, state: Mapping[str, Array]) -> None:
        """Put back what `state` has returned, in any process."""

    def weights(self) -> list[Array]:
        """Return the model's weights."""

    def set_weights(self, weights: Sequence[Array]) -> None:
        """Give the model other weights; the optimizer stays as it is."""

    def save(self, path: Path) -> None:
        """Write the model as a ``.keras`` file."""

    def load_weights(self, path: Path) -> None:
        """Read the weights of a file that `save` has written."""


class StepFactory(Protocol):
    """Makes the step of a run."""

    def __call__(self, settings: Settings, input_shape: tuple[int, int], seed: int) -> RunStep:
        """Build the model from a seed, and what trains it."""


def make_step(settings: Settings, input_shape: tuple[int, int], seed: int) -> RunStep:
    """Make the step of a run by its builder's ``step_factory``, or else by Keras.

    Raises
    ------
    ModelError
        If the model can't be built, or doesn't fit the pipelines and classes.
    """
    return step_factory(settings)(settings, input_shape, seed)


def step_factory(settings: Settings) -> StepFactory:
    """Return the step factory that a configuration's builder names, or else Keras's."""
    factory: StepFactory = getattr(settings.builder, "step_factory", keras_step)
    return factory


@counts_as("keras_step", version=1)
def keras_step(settings: Settings, input_shape: tuple[int, int], seed: int) -> RunStep:
    """Build the Keras model and compile its step.

    Raises
    ------
    ModelError
        As `build_model`.
    """
    from ecg_mlflow.training.step import CompiledStep

    return CompiledStep(
        build_model(settings.builder, input_shape, len(settings.classes), settings.arguments, seed),
        settings.optimizer.build(),
        settings.loss.build(),
        activation=settings.loss.activation,
    )
