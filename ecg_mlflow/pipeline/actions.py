"""The signal actions: what each one means for one record, in plain NumPy.

An action is a frozen dataclass that checks its arguments when it is made. Signals are float32,
time first ``(n_samples, n_leads)``, in mV. What an action needs of chance comes as an argument,
drawn elsewhere. These definitions are the reference: the fused kernel of `kernels` must agree
with them, and runs instead of them where it can.

Sources: the actions of CardIO (``ecg_batch.py``) under their names, with the corrections that
their docstrings state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.grids import C, references

Signal = npt.NDArray[np.float32]
SignalStep = Callable[[Signal, float], Signal]


@dataclass(frozen=True)
class Action:
    """One step of a pipeline.

    Arguments that are still placeholders (``C("name")``) are checked once they have a value.
    """

    #: The `Pipeline` method that adds the action, for messages.
    name: ClassVar[str]

    def __post_init__(self) -> None:
        if not references(self):
            self._check()

    def _check(self) -> None:
        """Raise a `PipelineError` if an argument is wrong."""

    def __str__(self) -> str:
        arguments = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self))
        return f"{self.name}({', '.join(arguments)})"

    def _require(self, ok: bool, allowed: str) -> None:
        if not ok:
            raise PipelineError(f"{self}: {allowed}")

    def _require_names(self, what: str, names: object, at_least: int) -> None:
        self._require(
            isinstance(names, (tuple, list))
            and all(isinstance(name, str) for name in names)
            and at_least <= len(names) == len(set(names)),
            f"{what} must be a list of names, {'at least one and ' if at_least else ''}none of "
            "them twice",
        )


# --- Labels ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelAction(Action):
    """An action that changes or drops labels and never looks at the signal."""

    def label(self, label: str) -> str | None:
        """Return the record's new label, or None where the record is dropped."""
        raise NotImplementedError


@dataclass(frozen=True)
class DropLabels(LabelAction):
    """Leave out the records with one of these labels."""

    name = "drop_labels"
    labels: tuple[str, ...]

    def _check(self) -> None:
        self._require_names("labels", self.labels, 0)

    def label(self, label: str) -> str | None:
        """Return the label, or None where it is one of those to drop."""
        return None if label in self.labels else label


@dataclass(frozen=True)
class KeepLabels(LabelAction):
    """Leave out the records with any other label."""

    name = "keep_labels"
    labels: tuple[str, ...]

    def _check(self) -> None:
        self._require_names("labels", self.labels, 1)

    def label(self, label: str) -> str | None:
        """Return the label, or None where it is none of those to keep."""
        return label if label in self.labels else None


@dataclass(frozen=True)
class RenameLabels(LabelAction):
    """Give labels new names; two old ones may share a new one."""

    name = "rename_labels"
    names: Mapping[str, str]

    def _check(self) -> None:
        self._require(
            isinstance(self.names, Mapping)
            and all(isinstance(name, str) for pair in self.names.items() for name in pair),
            "names must be a dict of labels, {old: new}",
        )

    def label(self, label: str) -> str | None:
        """Return the label's new name; one that isn't mentioned stays."""
        return self.names.get(label, label)


# --- Whole records, without chance -------------------------------------------------------------


