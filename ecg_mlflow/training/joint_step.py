"""Train several models on the same batches with one compiled call.

The joint function calls each model's own training function. Therefore a model is traced once for
all sets of models, and on a CPU its losses equal those of separate training bit for bit. One call
saves TensorFlow's overhead of several; `benchmarks/branches.py` measures it, and
`benchmarks/README.md` has the results.
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
        Steps of separate models with the same shapes of windows and targets.
    """

    to_device = staticmethod(CompiledStep.to_device)
    fetch = staticmethod(CompiledStep.fetch)

    def __init__(self, steps: Sequence[CompiledStep]) -> None:
        self._steps = tuple(steps)
        self._joint: dict[tuple[int, ...], Callable[[Any, Any], list[Any]]] = {}

    def train(self, active: Sequence[int], windows: Any, targets: Any) -> list[Any]:
        """Update some of the models on one batch.

        The first call with a new set of models traces a function for them. After an exception it is
        unknown which models were updated: continue from saved weights.

        Parameters
        ----------
        active
            Positions in `steps`, each once.
        windows, targets
            Same as for `CompiledStep.train`.

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
                # One model after the other. Otherwise TensorFlow alternates between them, which is
                # slower than separate calls and holds all activations in memory at once.
                with tf.control_dependencies(losses[-1:]):
                    batch = tf.identity(windows), tf.identity(targets)
                    losses.append(self._steps[model].train(*batch))
            return losses

        signature = self._steps[models[0]].signature
        joint: Callable[[Any, Any], list[Any]] = tf.function(
            train_in_turn, input_signature=signature
        )
        return joint
