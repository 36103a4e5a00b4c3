"""Describe one-dimensional residual networks, build them, and compute their size and cost.

A network is a `ResNetSpec`: plain numbers that are checked on construction. It gives the Keras
model (`build`), and without loading Keras the number of trainable parameters and of multiply-adds
of a forward pass.

Source of the architecture: He et al., "Deep residual learning for image recognition", CVPR 2016,
in the one-dimensional form that CardIO and BatchFlow trained on ECGs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_mlflow.errors import ModelError
from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.grids.numbers import is_integer, is_real

if TYPE_CHECKING:
    import keras

STEM_KERNEL = 7
BLOCK_KERNEL = 3
POOL = 3
#: The layer that each letter of a layout string adds to a block.
LETTERS = {"c": "convolution", "n": "batch normalization", "a": "activation (ReLU)"}


@dataclass(frozen=True)
class ResNetSpec:
    """A residual network as plain numbers.

    Parameters
    ----------
    input_shape
        ``(n_samples, n_leads)`` of one window.
    n_classes
        Number of outputs (logits).
    blocks
        Number of residual blocks in each group; each group after the first halves the length.
    filters
        Number of filters in each group.
    layout
        Layers of one block, one letter each: ``c`` convolution of width 3 without bias, ``n`` batch
        normalization, ``a`` ReLU.
    input_filters
        Number of filters of the stem.
    dropout
        Rate before the last layer.
    momentum
        Momentum of the moving batch statistics:
        ``moving = momentum * moving + (1 - momentum) * batch``.

    Raises
    ------
    ModelError
        If a value is out of range, or `blocks` and `filters` differ in length.
    """

    input_shape: tuple[int, int]
    n_classes: int
    blocks: tuple[int, ...]
    filters: tuple[int, ...]
    layout: str
    input_filters: int
    dropout: float
    momentum: float

    def __post_init__(self) -> None:
        for name in ("blocks", "filters", "input_shape"):
            object.__setattr__(self, name, _whole_numbers(name, getattr(self, name)))
        for name in ("input_filters", "n_classes"):
            number = getattr(self, name)
            if not is_integer(number) or number < 1:
                raise ModelError(f"{name}={number!r} must be a whole number of at least 1")
            object.__setattr__(self, name, int(number))
        if len(self.blocks) != len(self.filters) or not self.blocks:
            raise ModelError(
                f"blocks={list(self.blocks)} and filters={list(self.filters)} must name the same "
                f"number of groups, at least one; they have {len(self.blocks)} and "
                f"{len(self.filters)}"
            )
        if not isinstance(self.layout, str):
            raise ModelError(f"layout={self.layout!r} must be a text such as 'cnacna'")
        unknown = sorted(set(self.layout) - set(LETTERS))
        if unknown or "c" not in self.layout:
            allowed = ", ".join(f"{letter!r} {what}" for letter, what in LETTERS.items())
            raise ModelError(
                f"layout={self.layout!r} must be made of {allowed}, with at least one 'c'"
                + (f"; it has {unknown}" if unknown else "")
            )
        for name in ("dropout", "momentum"):
            share = getattr(self, name)
            if not is_real(share) or not 0 <= share < 1:
                raise ModelError(f"{name}={share!r} must lie in [0, 1)")

    def residual_blocks(self) -> Iterator[tuple[int, int]]:
        """Yield the number of filters and the stride of each residual block."""
        for group, (n_blocks, n_filters) in enumerate(zip(self.blocks, self.filters, strict=True)):
            for block in range(n_blocks):
                yield n_filters, 2 if group > 0 and block == 0 else 1

    def convolutions(self) -> list[tuple[int, int, int, int]]:
        """Return for each convolution ``(kernel width, channels in and out, output length)``."""
        length, leads = self.input_shape
        length, width = -(-length // 2), self.input_filters
        found = [(STEM_KERNEL, leads, width, length)]
        length = -(-length // 2)
        for n_filters, stride in self.residual_blocks():
            length = -(-length // stride)
            if stride > 1 or width != n_filters:
                found.append((1, width, n_filters, length))
            for _ in range(self.layout.count("c")):
                found.append((BLOCK_KERNEL, width, n_filters, length))
                width = n_filters
        return found

    def trainable_parameters(self) -> int:
        """Return the number of trainable parameters, from the formula."""
        width = self.input_filters
        norms = 2 * width
        for n_filters, _ in self.residual_blocks():
            for letter in self.layout:
                width = n_filters if letter == "c" else width
                norms += 2 * width if letter == "n" else 0
        kernels = sum(k * n_in * n_out for k, n_in, n_out, _ in self.convolutions())
        return kernels + norms + self.n_classes * (self.filters[-1] + 1)

    def multiply_adds(self) -> int:
        """Return the multiply-adds of one window's forward pass; training costs about 3 times."""
        body = sum(k * n_in * n_out * length for k, n_in, n_out, length in self.convolutions())
        return body + self.n_classes * self.filters[-1]

    def build(self) -> keras.Model:
        """Build the Keras model, from windows to logits."""
        import keras
        from keras import layers

        inputs = keras.Input(self.input_shape)
        x = _convolution(self.input_filters, STEM_KERNEL, 2)(inputs)
        x = layers.BatchNormalization(momentum=self.momentum)(x)
        x = layers.MaxPooling1D(POOL, strides=2, padding="same")(layers.ReLU()(x))
        for n_filters, stride in self.residual_blocks():
            x = self._add_block(x, n_filters, stride)
        x = layers.Dropout(self.dropout)(layers.GlobalAveragePooling1D()(x))
        return keras.Model(inputs, layers.Dense(self.n_classes)(x))

    def _add_block(self, x: keras.KerasTensor, n_filters: int, stride: int) -> keras.KerasTensor:
        """Add one residual block: the layers of the layout string, plus the shortcut."""
        from keras import layers

        shortcut = x
        if stride > 1 or x.shape[-1] != n_filters:
            shortcut = _convolution(n_filters, 1, stride)(x)
        for letter in self.layout:
            if letter == "c":
                x, stride = _convolution(n_filters, BLOCK_KERNEL, stride)(x), 1
            elif letter == "n":
                x = layers.BatchNormalization(momentum=self.momentum)(x)
            else:
                x = layers.ReLU()(x)
        return layers.Add()([x, shortcut])


