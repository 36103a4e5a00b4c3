"""Fits a recording to what a model was trained on, or says why it can't be, or what was changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import RecordError
from ecg_mlflow.pipeline import Stages
from ecg_mlflow.pipeline.actions import ApplyStep, ResampleSignals, resampled_length
from ecg_mlflow.records import DigitalRecord
from ecg_mlflow.serving.manifest import Manifest

#: Frequencies that differ by less are one: headers round them.
_SAME_FS = 1e-3
#: Largest number in a ratio of resampling: exact to 1e-6, with filters of some thousand taps.
_RATIO = 1000
#: How much slower and faster than all recordings trained on a recording may be sampled: an ECG
#: can't be seen below some 25 Hz, and a typing error would ask for memory without end.
_SLOWEST, _FASTEST = 1 / 10, 100
#: Range from the 1st to the 99th percentile, in mV, beyond which no surface ECG is: QRS complexes
#: are 0.5 to 3 mV, baseline wander some mV; and the range of one that is taken for V.
_LARGEST_MV, _SMALLEST_MV = 20.0, 0.005
#: About how many samples such a range is estimated from.
_LOOKED_AT = 10_000


@dataclass(frozen=True)
class Adapted:
    """A recording as the pipeline takes it, and what had to be done or supposed for that."""

    record: DigitalRecord
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Expected:
    """What a model was trained on.

    Attributes
    ----------
    leads
        Of its recordings, before the pipeline.
    needed
        Those of them that reach the network.
    fs
        Sampling frequencies in Hz.
    shortest_s
        Duration of the shortest recording in seconds, or the pipeline's own limit.
    resamples
        Whether the pipeline brings recordings to one frequency itself.
    """

    leads: tuple[str, ...]
    needed: tuple[str, ...]
    fs: tuple[float, ...]
    shortest_s: float
    resamples: bool

    @classmethod
    def of(cls, manifest: Manifest, stages: Stages) -> Expected:
        """Read a model's manifest and pipeline."""
        limits = [getattr(action, "seconds", 0.0) for action in stages.once]
        return cls(
            manifest.leads,
            _needed(manifest.leads, stages),
            manifest.fs,
            max([manifest.shortest_s, *limits]),
            any(isinstance(one, ResampleSignals) for one in (*stages.once, *stages.every)),
        )


def adapt(record: DigitalRecord, expected: Expected) -> Adapted:
    """Bring a recording to the leads and the sampling frequency of those trained on.

    Raises
    ------
    RecordError
        If it lacks a lead, has a flat one, NaN or infinite samples, is too short, or sampled at a
        frequency that no ECG is.
    """
    record, flags = _with_leads(record, expected)
    _check_frequency(record.fs, expected.fs)
    _check_length(record, expected.shortest_s)
    needed = [expected.leads.index(lead) for lead in expected.needed]
    _check_samples(record, needed)
    flags += _amplitude_flags(record, needed)
    record, more = _with_frequency(record, expected)
    return Adapted(record, (*flags, *more))


def length_flags(record: DigitalRecord, stages: Stages) -> tuple[str, ...]:
    """Say how much of the only window of a prepared recording is not filled, if so."""
    n_samples, fs = len(record.samples), record.fs
    for action in stages.every:
        if isinstance(action, ResampleSignals):
            n_samples, fs = resampled_length(n_samples, fs, action.fs), float(action.fs)
    length = stages.split.length
    if n_samples >= length:
        return ()
    lacking = (length - n_samples) / fs
    return (f"shorter than one window: zeros fill {lacking:.3g} of {length / fs:.3g} s",)


def _needed(leads: tuple[str, ...], stages: Stages) -> tuple[str, ...]:
    """Return the leads that are not dropped before a function of the user's own sees them."""
    for action in stages.once:
        if isinstance(action, ApplyStep):
            break
        leads = action.output_leads(leads)
    return leads


def _with_leads(record: DigitalRecord, expected: Expected) -> tuple[DigitalRecord, list[str]]:
    """Take the leads trained on, in their order; those that the network never sees may lack."""
    wanted, found = expected.leads, [name.strip().casefold() for name in record.leads]
    if twice := [lead for lead in expected.needed if found.count(lead.strip().casefold()) > 1]:
        raise RecordError(f"several leads are called {twice[0]!r}: {list(record.leads)}")
    columns = [_place(lead.strip().casefold(), found) for lead in wanted]
    flags = []
    if len(wanted) == len(found) == 1 and columns == [-1]:
        columns = [0]
        flags.append(f"lead {record.leads[0]!r} is taken for {wanted[0]!r}, the one trained on")
    places = dict(zip(wanted, columns, strict=True))
    if missing := [lead for lead in expected.needed if places[lead] < 0]:
        raise RecordError(
            f"lead {', '.join(map(repr, missing))} is missing: the record has "
            f"{list(record.leads)}, the model was trained on {list(wanted)}"
        )
    taken = [column for column in columns if column >= 0]
    if left := [lead for i, lead in enumerate(record.leads) if i not in taken]:
        flags.append(f"left out of the record: lead {', '.join(map(repr, left))}")
    if taken != sorted(taken):
        flags.append(f"leads put in the order {list(wanted)}")
    if columns == list(range(len(found))):
        return replace(record, leads=wanted), flags
    return _chosen(record, columns, wanted), flags


