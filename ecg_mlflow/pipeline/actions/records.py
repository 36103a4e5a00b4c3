"""Define deterministic actions on whole records, which run once per record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.grids import C
from ecg_mlflow.grids.canonical import added_field, counts_as
from ecg_mlflow.grids.numbers import is_integer, is_real
from ecg_mlflow.pipeline.actions.base import (
    Action,
    Signal,
    as_signal,
    interpolate,
    resample_filtered,
    resampled_length,
)
from ecg_mlflow.records.leads import lead_key, lead_positions

SignalStep = Callable[[Signal, float], Signal]
LINEAR, POLYPHASE = _METHODS = ("linear", "polyphase")
#: Windows of the two medians of `RemoveBaseline`, in s.
_BASELINE_S = (0.2, 0.6)


@dataclass(frozen=True)
class RecordAction(Action):
    """A deterministic action on a record; it runs once, and its result is cached."""

    def columns(self, leads: tuple[str, ...]) -> tuple[int, ...]:
        """Return the positions of the leads that remain, in their new order."""
        return tuple(range(len(leads)))

    def output_leads(self, leads: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the leads after the action."""
        return tuple(leads[column] for column in self.columns(leads))

    def output_fs(self, fs: float) -> float:
        """Return the sampling frequency after the action, in Hz."""
        return fs

    def keeps(self, n_samples: int, fs: float) -> bool:
        """Return whether to keep a recording of this length."""
        return True

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the new signal ``(n_samples, n_leads)``."""
        return signal


@counts_as("drop_short_signals", version=1)
@dataclass(frozen=True)
class DropShortSignals(RecordAction):
    """Leave out the recordings that are shorter than `seconds`, before any resampling."""

    name = "drop_short_signals"
    seconds: float

    def _check(self) -> None:
        self._require(is_real(self.seconds) and self.seconds > 0, "seconds must be positive")

    def keeps(self, n_samples: int, fs: float) -> bool:
        """Return whether a recording is long enough."""
        return n_samples >= self.seconds * fs


@dataclass(frozen=True)
class _ListedLeads(RecordAction):
    leads: tuple[str, ...]

    def _check(self) -> None:
        self._require_names("leads")

    def _positions(self, leads: tuple[str, ...]) -> list[list[int]]:
        """Return where each listed lead is, in any spelling; the record must have all of them."""
        found = [lead_positions(lead, leads) for lead in self.leads]
        missing = [lead for lead, places in zip(self.leads, found, strict=True) if not places]
        self._require(not missing, f"the record has no lead {missing}; it has {list(leads)}")
        return found

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the columns that remain."""
        return signal[:, list(self.columns(leads))]


@counts_as("keep_leads", version=1)
@dataclass(frozen=True)
class KeepLeads(_ListedLeads):
    """Keep these leads, in this order and with these names."""

    name = "keep_leads"

    def columns(self, leads: tuple[str, ...]) -> tuple[int, ...]:
        """Return the positions of the listed leads, of which each must be there once."""
        found = self._positions(leads)
        twice = [lead for lead, places in zip(self.leads, found, strict=True) if len(places) > 1]
        self._require(not twice, f"several leads of the record are called {twice}: {list(leads)}")
        return tuple(place for places in found for place in places)

    def output_leads(self, leads: tuple[str, ...]) -> tuple[str, ...]:
        """Return the listed names."""
        self.columns(leads)
        return tuple(self.leads)


@counts_as("reorder_leads", version=1)
@dataclass(frozen=True)
class ReorderLeads(KeepLeads):
    """Put the leads in this order; every lead of the record must be named."""

    name = "reorder_leads"

    def columns(self, leads: tuple[str, ...]) -> tuple[int, ...]:
        """Return the new order, which must name every lead."""
        order = super().columns(leads)
        left = [lead for i, lead in enumerate(leads) if i not in order]
        self._require(
            not left, f"lead {left} is not in the order; use keep_leads to leave leads out"
        )
        return order


