"""Read recordings that are arrays: NumPy and HDF5 files, and MATLAB files as in CPSC 2018.

In NumPy and HDF5 files the names are those of `from_arrays`, in the singular: ``signal``, ``fs``,
and optionally ``leads``, ``unit`` and ``label``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import DataNotFoundError, RecordError
from ecg_mlflow.files import is_special
from ecg_mlflow.records.corpus import Corpus, Provenance, corpora_folder
from ecg_mlflow.records.leads import (
    Channel,
    choose_channels,
    other_channels,
    units_per_millivolt,
)
from ecg_mlflow.records.packing import pack
from ecg_mlflow.records.record import DigitalRecord

#: Leads and frequency of CPSC 2018, http://2018.icbeb.org/Challenge.html; its files don't say them.
_CPSC_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_CPSC_FS = 500.0


def from_arrays(
    signals: Sequence[npt.ArrayLike] | npt.NDArray[Any],
    fs: float | Sequence[float],
    labels: Sequence[str],
    leads: Sequence[str],
    patients: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> Corpus:
    """Make a corpus of arrays, as `load_corpus` makes one of files.

    Parameters
    ----------
    signals
        One array for each record, in mV, ``(n_samples, n_leads)``, or ``(n_samples,)`` for one
        lead; or one array for all, ``(n_records, n_samples, n_leads)``.
    fs
        The sampling frequency in Hz, one for all records or one for each.
    labels
        One for each record; several of a record with commas between them.
    leads
        The names of the columns.
    patients
        One for each record, '' if unknown.
    ids
        Names of the records; by default ``record0000`` and so on.

    Raises
    ------
    DataNotFoundError
        If the numbers of records differ, or a signal is none; the message names the record.

    Examples
    --------
    >>> corpus = from_arrays(np.zeros((2, 900, 1)) + np.eye(900)[0, :, None], 300, "AN", ["I"])
    >>> len(corpus), corpus.leads[0], corpus.seconds.tolist()
    (2, ('I',), [3.0, 3.0])
    """
    n_records = len(signals)
    width = max(4, len(str(n_records - 1)))
    names = [f"record{i:0{width}}" for i in range(n_records)] if ids is None else [*map(str, ids)]
    rates = [fs] * n_records if np.ndim(fs) == 0 else [*np.asarray(fs)]
    lengths = {"fs": len(rates), "labels": len(labels), "ids": len(set(names))}
    lengths |= {} if patients is None else {"patients": len(patients)}
    for what, n_values in lengths.items():
        if n_values != n_records or not n_records:
            raise DataNotFoundError(
                f"there are {n_records} signals and {n_values} {what}: give one for each record, "
                "and every record a name of its own"
            )

    def records() -> Iterator[tuple[DigitalRecord, str]]:
        for i in sorted(range(n_records), key=names.__getitem__):
            try:
                record = _record(names[i], signals[i], rates[i], leads)
            except RecordError as error:
                raise DataNotFoundError(f"record {names[i]}: {error}") from error
            if np.isnan(record.samples).any():
                raise DataNotFoundError(f"record {names[i]}: NaN or infinite values")
            yield record, str(labels[i])

    whose = dict(zip(names, map(str, patients or ()), strict=False))
    corpus = pack(records(), corpora_folder(), f"arrays-{uuid.uuid4().hex}", whose)
    return Corpus.open(corpus.path, Provenance(source=f"{n_records} arrays"))


def read_arrays(path: Path, leads: Sequence[str] = ()) -> DigitalRecord:
    """Read a record of a ``.npz``, ``.h5``, ``.hdf5`` or ``.mat`` file.

    Parameters
    ----------
    path
        The file. A ``.mat`` file is one of CPSC 2018: a struct ``ECG`` with ``data``, 12 leads in
        rows, at 500 Hz.
    leads
        The leads to read, see `choose_channels`.

    Raises
    ------
    RecordError
        If the file is damaged, lacks the signal or the frequency, or they don't fit together.
    """
    if is_special(path):
        raise RecordError(f"unreadable file: {path.name} is no regular file")
    kinds: dict[str, Callable[[Path], Mapping[str, Any]]] = {".npz": _npz, ".mat": _cpsc2018}
    try:
        found = kinds.get(path.suffix.lower(), _hdf5)(path)
    except RecordError:
        raise
    except Exception as error:  # whatever a decoder comes upon in a damaged file
        raise RecordError(f"unreadable file: {path.name}: {error}") from error
    if missing := {"signal", "fs"} - set(found):
        raise RecordError(
            f"no {' and no '.join(sorted(missing))} in {path.name}: it has {', '.join(found)}"
        )
    names = [_text(one) for one in np.atleast_1d(found["leads"])] if "leads" in found else None
    unit = _text(found.get("unit", "mV"))
    whole = _record(path.stem, found["signal"], found["fs"], names, unit)
    channels = [Channel(name, unit, whole.fs) for name in whole.leads]
    chosen = choose_channels(channels, leads, named_only=False)
    signal: npt.NDArray[np.float32] = np.ascontiguousarray(whole.samples[:, chosen])
    comments = [f"Dx: {_text(found['label'])}"] if "label" in found else []
    comments += [
        f"{key.capitalize()}: {_text(found[key])}" for key in ("age", "sex") if key in found
    ]
    record = DigitalRecord.from_millivolts(
        path.stem, signal, whole.fs, tuple(leads) or tuple(whole.leads[i] for i in chosen)
    )
    ignored = other_channels(channels, chosen)
    return replace(record, comments=tuple(comments), ignored=ignored)


def _record(
    name: str, signal: Any, fs: Any, leads: Sequence[str] | None, unit: str = "mV"
) -> DigitalRecord:
    """Check an array; NaN stays, and infinite values become NaN."""
    try:
        values, frequency = np.asarray(signal, np.float64), float(np.asarray(fs).item())
    except (TypeError, ValueError) as error:
        raise RecordError(f"signal and fs must be numbers: {error}") from error
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.size:
        raise RecordError(f"signal must be (n_samples, n_leads); it is {values.shape}")
    if not 0 < frequency < float("inf"):
        raise RecordError(f"fs must be a frequency in Hz above 0; it is {frequency:g}")
    names = (
        tuple(f"lead {i + 1}" for i in range(values.shape[1])) if leads is None else tuple(leads)
    )
    if len(names) != values.shape[1]:
        turned = "; time comes first" if values.shape[0] == len(names) else ""
        raise RecordError(f"signal {values.shape} has not the leads {', '.join(names)}{turned}")
    with np.errstate(over="ignore"):
        samples = (values / units_per_millivolt(names[0], unit)).astype(np.float32)
    samples[~np.isfinite(samples)] = np.nan
    return DigitalRecord.from_millivolts(name, samples, frequency, names)


def _npz(path: Path) -> dict[str, Any]:
    # np.load leaves open a file that it can't read.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _hdf5(path: Path) -> dict[str, Any]:
    import h5py  # type: ignore[import-untyped]

    with h5py.File(path, "r") as file:
        found = dict(file.attrs)
        return found | {key: one[()] for key, one in file.items() if isinstance(one, h5py.Dataset)}


def _cpsc2018(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    found = loadmat(path, simplify_cells=True)
    fields = found.get("ECG")
    if not isinstance(fields, Mapping) or getattr(fields.get("data"), "ndim", 0) != 2:
        names = [name for name in found if not name.startswith("__")]
        raise RecordError(
            f"no struct ECG with data as in CPSC 2018 in {path.name}: it has {', '.join(names)}. "
            "Other MATLAB files are read by their WFDB headers"
        )
    return {**fields, "signal": fields["data"].T, "fs": _CPSC_FS, "leads": _CPSC_LEADS}


def _text(value: Any) -> str:
    one = np.asarray(value).item() if np.size(value) == 1 else value
    return one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
