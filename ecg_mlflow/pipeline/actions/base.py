"""Provide the base class of actions, which checks arguments, and their shared formulas."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.grids import references

Signal = npt.NDArray[np.float32]
#: Resampling is by a ratio of whole numbers up to this: exact to 1e-8.
_RATIO = 10_000


@dataclass(frozen=True)
class Action:
    """One step of a pipeline.

    Placeholders (``C("name")``) among the arguments are checked when they have values.
    """

    #: The `Pipeline` method that adds the action, for messages.
    name: ClassVar[str]
    #: How many names the action's list needs, where it has one.
    _at_least: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not references(self):
            self._check()

    def _check(self) -> None:
        """Raise a `PipelineError` if an argument is wrong."""

    def __str__(self) -> str:
        arguments = (f"{f.name}={_shown(getattr(self, f.name))}" for f in fields(self))
        return f"{self.name}({', '.join(arguments)})"

    def _require(self, ok: bool, allowed: str) -> None:
        if not ok:
            raise PipelineError(f"{self}: {allowed}")

    def _require_names(self, argument: str) -> None:
        names = getattr(self, argument)
        self._require(
            isinstance(names, (tuple, list))
            and all(isinstance(name, str) for name in names)
            and self._at_least <= len(names) == len(set(names)),
            f"{argument} must be a list of names, {'at least one and ' * self._at_least}none twice",
        )


def resampled_length(n_samples: int, fs: float, fs_new: float) -> int:
    """Return the length after resampling; a frequency of 0 or less keeps the signal."""
    return n_samples if fs_new <= 0 else max(1, int(fs_new * n_samples / fs))


def interpolate(signal: Signal, n_samples: int) -> Signal:
    """Interpolate linearly at ``linspace(0, len(signal) - 1, n_samples)``."""
    if n_samples == len(signal):
        return signal
    places = np.linspace(0, len(signal) - 1, n_samples)
    known = np.arange(len(signal))
    return as_signal(np.stack([np.interp(places, known, lead) for lead in signal.T], axis=1))


def resample_filtered(signal: Signal, fs: float, fs_new: float) -> Signal:
    """Resample with `scipy.signal.resample_poly`, whose filter removes what would be aliased.

    ``fs_new / fs`` is taken as a fraction of whole numbers up to 10,000. The line through the first
    and the last sample is subtracted before filtering, so that an offset doesn't ring at the ends.
    """
    n_samples = resampled_length(len(signal), fs, fs_new)
    if n_samples == len(signal) or len(signal) == 1:
        return interpolate(signal, n_samples)
    # SciPy takes long to import.
    from scipy.signal import resample_poly

    ratio = max(Fraction(fs_new / fs).limit_denominator(_RATIO), Fraction(1, _RATIO))
    exact = signal.astype(np.float64)
    made = resample_poly(exact, ratio.numerator, ratio.denominator, axis=0, padtype="line")
    return as_signal(made[:n_samples])


def as_signal(values: npt.NDArray[Any]) -> Signal:
    """Return the values as float32, without a copy if they are float32 already."""
    signal: Signal = values.astype(np.float32, copy=False)
    return signal


def _shown(argument: object) -> str:
    """Return an argument as messages show it: a function by its name."""
    name = getattr(argument, "__name__", None)
    return name if isinstance(name, str) else repr(argument)
