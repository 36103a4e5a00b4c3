"""What no recording may have, and what is said of one that is doubtful."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecg_mlflow.errors import RecordError
from ecg_mlflow.pipeline import Stages
from ecg_mlflow.pipeline.actions import ResampleSignals, resampled_length
from ecg_mlflow.records import DigitalRecord

#: How much slower and faster than all recordings trained on a recording may be sampled: an ECG
#: can't be seen below some 25 Hz, and a typing error would ask for memory without end.
_SLOWEST, _FASTEST = 1 / 10, 100
#: Range from the 1st to the 99th percentile, in mV, beyond which no surface ECG is: QRS complexes
#: are 0.5 to 3 mV, baseline wander some mV; and the range of one that is taken for V.
_LARGEST_MV, _SMALLEST_MV = 20.0, 0.005
#: About how many samples such a range is estimated from.
_LOOKED_AT = 10_000


def check_frequency(fs: float, known: tuple[float, ...]) -> None:
    """Raise a `RecordError` for a frequency that no ECG has, in Hz; `known` are the model's."""
    if not _SLOWEST * min(known) <= fs <= _FASTEST * max(known):
        raise RecordError(
            f"implausible sampling frequency: {fs:g} Hz; the model was trained on "
            f"{', '.join(f'{one:g}' for one in known)} Hz"
        )


def check_length(record: DigitalRecord, shortest_s: float) -> None:
    """Raise a `RecordError` for a recording of less than `shortest_s` seconds."""
    n_samples = len(record.samples)
    if n_samples < int(shortest_s * record.fs):
        raise RecordError(
            f"too short: {n_samples / record.fs:.3g} s; the model knows recordings from "
            f"{shortest_s:.3g} s on"
        )


def check_samples(record: DigitalRecord, needed: Sequence[int]) -> None:
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


def amplitude_flags(record: DigitalRecord, needed: Sequence[int]) -> list[str]:
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