def _whole_numbers(name: str, given: Any) -> tuple[int, ...]:
    """Return a list of numbers of at least 1, those of NumPy too, as Python's.

    Raises
    ------
    ModelError
        If it is none.
    """
    if not isinstance(given, list | tuple | np.ndarray):
        raise ModelError(f"{name}={given!r} must be whole numbers of at least 1, in a list")
    values = tuple(given)
    if not all(is_integer(one) and one >= 1 for one in values):
        raise ModelError(f"{name}={values} must be whole numbers of at least 1")
    return tuple(map(int, values))


def _convolution(n_filters: int, width: int, stride: int) -> keras.layers.Layer:
    from keras import layers

    return layers.Conv1D(n_filters, width, strides=stride, padding="same", use_bias=False)


@counts_as("SpecBuilder", version=1)
@dataclass(eq=False, repr=False)
class SpecBuilder:
    """A model builder that can describe its network without loading Keras.

    Calling it builds the model; `describe` returns the specification for the same arguments. A
    study's plan gets parameter counts and costs from it.
    """

    describe: Callable[..., ResNetSpec]
    __name__: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        functools.update_wrapper(self, self.describe)

    def __call__(self, *args: Any, **options: Any) -> keras.Model:
        """Build the model."""
        return self.describe(*args, **options).build()

    def __repr__(self) -> str:
        return f"<model builder {self.__name__}>"

    def __reduce__(self) -> str:
        return self.__name__  # a module-level name: pickled by reference, like a function


@counts_as("ResNet", version=1)
@SpecBuilder
def ResNet(
    input_shape: tuple[int, int],
    n_classes: int,
    *,
    blocks: Sequence[int],
    filters: Sequence[int],
    layout: str,
    input_filters: int,
    dropout: float = 0.4,
    momentum: float = 0.9,
) -> ResNetSpec:
    """Residual network of any size; see `ResNetSpec` for the arguments."""
    n_samples, n_leads = input_shape
    return ResNetSpec(
        (n_samples, n_leads),
        n_classes,
        blocks,  # type: ignore[arg-type]
        filters,  # type: ignore[arg-type]
        layout,
        input_filters,
        dropout,
        momentum,
    )


def _classic(name: str, n_layers: int, blocks: Sequence[int]) -> SpecBuilder:
    """Give the options of `ResNet` the values of a known network."""
    describe = functools.partial(
        ResNet.describe,
        blocks=tuple(blocks),
        filters=(64, 128, 256, 512),
        layout="cnacna",
        input_filters=64,
    )
    doc = f"Residual network of {n_layers} layers (He et al. 2016, table 1); see `ResNetSpec`."
    vars(describe).update(__module__=__name__, __name__=name, __doc__=doc)
    return counts_as(name, version=1)(SpecBuilder(describe))


ResNet18 = _classic("ResNet18", 18, (2, 2, 2, 2))
ResNet34 = _classic("ResNet34", 34, (3, 4, 6, 3))