@dataclass(frozen=True)
class RecordAction(Action):
    """An action that needs nothing but the record, so that it runs once and is kept."""

    def output_leads(self, leads: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the leads after the action."""
        return leads

    def output_fs(self, fs: float) -> float:
        """Return the sampling frequency after the action, in Hz."""
        return fs

    def keeps(self, n_samples: int, fs: float) -> bool:
        """Say whether a recording of this length stays."""
        return True

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the new signal ``(n_samples, n_leads)``."""
        return signal


@dataclass(frozen=True)
class DropShortSignals(RecordAction):
    """Leave out the recordings that are shorter than `seconds`, as they were recorded."""

    name = "drop_short_signals"
    seconds: float

    def _check(self) -> None:
        self._require(_is_real(self.seconds) and self.seconds > 0, "seconds must be positive")

    def keeps(self, n_samples: int, fs: float) -> bool:
        """Say whether a recording lasts long enough."""
        return n_samples >= self.seconds * fs


@dataclass(frozen=True)
class KeepLeads(RecordAction):
    """Keep these leads, in this order."""

    name = "keep_leads"
    leads: tuple[str, ...]

    def _check(self) -> None:
        self._require_names("leads", self.leads, 1)

    def output_leads(self, leads: tuple[str, ...]) -> tuple[str, ...]:
        """Return the chosen leads, all of which must be there."""
        missing = [lead for lead in self.leads if lead not in leads]
        self._require(not missing, f"there is no lead {missing}; the record has {list(leads)}")
        return tuple(self.leads)

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the chosen columns."""
        return signal[:, [leads.index(lead) for lead in self.leads]]


@dataclass(frozen=True)
class ReorderLeads(KeepLeads):
    """Put the leads in this order; every lead of the record must be named."""

    name = "reorder_leads"

    def output_leads(self, leads: tuple[str, ...]) -> tuple[str, ...]:
        """Return the new order, which must name every lead."""
        super().output_leads(leads)
        left = [lead for lead in leads if lead not in self.leads]
        self._require(not left, f"lead {left} has no place; use keep_leads to leave leads out")
        return tuple(self.leads)


@dataclass(frozen=True)
class DropLeads(RecordAction):
    """Leave these leads out."""

    name = "drop_leads"
    leads: tuple[str, ...]

    def _check(self) -> None:
        self._require_names("leads", self.leads, 0)

    def output_leads(self, leads: tuple[str, ...]) -> tuple[str, ...]:
        """Return the leads that are left, at least one."""
        missing = [lead for lead in self.leads if lead not in leads]
        self._require(not missing, f"there is no lead {missing}; the record has {list(leads)}")
        kept = tuple(lead for lead in leads if lead not in self.leads)
        self._require(bool(kept), "this leaves no lead")
        return kept

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the columns that are left."""
        return signal[:, [i for i, lead in enumerate(leads) if lead not in self.leads]]


@dataclass(frozen=True)
class BandPassSignals(RecordAction):
    """Butterworth filter run forth and back (no phase shift); None leaves a side open, in Hz."""

    name = "band_pass_signals"
    low: float | None
    high: float | None
    order: int

    def _check(self) -> None:
        edges = [f for f in (self.low, self.high) if f is not None]
        self._require(
            bool(edges)
            and all(_is_real(f) and f > 0 for f in edges)
            and all(low < high for low, high in pairwise(edges)),
            "give low, high or both in Hz, positive, low below high",
        )
        self._require(_is_integer(self.order) and self.order >= 1, "order must be at least 1")

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the filtered signal."""
        from scipy.signal import butter, sosfiltfilt

        edges = [f for f in (self.low, self.high) if f is not None]
        self._require(edges[-1] < fs / 2, f"at fs={fs:g} Hz, edges must lie below {fs / 2:g} Hz")
        kind = "bandpass" if len(edges) == 2 else "highpass" if self.high is None else "lowpass"
        critical = edges if len(edges) == 2 else edges[0]
        sections = butter(self.order, critical, kind, output="sos", fs=fs)
        # SciPy refuses a signal that is shorter than the pad of its own choice.
        longest_pad = 3 * (2 * len(sections) + 1)
        pad = None if len(signal) > longest_pad else len(signal) - 1
        return _as_signal(sosfiltfilt(sections, signal, axis=0, padlen=pad))


@dataclass(frozen=True)
class StandardiseSignals(RecordAction):
    """Subtract each lead's mean and divide by its standard deviation; a flat lead becomes 0."""

    name = "standardise_signals"

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the signal with mean 0 and standard deviation 1 in each lead."""
        centred = signal - signal.mean(axis=0, dtype=np.float64)
        deviation = centred.std(axis=0)
        return _as_signal(centred / np.where(deviation > 0, deviation, 1.0))


@dataclass(frozen=True)
class ResampleSignals(RecordAction):
    """Resample to one frequency, in Hz, by linear interpolation."""

    name = "resample_signals"
    fs: float

    def _check(self) -> None:
        self._require(_is_real(self.fs) and self.fs > 0, "fs must be a positive frequency in Hz")

    def output_fs(self, fs: float) -> float:
        """Return the new frequency, in Hz."""
        return float(self.fs)

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return the resampled signal."""
        return interpolate(signal, resampled_length(len(signal), fs, self.fs))


@dataclass(frozen=True)
class ApplyStep(RecordAction):
    """Run a function of one's own, ``step(signal, fs) -> signal``, plain or ``@njit``.

    Before the first action of chance it runs once per record; between that and the split, on
    every record anew each epoch; after the split, on every window.
    """

    name = "apply"
    step: SignalStep | C

    def _check(self) -> None:
        self._require(callable(self.step), "step must be a function (signal, fs) -> signal")

    def apply(self, signal: Signal, fs: float, leads: tuple[str, ...]) -> Signal:
        """Return what the step makes of the signal, as float32."""
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
            f"got; from {signal.shape} it made {result.shape} of {result.dtype}",
        )
        return _as_signal(result)


# --- Whole records, by chance ------------------------------------------------------------------


@dataclass(frozen=True)
class ChanceAction(Action):
    """An action that depends on numbers drawn for each record and epoch."""

    def draw(self, rng: np.random.Generator, n_records: int, n_leads: int) -> npt.NDArray[Any]:
        """Draw what `n_records` records need, one row each."""
        raise NotImplementedError


