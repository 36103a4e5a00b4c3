"""Define the actions that begin what runs for every batch: random ones, and cuts into windows.

Random numbers are drawn for each record and epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.grids.numbers import is_integer
from ecg_mlflow.pipeline.actions.base import (
    Action,
    Signal,
    as_signal,
    interpolate,
    resampled_length,
)
from ecg_mlflow.records.label_sets import split_label

# Drawn for records: one row each.
Numbers = npt.NDArray[Any]
# First samples of windows.
Starts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ChanceAction(Action):
    """An action that depends on numbers drawn for each record and epoch."""

    def draw(self, rng: np.random.Generator, n_records: int, n_leads: int) -> Numbers:
        """Draw the numbers of `n_records` records, one row each."""
        raise NotImplementedError


@counts_as("center_flip", version=1)
@dataclass(frozen=True)
class CenterFlip(ChanceAction):
    """Subtract each lead's mean and multiply the lead by a random sign.

    The sign is +1 outside training unless `flip_at_test` is set, so that an evaluation is
    independent of the seed.
    """

    name = "center_flip"
    flip_at_test: bool

    def _check(self) -> None:
        self._require(isinstance(self.flip_at_test, bool), "flip_at_test must be True or False")

    def draw(self, rng: np.random.Generator, n_records: int, n_leads: int) -> Numbers:
        """Draw the signs, ``(n_records, n_leads)``."""
        return rng.integers(0, 2, (n_records, n_leads)).astype(np.float32) * 2 - 1

    def apply(self, signal: Signal, sign: npt.NDArray[np.float32]) -> Signal:
        """Return the centred and flipped signal; `sign` is ``(n_leads,)``."""
        return as_signal((signal - signal.mean(axis=0, dtype=np.float64)) * sign)


@counts_as("random_resample_signals", version=1)
@dataclass(frozen=True)
class RandomResampleSignals(ChanceAction):
    """Resample to a frequency drawn for each record; a draw of 0 or less keeps the record.

    `distribution` is the name of a method of `numpy.random.Generator`, in Hz.
    """

    name = "random_resample_signals"
    distribution: str
    parameters: Mapping[str, object]

    def _check(self) -> None:
        try:
            trial = self.draw(np.random.default_rng(0), 3, 1)
        except (AttributeError, TypeError, ValueError) as error:
            raise PipelineError(
                f"{self}: distribution must be a method of numpy.random.Generator with its own "
                f'parameters, as in ("normal", loc=300, scale=10): {error}'
            ) from error
        self._require(
            trial.shape == (3,) and bool(np.isfinite(trial).all()),
            f"the distribution must give one finite number per record; for three it gave {trial}",
        )

    def draw(self, rng: np.random.Generator, n_records: int, n_leads: int) -> Numbers:
        """Draw the new frequencies in Hz, ``(n_records,)``."""
        method = getattr(rng, self.distribution)
        return np.asarray(method(size=n_records, **self.parameters), dtype=np.float64)

    def apply(self, signal: Signal, fs: float, fs_new: float) -> Signal:
        """Return the resampled signal."""
        return interpolate(signal, resampled_length(len(signal), fs, fs_new))


@dataclass(frozen=True)
class SplitAction(Action):
    """An action that cuts a record into windows of one length."""

    length: int
    #: The argument that may depend on the label, and whether a smaller one makes more windows.
    by_label: ClassVar[str]
    smaller_makes_more: ClassVar[bool]

    def _check(self) -> None:
        self._require(
            is_integer(self.length) and self.length >= 1,
            "length must be a whole number of samples, at least 1",
        )
        given = self.per_label()
        values = list(given.values()) if isinstance(given, Mapping) else [given]
        self._require(
            bool(values) and all(is_integer(v) and v >= 1 for v in values),
            f"{self.by_label} must be a whole number of at least 1, or a dict of such numbers by "
            "label",
        )

    def per_label(self) -> int | Mapping[str, int]:
        """Return the number that may depend on the label."""
        given: int | Mapping[str, int] = getattr(self, self.by_label)
        return given

    def value(self, label: str) -> int:
        """Return that number for a record's label; for several labels, the one with most windows.

        Raises
        ------
        PipelineError
            If a label has no number.
        """
        given = self.per_label()
        if not isinstance(given, Mapping):
            return given
        labels = split_label(label)
        if unknown := [one for one in labels if one not in given]:
            raise PipelineError(f"{self}: label {unknown[0]!r} is not among {sorted(given)}")
        numbers = [given[one] for one in labels]
        return min(numbers) if self.smaller_makes_more else max(numbers)

    def count(self, n_samples: int, label: str) -> int:
        """Return how many windows a record of this length and label gives."""
        raise NotImplementedError

    def starts(self, n_samples: int, label: str, drawn: Numbers | None = None) -> Starts:
        """Return the first sample of each window of a record; `drawn` is its row of `draw`."""
        raise NotImplementedError

    def cut(self, signal: Signal, starts: Starts) -> Signal:
        """Return windows ``(n_windows, length, n_leads)``; zeros pad short records on the left."""
        missing = max(0, self.length - len(signal))
        padded = np.pad(signal, ((missing, 0), (0, 0)))
        return np.stack([padded[start : start + self.length] for start in starts])


@counts_as("split_signals", version=1)
@dataclass(frozen=True)
class SplitSignals(SplitAction):
    """Cut windows every `step` samples; the rest at the end is left out."""

    name = "split_signals"
    by_label = "step"
    smaller_makes_more = True
    step: int | Mapping[str, int]

    def count(self, n_samples: int, label: str) -> int:
        """Return how many whole windows fit; a record that is too short gives one."""
        return max(0, n_samples - self.length) // self.value(label) + 1

    def starts(self, n_samples: int, label: str, drawn: Numbers | None = None) -> Starts:
        """Return the first sample of each window of a record."""
        last = max(0, n_samples - self.length)
        return np.arange(0, last + 1, self.value(label), dtype=np.int64)


@counts_as("random_split_signals", version=1)
@dataclass(frozen=True)
class RandomSplitSignals(SplitAction, ChanceAction):
    """Cut `n` windows at positions drawn with replacement."""

    name = "random_split_signals"
    by_label = "n"
    smaller_makes_more = False
    n: int | Mapping[str, int]

    def count(self, n_samples: int, label: str) -> int:
        """Return the number of windows, which is independent of the length."""
        return self.value(label)

    def draw(self, rng: np.random.Generator, n_records: int, n_leads: int) -> Numbers:
        """Draw positions in [0, 1), ``(n_records, most windows of a record)``."""
        most = max(self.n.values()) if isinstance(self.n, Mapping) else self.n
        return rng.random((n_records, most))

    def starts(self, n_samples: int, label: str, drawn: Numbers | None = None) -> Starts:
        """Return the first sample of each window of a record."""
        assert drawn is not None
        last = max(0, n_samples - self.length)
        return (drawn[: self.value(label)] * (last + 1)).astype(np.int64)
