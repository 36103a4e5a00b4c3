"""What trains a run's model: Keras, or what the model's builder names in its place.

A builder may have an attribute ``step_factory``, a function of the `Settings`, the input shape
``(length, n_leads)`` and a seed. The run then asks it for the step, and neither Keras nor
TensorFlow is imported in the worker. The rest of a run stays as it is: batches, loop, checkpoints,
metrics and the models that it logs. What it returns has the methods of a `CompiledStep` that a run
calls: ``join``, ``predict``, ``state`` and ``restore``, ``weights`` and ``set_weights``, ``save``
and ``load_weights``, and ``n_parameters``; what ``join`` returns has those of a `JointStep`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.models.build import build_model
from ecg_mlflow.study.research import Settings

if TYPE_CHECKING:
    from ecg_mlflow.training.step import CompiledStep


def make_step(settings: Settings, input_shape: tuple[int, int], seed: int) -> CompiledStep:
    """Make the step of a run by its builder's ``step_factory``, or else by Keras.

    Raises
    ------
    ModelError
        If the model can't be built, or doesn't fit the pipelines and classes.
    """
    return step_factory(settings)(settings, input_shape, seed)


def step_factory(settings: Settings) -> Callable[[Settings, tuple[int, int], int], CompiledStep]:
    """Return the step factory that a configuration's builder names, or else Keras's."""
    factory: Callable[..., CompiledStep] = getattr(settings.builder, "step_factory", keras_step)
    return factory


@counts_as("keras_step", version=1)
def keras_step(settings: Settings, input_shape: tuple[int, int], seed: int) -> CompiledStep:
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