@dataclass(frozen=True)
class CenterFlip(ChanceAction):
    """Subtract each lead's mean and multiply the lead by a random sign.

    The sign is +1 outside training unless `flip_at_test`: an evaluation that changes with the
    seed measures the seed.
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
        return _as_signal((signal - signal.mean(axis=0, dtype=np.float64)) * sign)


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


# --- From records to windows -------------------------------------------------------------------


@dataclass(frozen=True)
class SplitAction(Action):
    """An action that cuts a record into windows of one length."""

    length: int

    def _check(self) -> None:
        self._require(
            _is_integer(self.length) and self.length >= 1,
            "length must be a whole number of samples, at least 1",
        )

    def per_label(self) -> int | Mapping[str, int]:
        """Return the number that may depend on the label."""
        raise NotImplementedError

    def value(self, label: str) -> int:
        """Return that number for one label."""
        value = self.per_label()
        if isinstance(value, Mapping):
            if label not in value:
                raise PipelineError(f"{self}: label {label!r} is not among {sorted(value)}")
            return value[label]
        return value

    def _check_per_label(self, name: str) -> None:
        given = self.per_label()
        values = list(given.values()) if isinstance(given, Mapping) else [given]
        self._require(
            bool(values) and all(_is_integer(v) and v >= 1 for v in values),
            f"{name} must be a whole number of at least 1, or a dict of such numbers by label",
        )

    def count(self, n_samples: int, label: str) -> int:
        """Return how many windows a record of this length and label gives."""
        raise NotImplementedError

    def cut(self, signal: Signal, starts: npt.NDArray[np.int64]) -> Signal:
        """Return the windows ``(n_windows, length, n_leads)``, zeros on the left if too short."""
        missing = max(0, self.length - len(signal))
        padded = np.pad(signal, ((missing, 0), (0, 0)))
        return np.stack([padded[start : start + self.length] for start in starts])


@dataclass(frozen=True)
class SplitSignals(SplitAction):
    """Cut windows every `step` samples; the rest at the end is left."""

    name = "split_signals"
    step: int | Mapping[str, int]

    def _check(self) -> None:
        super()._check()
        self._check_per_label("step")

    def per_label(self) -> int | Mapping[str, int]:
        """Return the step, in samples, or one for each label."""
        return self.step

    def count(self, n_samples: int, label: str) -> int:
        """Return how many whole windows fit; a record that is too short gives one."""
        return max(0, n_samples - self.length) // self.value(label) + 1

    def starts(self, n_samples: int, label: str) -> npt.NDArray[np.int64]:
        """Return the first sample of each window of a record."""
        last = max(0, n_samples - self.length)
        return np.arange(0, last + 1, self.value(label), dtype=np.int64)


@dataclass(frozen=True)
class RandomSplitSignals(SplitAction, ChanceAction):
    """Cut `n` windows at places drawn with replacement."""

    name = "random_split_signals"
    n: int | Mapping[str, int]

    def _check(self) -> None:
        super()._check()
        self._check_per_label("n")

    def per_label(self) -> int | Mapping[str, int]:
        """Return the number of windows, or one for each label."""
        return self.n

    def count(self, n_samples: int, label: str) -> int:
        """Return the number of windows, which doesn't depend on the length."""
        return self.value(label)

    def draw(self, rng: np.random.Generator, n_records: int, n_leads: int) -> npt.NDArray[Any]:
        """Draw places in [0, 1), ``(n_records, most windows of a record)``."""
        most = max(self.n.values()) if isinstance(self.n, Mapping) else self.n
        return rng.random((n_records, most))

    def starts(
        self, n_samples: int, label: str, places: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int64]:
        """Return the first sample of each window of a record."""
        last = max(0, n_samples - self.length)
        return (places[: self.value(label)] * (last + 1)).astype(np.int64)


# --- Formulas that several actions share -------------------------------------------------------


def resampled_length(n_samples: int, fs: float, fs_new: float) -> int:
    """Return the length after resampling; a frequency of 0 or less keeps the signal."""
    return n_samples if fs_new <= 0 else max(1, int(fs_new * n_samples / fs))


def interpolate(signal: Signal, n_samples: int) -> Signal:
    """Interpolate linearly at ``linspace(0, len(signal) - 1, n_samples)``."""
    if n_samples == len(signal):
        return signal
    places = np.linspace(0, len(signal) - 1, n_samples)
    known = np.arange(len(signal))
    return _as_signal(np.stack([np.interp(places, known, lead) for lead in signal.T], axis=1))


def _as_signal(values: npt.NDArray[Any]) -> Signal:
    signal: Signal = values.astype(np.float32, copy=False)
    return signal


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