@counts_as("drop_leads", version=1)
@dataclass(frozen=True)
class DropLeads(_ListedLeads):
    """Leave these leads out."""

    name = "drop_leads"
    _at_least = 0

    def columns(self, leads: tuple[str, ...]) -> tuple[int, ...]:
        """Return the leads that are left, at least one; of several with one name, all go."""
        dropped = {place for places in self._positions(leads) for place in places}
        kept = tuple(column for column in range(len(leads)) if column not in dropped)
        self._require(bool(kept), "this leaves no lead")
        return kept


@counts_as("rename_leads", version=1)
@dataclass(frozen=True)
class RenameLeads(RecordAction):
    """Give leads new names, ``{old: new}``; those that a record lacks are passed over."""

    name = "rename_leads"
    names: Mapping[str, str]

    def _check(self) -> None:
        self._require(
            isinstance(self.names, Mapping)
            and all(isinstance(name, str) for pair in self.names.items() for name in pair),
            "names must be a dict of leads, {old: new}",
        )

    def output_leads(self, leads: tuple[str, ...]) -> tuple[str, ...]:
        """Return the leads with their new names, which must differ."""
        new = {lead_key(old): name for old, name in self.names.items()}
        renamed = tuple(new.get(lead_key(lead), lead) for lead in leads)
        twice = sorted({name for name in new.values() if len(lead_positions(name, renamed)) > 1})
        self._require(not twice, f"several leads would be called {twice}: {list(renamed)}")
        return renamed


@counts_as("band_pass_signals", version=1)
@dataclass(frozen=True)
class BandPassSignals(RecordAction):
    """Butterworth filter, forward and backward (no phase shift); edges in Hz, None is open."""

    name = "band_pass_signals"
    low: float | None
    high: float | None
    order: int

    def _check(self) -> None:
        edges = [f for f in (self.low, self.high) if f is not None]
        self._require(
            bool(edges)
            and all(is_real(f) and f > 0 for f in edges)
            and all(low < high for low, high in pairwise(edges)),
            "give low, high or both in Hz, positive, low below high",
        )
        self._require(is_integer(self.order) and self.order >= 1, "order must be at least 1")

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the filtered signal."""
        from scipy.signal import butter, sosfiltfilt

        edges = [f for f in (self.low, self.high) if f is not None]
        self._require(edges[-1] < fs / 2, f"at fs={fs:g} Hz, edges must lie below {fs / 2:g} Hz")
        kind = "bandpass" if len(edges) == 2 else "highpass" if self.high is None else "lowpass"
        critical = edges if len(edges) == 2 else edges[0]
        sections = butter(self.order, critical, kind, output="sos", fs=fs)
        # SciPy raises for a signal that is shorter than its default padding.
        longest_pad = 3 * (2 * len(sections) + 1)
        pad = None if len(signal) > longest_pad else len(signal) - 1
        return as_signal(sosfiltfilt(sections, signal, axis=0, padlen=pad))


@counts_as("remove_powerline", version=1)
@dataclass(frozen=True)
class RemovePowerline(RecordAction):
    """Notch filter at the frequency of the mains, forward and backward (no phase shift).

    One pass is ``scipy.signal.iirnotch(frequency, quality)``: a second-order notch of the width
    ``frequency / quality`` at -3 dB (Orfanidis, "Introduction to Signal Processing", 1996).
    """

    name = "remove_powerline"
    frequency: float
    quality: float

    def _check(self) -> None:
        self._require(
            is_real(self.frequency) and self.frequency > 0,
            "frequency must be that of the mains in Hz, 50 or 60",
        )
        self._require(is_real(self.quality) and self.quality > 0, "quality must be positive")

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the filtered signal."""
        from scipy.signal import iirnotch, sosfiltfilt, tf2sos

        self._require(
            self.frequency < fs / 2,
            f"at fs={fs:g} Hz, frequency must lie below {fs / 2:g} Hz; filter before resampling",
        )
        sections = tf2sos(*iirnotch(self.frequency, self.quality, fs))
        # The notch rings for much longer than SciPy's default padding.
        return as_signal(
            sosfiltfilt(sections, signal, axis=0, padlen=min(len(signal) - 1, int(fs)))
        )