def _place(lead: str, found: Sequence[str]) -> int:
    return found.index(lead) if lead in found else -1


def _chosen(record: DigitalRecord, columns: Sequence[int], leads: tuple[str, ...]) -> DigitalRecord:
    """Take some columns; -1 stands for one of zeros."""
    absent = np.array(columns) < 0
    samples: npt.NDArray[Any] = np.ascontiguousarray(record.samples[:, columns])
    samples[:, absent] = 0
    return replace(
        record,
        leads=leads,
        samples=samples,
        gain=np.where(absent, np.float32(1), record.gain[columns]),
        baseline=np.where(absent, np.float32(0), record.baseline[columns]),
    )


def _with_frequency(
    record: DigitalRecord, expected: Expected
) -> tuple[DigitalRecord, tuple[str, ...]]:
    """Resample to the nearest frequency trained on, unless the pipeline can take this one.

    The pipeline's own resampling interpolates, without a filter: what is faster than all
    recordings trained on would be aliased by it, so that goes through the filter here first.
    """
    fs = record.fs
    target = min(expected.fs, key=lambda known: abs(np.log(fs / known)))
    if abs(fs / target - 1) < _SAME_FS or (expected.resamples and fs < max(expected.fs)):
        return record, ()
    ratio = Fraction(target / fs).limit_denominator(_RATIO)
    resampled = _resampled(record.millivolts(), ratio)
    record = DigitalRecord.from_millivolts(record.id, resampled, target, record.leads)
    return record, (f"resampled from {fs:g} to {target:g} Hz",)


def _resampled(signal: npt.NDArray[np.float32], ratio: Fraction) -> npt.NDArray[np.float32]:
    from scipy.signal import resample_poly

    # Without the line through both ends taken off, an offset would ring at them.
    made: npt.NDArray[Any] = resample_poly(
        signal.astype(np.float64), ratio.numerator, ratio.denominator, axis=0, padtype="line"
    )
    return made.astype(np.float32)


def _check_frequency(fs: float, known: tuple[float, ...]) -> None:
    """Raise a `RecordError` for a frequency that no ECG has, in Hz; `known` are the model's."""
    if not _SLOWEST * min(known) <= fs <= _FASTEST * max(known):
        raise RecordError(
            f"implausible sampling frequency: {fs:g} Hz; the model was trained on "
            f"{', '.join(f'{one:g}' for one in known)} Hz"
        )


def _check_length(record: DigitalRecord, shortest_s: float) -> None:
    """Raise a `RecordError` for a recording of less than `shortest_s` seconds."""
    n_samples = len(record.samples)
    if n_samples < int(shortest_s * record.fs):
        raise RecordError(
            f"too short: {n_samples / record.fs:.3g} s; the model knows recordings from "
            f"{shortest_s:.3g} s on"
        )


def _check_samples(record: DigitalRecord, needed: Sequence[int]) -> None:
    """Raise a `RecordError` for NaN, infinite or constant samples in the leads at `needed`."""
    for column in needed:
        lead, samples = record.leads[column], record.samples[:, column]
        finite = np.isfinite(samples)
        if not finite.all():
            raise RecordError(
                f"NaN or infinite: {int((~finite).sum())} of {len(samples)} samples of lead "
                f"{lead!r}, the first is number {int(np.argmin(finite))}"
            )
        if samples.min() == samples.max():
            raise RecordError(f"flat signal: lead {lead!r} has the same value all the time")


def _amplitude_flags(record: DigitalRecord, needed: Sequence[int]) -> list[str]:
    """Compare each lead's range with what an ECG can have; a few spikes don't count."""
    samples = record.samples[:: max(1, len(record.samples) // _LOOKED_AT), needed]
    low, high = np.percentile(samples, [1, 99], axis=0)
    ranges = (high - low) / np.abs(record.gain[needed])
    flags = []
    for limit, wrong, unit in (
        (_LARGEST_MV, ranges > _LARGEST_MV, "µV, or in the converter's units"),
        (_SMALLEST_MV, ranges < _SMALLEST_MV, "V"),
    ):
        if wrong.any():
            first = int(np.argmax(wrong))
            than = "more" if limit == _LARGEST_MV else "less"
            flags.append(
                f"implausible amplitude: lead {record.leads[needed[first]]!r} ranges over "
                f"{ranges[first]:.3g} mV, {than} than {limit:g}; is it in {unit}?"
            )
    return flags
