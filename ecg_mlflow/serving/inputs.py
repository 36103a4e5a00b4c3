"""From one row of an input table to a recording.

A row holds one of three things: ``record``, the path of a WFDB record on this machine; ``header``
and ``signal_file``, the bytes of one; or ``signal`` in mV with ``fs`` and, unless there are as many
leads as the model was trained on, ``leads``.
"""

from __future__ import annotations

import base64
import binascii
import re
import reprlib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_scalar

from ecg_mlflow.errors import ExtraMissingError, RecordError
from ecg_mlflow.files import is_special
from ecg_mlflow.records import DigitalRecord, read_digital
from ecg_mlflow.records.formats import format_of
from ecg_mlflow.records.wfdb_header import WfdbHeader, parse_header
from ecg_mlflow.serving.limits import limits, served_path

#: The columns of an input table, all of them optional.
COLUMNS = ("record", "header", "signal_file", "signal", "fs", "leads")

#: A file's name and no path: neither a separator, nor a beginning that means another place.
_PLAIN_NAME = re.compile(r"\w[-\w.]{0,99}")

#: Characters that base64 may have between its lines.
_BLANKS = b" \t\r\n\v\f"


def row_name(row: Mapping[Any, Any], number: int) -> str:
    """Return what to call a row's recording before it is read."""
    record = row.get("record")
    return _header_path(record).stem if isinstance(record, str) else f"row {number}"


def read_row(row: Mapping[Any, Any], number: int, trained_leads: Sequence[str]) -> DigitalRecord:
    """Read the recording that a row holds.

    Parameters
    ----------
    row
        Cells by column.
    number
        Of the row; names a recording that has no name of its own.
    trained_leads
        What the columns of a `signal` without `leads` are, where there are as many.

    Raises
    ------
    RecordError
        If the row holds none of the three, or more than one, or its recording can't be read.
    """
    cells = {name: row.get(name) for name in COLUMNS}
    given = {name for name, cell in cells.items() if not (is_scalar(cell) and pd.isna(cell))}
    if given == {"record"}:
        return _from_path(row["record"])
    if given == {"header", "signal_file"}:
        return _from_bytes(row["header"], row["signal_file"])
    if given - {"leads"} == {"signal", "fs"}:
        leads = row["leads"] if "leads" in given else None
        return from_signal(f"row {number}", row["signal"], row["fs"], leads, trained_leads)
    raise RecordError(
        "a row needs either record (a path), or header and signal_file (bytes), or signal and fs "
        f"(and leads); this one has {', '.join(sorted(given)) or 'nothing'}"
    )


def from_signal(
    name: str, signal: Any, fs: Any, leads: Any, trained_leads: Sequence[str]
) -> DigitalRecord:
    """Make a recording of samples in mV, ``(n_samples, n_leads)`` or ``(n_samples,)``.

    Raises
    ------
    RecordError
        If they are no such samples, or `fs` no frequency, or the leads' names don't fit.
    """
    samples = _samples(signal)
    names = tuple(trained_leads) if leads is None else _lead_names(leads)
    if len(names) != samples.shape[1]:
        turned = "; it seems to be turned: time comes first"
        raise RecordError(
            f"signal has {samples.shape[1]} columns, and leads are {list(names)}"
            + (" as trained on: name them in leads" if leads is None else "")
            + (turned if samples.shape[0] == len(names) else "")
        )
    return DigitalRecord.from_millivolts(name, samples, _frequency(fs), names)


def _from_path(path: object) -> DigitalRecord:
    if not isinstance(path, str) or "\0" in path:
        raise RecordError(
            "record must be the path of a WFDB record or an EDF file, as text, one row per record; "
            f"it is {reprlib.repr(path)}"
        )
    place = served_path(_header_path(path))
    try:
        if (bounds := limits()) and (form := format_of(place)):
            files = form.files(place)
            for file in files:
                served_path(file)  # it may be a link
            bounds.check_files(files)
            if place.suffix == ".hea" and not is_special(place):
                described = parse_header(place.read_bytes())
                if described.segments is None:
                    bounds.check_described(described)
        return read_digital(place)
    except (RecordError, ExtraMissingError) as error:
        # The answers to other records stand; and a decoder may name the place.
        raise RecordError(str(error).replace(f"{place.parent}/", "")) from error


