"""Fits a recording to what a model was trained on, or says why it can't be, or what was changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import RecordError
from ecg_mlflow.pipeline import Stages
from ecg_mlflow.pipeline.actions.base import resample_filtered, resampled_length
from ecg_mlflow.pipeline.actions.records import LINEAR, ApplyStep, ResampleSignals
from ecg_mlflow.records import DigitalRecord
from ecg_mlflow.records.leads import lead_positions
from ecg_mlflow.serving.limits import limits
from ecg_mlflow.serving.manifest import Manifest

#: Frequencies that differ by less are one: headers round them.
_SAME_FS = 1e-3
#: How much slower and faster than all recordings trained on a recording may be sampled: an ECG
#: can't be seen below some 25 Hz, and a typing error would ask for memory without end.
_SLOWEST, _FASTEST = 1 / 10, 100
#: Range from the 1st to the 99th percentile, in mV, beyond which no surface ECG is: QRS complexes
#: are 0.5 to 3 mV, baseline wander some mV; and the range of one that is taken for V.
_LARGEST_MV, _SMALLEST_MV = 20.0, 0.005
#: About how many samples such a range is estimated from.
_LOOKED_AT = 10_000

#: A recording, and what had to be done or supposed for it.
_Flagged: TypeAlias = tuple[DigitalRecord, list[str]]


def adapt(record: DigitalRecord, manifest: Manifest, stages: Stages) -> _Flagged:
    """Bring a recording to the leads and the sampling frequency of those trained on.

    Parameters
    ----------
    record
        The recording.
    manifest, stages
        The model, and its pipeline.

    Returns
    -------
    The recording as the pipeline takes it, and what had to be done or supposed for that.

    Raises
    ------
    RecordError
        If it lacks a lead, has a flat one, NaN or infinite samples, is too short, or sampled at a
        frequency that no ECG is.
    """
    needed = needed_leads(manifest.leads, stages)
    record, flags = _with_leads(record, manifest.leads, needed)
    _check_frequency(record.fs, manifest.fs)
    shortest = [getattr(action, "seconds", 0.0) for action in stages.once]
    _check_length(record, max([manifest.shortest_s, *shortest]))
    columns = [manifest.leads.index(lead) for lead in needed]
    _check_samples(record, columns)
    flags += _amplitude_flags(record, columns)
    actions = (*stages.once, *stages.every)
    resampling = [one for one in actions if isinstance(one, ResampleSignals)]
    if bounds := limits():
        rates = [float(one.fs) for one in resampling]
        growth = max([*rates, _nearest(record.fs, manifest.fs)]) / record.fs
        n_samples = len(record.samples)
        bounds.check_shape(max(n_samples, int(n_samples * growth)), len(manifest.leads))
        bounds.check("hours", math.ceil(n_samples / record.fs / 3600), "hours")
    record, more = _with_frequency(record, manifest.fs, resampling)
    return record, flags + more


def length_flags(record: DigitalRecord, stages: Stages) -> list[str]:
    """Say how much of the only window of a prepared recording is not filled, if so."""
    n_samples, fs = len(record.samples), record.fs
    for action in stages.every:
        if isinstance(action, ResampleSignals):
            n_samples, fs = resampled_length(n_samples, fs, action.fs), float(action.fs)
    length = stages.split.length
    if n_samples >= length:
        return []
    lacking = (length - n_samples) / fs
    return [f"shorter than one window: zeros fill {lacking:.3g} of {length / fs:.3g} s"]


def needed_leads(leads: tuple[str, ...], stages: Stages) -> tuple[str, ...]:
    """Return the leads that are not dropped before a function of the user's own sees them."""
    needed, names = leads, leads
    for action in stages.once:
        if isinstance(action, ApplyStep):
            break
        needed = tuple(needed[column] for column in action.columns(names))
        names = action.output_leads(names)
    return needed


def _with_leads(record: DigitalRecord, wanted: Sequence[str], needed: Sequence[str]) -> _Flagged:
    """Take the leads trained on, in their order; those that the network never sees may lack."""
    found = {lead: lead_positions(lead, record.leads) for lead in wanted}
    if twice := [lead for lead in needed if len(found[lead]) > 1]:
        raise RecordError(f"several leads are called {twice[0]!r}: {list(record.leads)}")
    columns = {lead: places[0] if places else -1 for lead, places in found.items()}
    flags = []
    if len(wanted) == len(record.leads) == 1 and columns[wanted[0]] < 0:
        columns[wanted[0]] = 0
        flags.append(f"lead {record.leads[0]!r} is taken for {wanted[0]!r}, the one trained on")
    if missing := [lead for lead in needed if columns[lead] < 0]:
        raise RecordError(
            f"lead {', '.join(map(repr, missing))} is missing: the record has "
            f"{list(record.leads)}, the model was trained on {list(wanted)}"
        )
    taken = [column for column in columns.values() if column >= 0]
    if left := [lead for i, lead in enumerate(record.leads) if i not in taken]:
        flags.append(f"left out of the record: lead {', '.join(map(repr, left))}")
    if taken != sorted(taken):
        flags.append(f"leads put in the order {list(wanted)}")
    if list(columns.values()) == list(range(len(record.leads))):
        return replace(record, leads=tuple(wanted)), flags
    return _chosen(record, list(columns.values()), tuple(wanted)), flags


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
    record: DigitalRecord, known: tuple[float, ...], resampling: Sequence[ResampleSignals]
) -> _Flagged:
    """Resample to the nearest frequency trained on, unless the pipeline can take this one.

    Linear interpolation in the pipeline would alias what is faster than all recordings trained on,
    so that goes through the filter here first.
    """
    fs = record.fs
    target = _nearest(fs, known)
    linear = any(one.method == LINEAR for one in resampling)
    if abs(fs / target - 1) < _SAME_FS or (resampling and not (linear and fs >= max(known))):
        return record, []
    signal = resample_filtered(record.millivolts(), fs, target)
    made = DigitalRecord.from_millivolts(record.id, signal, target, record.leads)
    return made, [f"resampled from {fs:g} to {target:g} Hz"]


def _nearest(fs: float, known: tuple[float, ...]) -> float:
    return min(known, key=lambda one: float(abs(np.log(fs / one))))


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
    for column, size in zip(needed, (high - low) / np.abs(record.gain[needed]), strict=True):
        if not _SMALLEST_MV <= size <= _LARGEST_MV:
            limit, unit = (
                (f"more than {_LARGEST_MV:g}", "µV, or in the converter's units")
                if size > _LARGEST_MV
                else (f"less than {_SMALLEST_MV:g}", "V")
            )
            return [
                f"implausible amplitude: lead {record.leads[column]!r} ranges over {size:.3g} mV, "
                f"{limit}; is it in {unit}?"
            ]
    return []
