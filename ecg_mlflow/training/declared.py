"""Optimizer and loss as a grid file declares them: names and numbers, checked without Keras."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING

from ecg_mlflow.errors import ResearchError
from ecg_mlflow.grids import references

if TYPE_CHECKING:
    import keras

#: Whatever Keras's own default is, which differs between its optimizers.
_DEFAULT_RATE = 1e-3
_COMMON = {
    "learning_rate",
    "weight_decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
}
_ADAM = {"beta_1", "beta_2", "epsilon"}
#: Keras's optimizers and the arguments that each takes, so that a typo is found without Keras.
OPTIMIZERS: Mapping[str, tuple[str, frozenset[str]]] = {
    name: (class_name, frozenset({*_COMMON, *own}))
    for name, class_name, own in (
        ("adam", "Adam", {*_ADAM, "amsgrad"}),
        ("adamw", "AdamW", {*_ADAM, "amsgrad"}),
        ("adamax", "Adamax", _ADAM),
        ("nadam", "Nadam", _ADAM),
        ("lion", "Lion", {"beta_1", "beta_2"}),
        ("sgd", "SGD", {"momentum", "nesterov"}),
        ("rmsprop", "RMSprop", {"rho", "momentum", "epsilon", "centered"}),
        ("adagrad", "Adagrad", {"initial_accumulator_value", "epsilon"}),
        ("adadelta", "Adadelta", {"rho", "epsilon"}),
    )
}


@dataclass(frozen=True, init=False)
class Optimizer:
    """A Keras optimizer by name, with its arguments; any of them may be ``C("option")``.

    Examples
    --------
    >>> Optimizer("adam", learning_rate=1e-3)
    Optimizer('adam', learning_rate=0.001)
    """

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    def __init__(
        self, name: str = "adam", arguments: Mapping[str, object] | None = None, **more: object
    ) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "arguments", {**(arguments or {}), **more})
        if not references(self):
            self._check()

    def __repr__(self) -> str:
        arguments = "".join(f", {k}={v!r}" for k, v in self.arguments.items())
        return f"Optimizer({self.name!r}{arguments})"

    def _check(self) -> None:
        if self.name not in OPTIMIZERS:
            raise ResearchError(f"unknown optimizer {self.name!r}; there are {list(OPTIMIZERS)}")
        allowed = OPTIMIZERS[self.name][1]
        unknown = sorted(set(self.arguments) - allowed)
        if unknown:
            raise ResearchError(
                f"optimizer {self.name!r} takes no argument {unknown}; it takes {sorted(allowed)}"
            )
        rate = self.arguments.get("learning_rate", _DEFAULT_RATE)
        if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 < float(rate) < math.inf:
            raise ResearchError(f"learning_rate={rate!r} of {self!r} must be a positive number")

    def build(self) -> keras.optimizers.Optimizer:
        """Make the Keras optimizer."""
        import keras

        make = getattr(keras.optimizers, OPTIMIZERS[self.name][0])
        arguments = {"learning_rate": _DEFAULT_RATE, **self.arguments}
        return make(**arguments)


#: Losses over logits ``(n, n_classes)`` and one-hot targets of the same shape.
LOSSES: Mapping[str, tuple[str, frozenset[str]]] = {
    "softmax_cross_entropy": ("CategoricalCrossentropy", frozenset({"label_smoothing"})),
    "focal": ("CategoricalFocalCrossentropy", frozenset({"alpha", "gamma", "label_smoothing"})),
}


@dataclass(frozen=True, init=False)
class Loss:
    """A loss over logits and one-hot targets, by name, with its arguments.

    Examples
    --------
    >>> Loss("focal", gamma=2.0)
    Loss('focal', gamma=2.0)
    """

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    def __init__(
        self,
        name: str = "softmax_cross_entropy",
        arguments: Mapping[str, object] | None = None,
        **more: object,
    ) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "arguments", {**(arguments or {}), **more})
        if not references(self):
            self._check()

    def __repr__(self) -> str:
        arguments = "".join(f", {k}={v!r}" for k, v in self.arguments.items())
        return f"Loss({self.name!r}{arguments})"

    def _check(self) -> None:
        if self.name not in LOSSES:
            raise ResearchError(f"unknown loss {self.name!r}; there are {list(LOSSES)}")
        unknown = sorted(set(self.arguments) - LOSSES[self.name][1])
        if unknown:
            raise ResearchError(
                f"loss {self.name!r} takes no argument {unknown}; it takes "
                f"{sorted(LOSSES[self.name][1])}"
            )

    def build(self) -> keras.losses.Loss:
        """Make the Keras loss."""
        import keras

        return getattr(keras.losses, LOSSES[self.name][0])(from_logits=True, **self.arguments)
