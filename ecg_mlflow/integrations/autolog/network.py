"""What a network ends in, and so what turns its outputs into probabilities of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.labelled_records import TOLERANCE

if TYPE_CHECKING:
    import keras

#: As in `ecg_mlflow.tracking.NetworkInfo`.
Activation = Literal["softmax", "sigmoid", "linear"]
#: Layers behind the last one that computes: they change no value at prediction.
_WITHOUT_EFFECT = ("Dropout", "Flatten", "Reshape", "Identity")


def check_activation(activation: str | None) -> None:
    """Raise an `AutologError` unless it is one of those allowed, or None."""
    if activation is not None and activation not in get_args(Activation):
        raise AutologError(
            f"activation={activation!r} is not known; allowed are 'softmax' and 'sigmoid' for a "
            "network that ends in logits, 'linear' for one that ends in probabilities"
        )


@dataclass(frozen=True)
class Head:
    """The end of a network that classifies.

    Attributes
    ----------
    activation
        What turns its outputs into probabilities; ``linear`` where they are that already.
    n_outputs
        One output is the probability of the second class of two.
    independent
        Whether each output is a question of its own: several sigmoids.
    """

    activation: Activation
    n_outputs: int
    independent: bool

    @classmethod
    def of(cls, model: keras.Model, activation: Activation | None, n_outputs: int) -> Head:
        """Look at a compiled network.

        Parameters
        ----------
        model
            The network.
        activation
            Where the caller knows it; otherwise the last layer tells, and for logits the loss.
        n_outputs
            Size of the output's last dimension.

        Raises
        ------
        AutologError
            The last layer does not tell.
        """
        ending = last_activation(model)
        binary = n_outputs == 1 or _is_binary(getattr(model, "loss", None))
        if activation is None:
            if ending in ("softmax", "sigmoid"):
                activation = "linear"
            elif ending == "linear":
                activation = "sigmoid" if binary else "softmax"
            else:
                raise AutologError(
                    f"the network {model.name!r} ends in {ending or 'a layer'} that does not say "
                    "whether its outputs are probabilities; give activation='softmax' or "
                    "'sigmoid' for logits, 'linear' for probabilities"
                )
        by_itself = activation == "sigmoid" or (activation == "linear" and ending == "sigmoid")
        return cls(activation, n_outputs, n_outputs > 1 and by_itself)

    @property
    def n_classes(self) -> int:
        """Number of classes: two for one output."""
        return max(self.n_outputs, 2)

    def probabilities(self, outputs: Any) -> npt.NDArray[np.float32]:
        """Turn outputs ``(n, n_outputs)`` into probabilities ``(n, n_classes)``.

        Raises
        ------
        AutologError
            They are none: outside of 0 to 1, or their sum is not 1.
        """
        from scipy.special import expit, softmax

        values = np.asarray(outputs, np.float64)
        if self.activation == "softmax":
            values = softmax(values, axis=1)
        elif self.activation == "sigmoid":
            values = expit(values)
        if self.n_outputs == 1:
            values = np.concatenate([1 - values, values], axis=1)
        finite = values[np.isfinite(values).all(axis=1)]
        if len(finite) and not (
            finite.min() >= 0
            and finite.max() <= 1 + TOLERANCE
            and (self.independent or np.allclose(finite.sum(axis=1), 1, atol=TOLERANCE))
        ):
            raise AutologError(
                f"the network's outputs are no probabilities: they lie between {finite.min():.3g} "
                f"and {finite.max():.3g}. Give activation='softmax' or 'sigmoid' for logits"
            )
        return np.minimum(values, 1).astype(np.float32)


def last_activation(model: keras.Model) -> str | None:
    """Name the activation that a network ends in, ``linear`` for none; None if it can't be told."""
    import keras

    layers = [layer for layer in model.layers if type(layer).__name__ not in _WITHOUT_EFFECT]
    if not layers:
        return None
    last = layers[-1]
    if isinstance(last, keras.Model):
        return last_activation(last)
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    name = getattr(getattr(last, "activation", None), "__name__", None)
    # A linear layer of another type stands there in mixed precision.
    if name == "linear" and isinstance(last, keras.layers.Activation) and len(layers) > 1:
        before = getattr(getattr(layers[-2], "activation", None), "__name__", None)
        return before or "linear"
    return name


def _is_binary(loss: Any) -> bool:
    import keras

    kinds = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", "")
    return isinstance(loss, kinds) or str(name).startswith("binary_")
