"""Several compiled steps as one call, for models that train on the same batches.

The joint function calls each model's own training function, so a model is traced once, however
many sets of models are formed, and its losses are those of training alone, bit for bit on a CPU.
What one call saves is TensorFlow's work around each of several. `benchmarks/branches.py` measures
that, and `benchmarks/README.md` says what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from ecg_mlflow.training.step import CompiledStep


class JointStep:
    """Several compiled steps as one call on the same batch.

    Predictions, weights and optimizers stay with each `CompiledStep`.

    Parameters
    ----------
    steps
        Of models that differ in all they own, and agree in the shapes of windows and targets.
    """

    to_device = staticmethod(CompiledStep.to_device)
    fetch = staticmethod(CompiledStep.fetch)

    def __init__(self, steps: Sequence[CompiledStep]) -> None:
        self._steps = tuple(steps)
        self._joint: dict[tuple[int, ...], Callable[[Any, Any], list[Any]]] = {}

    def train(self, active: Sequence[int], windows: Any, targets: Any) -> list[Any]:
        """Update some of the models on one batch.

        The first call with a new set of models traces a function for them. If a call raises,
        nobody knows which of its models were updated: go on from weights saved before.

        Parameters
        ----------
        active
            Positions in `steps`, each once.
        windows, targets
            As for `CompiledStep.train`.

        Returns
        -------
        list
            The loss of each active model, in the order of `active`, still on the device.
        """
        models = tuple(sorted(active))
        if len(models) < 2:
            return [self._steps[model].train(windows, targets) for model in models]
        if models not in self._joint:
            self._joint[models] = self._trace(models)
        losses = dict(zip(models, self._joint[models](windows, targets), strict=True))
        return [losses[model] for model in active]

    def _trace(self, models: tuple[int, ...]) -> Callable[[Any, Any], list[Any]]:
        def train_in_turn(windows: Any, targets: Any) -> list[Any]:
            losses: list[Any] = []
            for model in models:
                # One model after the other. Left to itself, a thread goes back and forth between
                # them: slower than separate calls, and all activations in memory at once.
                with tf.control_dependencies(losses[-1:]):
                    batch = tf.identity(windows), tf.identity(targets)
                    losses.append(self._steps[model].train(*batch))
            return losses

        signature = self._steps[models[0]].signature
        joint: Callable[[Any, Any], list[Any]] = tf.function(
            train_in_turn, input_signature=signature
        )
        return joint
