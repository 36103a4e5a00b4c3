"""Define actions that cut a record into windows of one length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.pipeline.actions.base import Action, Signal, is_integer
from ecg_mlflow.pipeline.actions.chance import ChanceAction
from ecg_mlflow.records.label_sets import split_label


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

    def cut(self, signal: Signal, starts: npt.NDArray[np.int64]) -> Signal:
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

    def starts(self, n_samples: int, label: str) -> npt.NDArray[np.int64]:
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

    def draw(self, rng: np.random.Generator, n_records: int, n_leads: int) -> npt.NDArray[Any]:
        """Draw positions in [0, 1), ``(n_records, most windows of a record)``."""
        most = max(self.n.values()) if isinstance(self.n, Mapping) else self.n
        return rng.random((n_records, most))

    def starts(
        self, n_samples: int, label: str, places: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int64]:
        """Return the first sample of each window of a record."""
        last = max(0, n_samples - self.length)
        return (places[: self.value(label)] * (last + 1)).astype(np.int64)