@counts_as("remove_baseline", version=1)
@dataclass(frozen=True)
class RemoveBaseline(RecordAction):
    """Subtract the baseline that two running medians find, which has no phase shift.

    The median over 200 ms removes the QRS complex and the P wave, that of its result over 600 ms
    the T wave; what is left is the baseline (de Chazal, O'Dwyer and Reilly, IEEE Transactions on
    Biomedical Engineering 51(7), 2004, doi:10.1109/TBME.2004.827359).
    """

    name = "remove_baseline"

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the signal without its baseline."""
        from scipy.ndimage import median_filter

        baseline = signal
        for seconds in _BASELINE_S:
            # An odd number of samples, so that the window is centred.
            width = 2 * round(seconds * fs / 2) + 1
            baseline = median_filter(baseline, size=(width, 1), mode="nearest")
        return signal - baseline


@counts_as("standardise_signals", version=1)
@dataclass(frozen=True)
class StandardiseSignals(RecordAction):
    """Subtract each lead's mean and divide by its standard deviation; a flat lead becomes 0."""

    name = "standardise_signals"

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the signal with mean 0 and standard deviation 1 in each lead."""
        centred = signal - signal.mean(axis=0, dtype=np.float64)
        deviation = centred.std(axis=0)
        return as_signal(centred / np.where(deviation > 0, deviation, 1.0))


@counts_as("resample_signals", version=1)
@dataclass(frozen=True)
class ResampleSignals(RecordAction):
    """Resample to one frequency, in Hz.

    `method` is "polyphase", which filters first what the new frequency can't hold, or "linear",
    interpolation without a filter, which earlier versions did.
    """

    name = "resample_signals"
    fs: float
    method: str = added_field("linear")

    def _check(self) -> None:
        self._require(is_real(self.fs) and self.fs > 0, "fs must be a positive frequency in Hz")
        self._require(self.method in _METHODS, f"method must be {' or '.join(_METHODS)}")

    def output_fs(self, fs: float) -> float:
        """Return the new frequency, in Hz."""
        return float(self.fs)

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the resampled signal, of `resampled_length` in both methods."""
        if self.method == LINEAR:
            return interpolate(signal, resampled_length(len(signal), fs, self.fs))
        return resample_filtered(signal, fs, self.fs)


@counts_as("apply", version=1)
@dataclass(frozen=True)
class ApplyStep(RecordAction):
    """Run the user's function, ``step(signal, fs) -> signal``, plain or ``@njit``.

    Before the first random action it runs once per record; between that and the split, on every
    record in each epoch; after the split, on every window.
    """

    name = "apply"
    step: SignalStep | C

    def _check(self) -> None:
        self._require(callable(self.step), "step must be a function (signal, fs) -> signal")

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the result of the step as float32.

        Raises
        ------
        PipelineError
            If the step fails, or returns anything but a signal with the same number of leads.
        """
        assert callable(self.step)
        try:
            result = np.asarray(self.step(np.ascontiguousarray(signal), fs))
        except Exception as error:
            raise PipelineError(
                f"{self} failed on a signal of shape {signal.shape} at {fs:g} Hz: "
                f"{type(error).__name__}: {error}"
            ) from error
        self._require(
            result.dtype.kind in "iuf"
            and result.ndim == 2
            and result.shape[1] == signal.shape[1]
            and len(result) > 0,
            f"step must return real numbers (n_samples, {signal.shape[1]}), as many leads as it "
            f"got; for {signal.shape} it returned {result.shape} of {result.dtype}",
        )
        return as_signal(result)
