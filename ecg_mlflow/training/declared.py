"""Declare optimizer and loss in a grid file by names and numbers, checked without Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ecg_mlflow.errors import ResearchError
from ecg_mlflow.grids import C, references
from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.grids.numbers import is_real

if TYPE_CHECKING:
    import keras

#: One default for all optimizers, whose defaults differ in Keras.
_DEFAULT_RATE = 1e-3
_COMMON = {"learning_rate", "weight_decay", "use_ema", "ema_momentum"}
_CLIPPING = {"clipnorm", "clipvalue", "global_clipnorm"}
_ADAM = {"beta_1", "beta_2", "epsilon"}
#: Keras's optimizers with their arguments, to find typing errors without Keras.
OPTIMIZERS: Mapping[str, tuple[str, frozenset[str]]] = {
    class_name.lower(): (class_name, frozenset({*_COMMON, *_CLIPPING, *own}))
    for class_name, own in (
        ("Adam", {*_ADAM, "amsgrad"}),
        ("AdamW", {*_ADAM, "amsgrad"}),
        ("Adamax", _ADAM),
        ("Nadam", _ADAM),
        ("Lion", {"beta_1", "beta_2"}),
        ("SGD", {"momentum", "nesterov"}),
        ("RMSprop", {"rho", "momentum", "epsilon", "centered"}),
        ("Adagrad", {"initial_accumulator_value", "epsilon"}),
        ("Adadelta", {"rho", "epsilon"}),
    )
}
#: Losses over logits ``(n, n_classes)`` and targets of the same shape: one-hot, or, for the
#: losses of `MULTILABEL`, independently 0 or 1 for each class.
LOSSES: Mapping[str, tuple[str, frozenset[str]]] = {
    "softmax_cross_entropy": ("CategoricalCrossentropy", frozenset({"label_smoothing"})),
    "focal": ("CategoricalFocalCrossentropy", frozenset({"alpha", "gamma", "label_smoothing"})),
    "sigmoid_cross_entropy": ("BinaryCrossentropy", frozenset({"label_smoothing"})),
    "sigmoid_focal": (
        "BinaryFocalCrossentropy",
        frozenset({"apply_class_balancing", "alpha", "gamma", "label_smoothing"}),
    ),
}
MULTILABEL = ("sigmoid_cross_entropy", "sigmoid_focal")


@dataclass(frozen=True, init=False, repr=False)
class _Declared:
    """A Keras object of a table, by name, with its arguments."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    #: The kind for messages, the known classes with their arguments, and the default.
    _kind: ClassVar[str]
    _table: ClassVar[Mapping[str, tuple[str, frozenset[str]]]]
    _default: ClassVar[str]

    def __init__(
        self,
        name: str | C | None = None,
        arguments: Mapping[str, object] | None = None,
        **more: object,
    ) -> None:
        object.__setattr__(self, "name", self._default if name is None else name)
        object.__setattr__(self, "arguments", {**(arguments or {}), **more})
        if not references(self):
            self._check()

    def __repr__(self) -> str:
        arguments = "".join(f", {k}={v!r}" for k, v in self.arguments.items())
        return f"{type(self).__name__}({self.name!r}{arguments})"

    def _check(self) -> None:
        if self.name not in self._table:
            raise ResearchError(
                f"unknown {self._kind} {self.name!r}; choose one of {list(self._table)}"
            )
        allowed = self._table[self.name][1]
        unknown = sorted(set(self.arguments) - allowed)
        if unknown:
            raise ResearchError(
                f"{self._kind} {self.name!r} takes no argument {unknown}; it takes "
                f"{sorted(allowed)}"
            )


@counts_as("Optimizer", version=1)
class Optimizer(_Declared):
    """A Keras optimizer by name, with its arguments; any of them may be ``C("option")``.

    The default is ``adam``, the default ``learning_rate`` of all is 0.001.

    Examples
    --------
    >>> Optimizer("adam", learning_rate=1e-3)
    Optimizer('adam', learning_rate=0.001)
    """

    _kind = "optimizer"
    _table = OPTIMIZERS
    _default = "adam"

    def _check(self) -> None:
        super()._check()
        rate = self.arguments.get("learning_rate", _DEFAULT_RATE)
        if not is_real(rate) or rate <= 0:
            raise ResearchError(f"learning_rate={rate!r} of {self!r} must be a positive number")

    def build(self) -> keras.optimizers.Optimizer:
        """Make the Keras optimizer."""
        import keras

        make = getattr(keras.optimizers, OPTIMIZERS[self.name][0])
        rate: Any = self.arguments.get("learning_rate", _DEFAULT_RATE)
        # Keras takes no whole number, and none of NumPy.
        return make(**{**self.arguments, "learning_rate": float(rate)})


@counts_as("Loss", version=1)
class Loss(_Declared):
    """A loss over logits, by name, with its arguments.

    ``softmax_cross_entropy``, the default, and ``focal`` are for records with one class each,
    ``sigmoid_cross_entropy`` and ``sigmoid_focal`` for records with several classes or none.

    Examples
    --------
    >>> Loss("focal", gamma=2.0)
    Loss('focal', gamma=2.0)
    """

    _kind = "loss"
    _table = LOSSES
    _default = "softmax_cross_entropy"

    @property
    def activation(self) -> Literal["softmax", "sigmoid"]:
        """The function that turns logits into probabilities."""
        return "sigmoid" if self.name in MULTILABEL else "softmax"

    def build(self) -> keras.losses.Loss:
        """Make the Keras loss."""
        import keras

        return getattr(keras.losses, LOSSES[self.name][0])(from_logits=True, **self.arguments)
