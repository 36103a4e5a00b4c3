"""Compile a training step: forward, backward and update in one traced TensorFlow function.

Training uses TensorFlow directly only here and in `fused_norm`; a step for another Keras backend
would have the same methods. It is faster than Keras's ``fit`` with the same losses, because of the
fused batch norm, and because Adam needs one resource-apply operation per variable instead of a
dozen elementwise ones. Losses stay on the device until they are fetched in bulk.

The number of windows in a batch varies with the labels of its records. The step is traced once with
this dimension open, since padding rows would change the batch norms' statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ecg_mlflow.errors import CheckpointError
from ecg_mlflow.models.build import count_parameters
from ecg_mlflow.training.fused_norm import fused_norms

Floats = npt.NDArray[np.float32]

#: What changes an update of Keras's Adam where it is not None.
_BEYOND_ADAM = (
    *("weight_decay", "clipnorm", "clipvalue", "global_clipnorm"),
    *("loss_scale_factor", "gradient_accumulation_steps"),
)


class CompiledStep:
    """A model with its training and prediction functions.

    Parameters
    ----------
    model
        Maps windows ``(n, length, n_leads)`` to logits ``(n, n_classes)``.
    optimizer, loss
        Keras objects.
    activation
        Function from logits to probabilities: ``softmax`` or ``sigmoid``.

    Attributes
    ----------
    signature
        Shapes and types of `train`'s arguments, as a TensorFlow function's ``input_signature``.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: keras.losses.Loss,
        *,
        activation: Literal["softmax", "sigmoid"] = "softmax",
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self._loss = loss
        self._activation = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}[activation]
        optimizer.build(model.trainable_variables)
        windows = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)
        targets = tf.TensorSpec([None, model.output_shape[-1]], tf.float32)
        self.signature = [windows, targets]
        self._train = tf.function(self._train_step, input_signature=self.signature)
        self._predict = tf.function(self._probabilities, input_signature=[windows])

    @property
    def n_parameters(self) -> int:
        """The number of trainable parameters."""
        return count_parameters(self.model)

    @staticmethod
    def join(steps: Sequence[CompiledStep]) -> JointStep:
        """Make one call of several steps that train on the same batches."""
        return JointStep(steps)

    def train(self, windows: Any, targets: Any) -> Any:
        """Update the model on one batch; return the loss, still on the device."""
        return self._train(windows, targets)

    def predict(self, windows: Any) -> Floats:
        """Return the class probabilities ``(n, n_classes)`` of some windows."""
        probabilities: Floats = self._predict(windows).numpy()
        return probabilities

    @staticmethod
    def to_device(array: npt.NDArray[Any]) -> Any:
        """Copy an array to the device ahead of the step that needs it."""
        return tf.convert_to_tensor(array)

    @staticmethod
    def fetch(losses: list[Any]) -> Floats:
        """Bring losses from the device, all at once."""
        values: Floats = tf.stack(losses).numpy()
        return values

    def weights(self) -> list[npt.NDArray[Any]]:
        """Return the model's weights in Keras's order."""
        return list(self.model.get_weights())

    def set_weights(self, weights: Sequence[npt.NDArray[Any]]) -> None:
        """Give the model other weights; the optimizer stays as it is."""
        self.model.set_weights(weights)

    def save(self, path: Path) -> None:
        """Write the model as a ``.keras`` file."""
        self.model.save(path)

    def load_weights(self, path: Path) -> None:
        """Read the weights of a file that `save` has written."""
        self.model.load_weights(path)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the state of the next step: weights, moments, counters, dropout's state."""
        return {name: variable.value.numpy() for name, variable in self._named_variables().items()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore a `state` of a model and optimizer that were built in the same way.

        Raises
        ------
        CheckpointError
            If the variables differ.
        """
        variables = self._named_variables()
        shapes = {name: (tuple(v.shape), str(v.dtype)) for name, v in variables.items()}
        given = {name: (array.shape, str(array.dtype)) for name, array in state.items()}
        if shapes != given:
            differing = sorted(set(shapes.items()) ^ set(given.items()))
            raise CheckpointError(
                f"the saved state belongs to another model or optimizer: {differing[:4]} differ"
            )
        for name, variable in variables.items():
            variable.assign(state[name])

    def _named_variables(self) -> dict[str, keras.Variable]:
        """List the variables by position: names differ between processes."""
        groups = {"model": self.model.variables, "optimizer": self.optimizer.variables}
        return {
            f"{group}/{i:04d}": variable
            for group, variables in groups.items()
            for i, variable in enumerate(variables)
        }

    def _train_step(self, windows: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            with fused_norms(self.model):
                logits = self.model(windows, training=True)
            loss = self._loss(targets, logits)
            if self.model.losses:
                loss += tf.add_n(self.model.losses)
        variables = self.model.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        if _is_plain_adam(self.optimizer, variables):
            _apply_adam(self.optimizer, variables, gradients)
        else:
            self.optimizer.apply(gradients, variables)
        return loss

    def _probabilities(self, windows: Any) -> Any:
        with fused_norms(self.model):
            return self._activation(self.model(windows, training=False))


class JointStep:
    """Several compiled steps as one call on the same batch.

    The joint function calls each model's own training function. Therefore a model is traced once
    for all sets of models, and on a CPU its losses equal those of separate training bit for bit.
    One call saves TensorFlow's overhead of several; `benchmarks/branches.py` measures it, and
    `benchmarks/README.md` has the results. Predictions, weights and optimizers stay with each
    `CompiledStep`.

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
        joint: Callable[..., Any] = tf.function(train_in_turn, input_signature=signature)
        return joint


def _is_plain_adam(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> bool:
    """Return whether the resource-apply operation computes this optimizer's update."""
    return (
        type(optimizer) is keras.optimizers.Adam
        and not (optimizer.amsgrad or optimizer.use_ema)
        and all(getattr(optimizer, name) is None for name in _BEYOND_ADAM)
        and all(v.constraint is None and v.dtype == "float32" for v in variables)
    )


def _apply_adam(
    optimizer: keras.optimizers.Adam, variables: list[keras.Variable], gradients: list[Any]
) -> None:
    """Update with one operation per variable, in Keras's own optimizer variables.

    Source: Kingma & Ba, "Adam", ICLR 2015, section 2, last paragraph (as in Keras).
    """
    rate = tf.convert_to_tensor(optimizer.learning_rate)
    optimizer.iterations.assign_add(1)
    step = tf.cast(optimizer.iterations.value, tf.float32)
    power_1, power_2 = tf.pow(optimizer.beta_1, step), tf.pow(optimizer.beta_2, step)
    moments = zip(optimizer._momentums, optimizer._velocities, strict=True)
    for variable, gradient, (first, second) in zip(variables, gradients, moments, strict=True):
        if gradient is None:
            continue
        tf.raw_ops.ResourceApplyAdam(
            var=variable.value.handle,
            m=first.value.handle,
            v=second.value.handle,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=rate,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=gradient,
        )