def _header_path(path: str) -> Path:
    return Path(path if format_of(Path(path)) else f"{path}.hea")


def _from_bytes(header: object, signal: object) -> DigitalRecord:
    """Read a record from the bytes of its two files, in a folder that is gone afterwards."""
    header_bytes, signal_bytes = _bytes("header", header), _bytes("signal_file", signal)
    bounds = limits()
    if bounds:
        bounds.check_header(header_bytes)
    described = parse_header(header_bytes)
    record, file = _names_in(described)
    if bounds:
        bounds.check_described(described)
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as folder:
        path = Path(folder, f"{record}.hea")
        path.write_bytes(header_bytes)
        if (target := Path(folder, file)) == path:
            raise RecordError("broken header: it names itself as signal file")
        target.write_bytes(signal_bytes)
        try:
            return read_digital(path)
        except RecordError as error:  # a decoder may name the place
            raise RecordError(str(error).replace(f"{folder}/", "")) from error


def _names_in(found: WfdbHeader) -> tuple[str, str]:
    """Return the names of the record and of its one signal file, both without any path."""
    if found.segments is not None:
        raise RecordError("a record of several segments can't be given as bytes; join it first")
    files = sorted({signal.file for signal in found.signals})
    if len(files) != 1:
        raise RecordError(f"a record given as bytes has one signal file; this header names {files}")
    for name in (found.name, files[0]):
        if not _PLAIN_NAME.fullmatch(name):
            raise RecordError(f"broken header: {name!r} is no plain file name")
    return found.name, files[0]


def _bytes(column: str, value: object) -> bytes:
    """Return bytes as they are, and text, the form of bytes in JSON, decoded."""
    bounds = limits()
    if bounds and isinstance(value, str | bytes | bytearray):
        size = len(value) * 3 // 4 if isinstance(value, str) else len(value)
        bounds.check(f"bytes in {column}", size, "size")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        try:
            return base64.b64decode(value.encode("ascii").translate(None, _BLANKS), validate=True)
        except (binascii.Error, ValueError) as error:
            raise RecordError(f"{column} is text, but no base64: {error}") from error
    raise RecordError(f"{column} must be bytes, or base64 text; it is {type(value).__name__}")


def _samples(signal: Any) -> npt.NDArray[np.float32]:
    if bounds := limits():
        bounds.check_array(signal)
    if isinstance(signal, np.ndarray) and signal.dtype == object:
        signal = signal.tolist()  # rows of a table come as arrays of arrays
    try:
        samples = np.asarray(signal, dtype=np.float64)
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise RecordError(
            f"signal must be numbers in mV, (n_samples, n_leads) or (n_samples,): {error}"
        ) from error
    samples = samples[:, None] if samples.ndim == 1 else samples
    if samples.ndim != 2 or not samples.size:
        raise RecordError(
            f"signal must be (n_samples, n_leads) or (n_samples,); it is {samples.shape}"
        )
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused
        return samples.astype(np.float32)


def _lead_names(leads: Any) -> tuple[str, ...]:
    names = tuple(leads) if isinstance(leads, list | tuple | np.ndarray) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise RecordError(
            f"leads must be a list of names, one per column of signal; it is {reprlib.repr(leads)}"
        )
    return names


def _frequency(fs: Any) -> float:
    is_number = isinstance(fs, int | float | np.integer | np.floating)
    with suppress(OverflowError):  # a whole number beyond all floats
        if is_number and not isinstance(fs, bool) and 0 < float(fs) < np.inf:
            return float(fs)
    raise RecordError(f"fs must be a positive sampling frequency in Hz; it is {reprlib.repr(fs)}")
