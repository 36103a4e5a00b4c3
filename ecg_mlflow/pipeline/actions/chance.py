"""Define random actions on whole records, with numbers drawn for each record and epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.pipeline.actions.base import (
    Action,
    Signal,
    as_signal,
    interpolate,
    resampled_length,
)


@dataclass(frozen=True)
class ChanceAction(Action):
    """An action that depends on numbers drawn for each record and epoch."""

    def draw(self, rng: np.random.Generator, n_records: int, n_leads: int) -> npt.NDArray[Any]:
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

    def draw(self, rng: np.random.Generator, n_records: int, n_leads: int) -> npt.NDArray[Any]:
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

    def draw(self, rng: np.random.Generator, n_records: int, n_leads: int) -> npt.NDArray[Any]:
        """Draw the new frequencies in Hz, ``(n_records,)``."""
        method = getattr(rng, self.distribution)
        return np.asarray(method(size=n_records, **self.parameters), dtype=np.float64)

    def apply(self, signal: Signal, fs: float, fs_new: float) -> Signal:
        """Return the resampled signal."""
        return interpolate(signal, resampled_length(len(signal), fs, fs_new))
