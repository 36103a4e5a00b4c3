"""Read a record's header with the wfdb package and check it against the files beside it.

Header and signal formats: https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm.
Checksums and initial values are ignored: those of the CinC 2017 Challenge are known to be wrong.
"""

from __future__ import annotations

import functools
import math
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from ecg_mlflow.errors import RecordError

# Exceptions that wfdb raises for broken headers and signal files; RuntimeError comes from
# soundfile, MemoryError from an absurd length in a header.
WFDB_ERRORS = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
)
_BYTES_PER_SAMPLE = {
    **{"8": 1.0, "80": 1.0, "16": 2.0, "61": 2.0, "160": 2.0, "24": 3.0, "32": 4.0},
    **{"212": 3 / 2, "310": 4 / 3, "311": 4 / 3},
}


@dataclass(frozen=True)
class Header:
    """The content of a record's header.

    Attributes
    ----------
    id
        Name of the record.
    fs
        Sampling frequency in Hz.
    n_samples
        Samples per lead, or None if the header leaves it to the size of the signal file.
    leads
        One name per lead.
    units
        Physical unit of each lead.
    files
        The header, the headers of its segments if it has any, and the signal files, existing or
        not.
    """

    id: str
    fs: float
    n_samples: int | None
    leads: tuple[str, ...]
    units: tuple[str, ...]
    files: tuple[Path, ...]


@functools.cache
def import_wfdb() -> ModuleType:
    """Import wfdb at first use: with pandas it takes half a second."""
    with warnings.catch_warnings():
        # wfdb 4.3 builds its tables with pandas calls that pandas 3 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        import wfdb
    return wfdb  # type: ignore[no-any-return, unused-ignore]


def read_header(path: str | Path) -> Header:
    """Read a record's header.

    Parameters
    ----------
    path
        The ``.hea`` file.

    Raises
    ------
    RecordError
        If it is missing or broken, or names another record.
    """
    path = Path(path)
    with as_wfdb_reads_it(path) as name:
        return checked(path, rdheader(name))


def wfdb_files(path: Path) -> tuple[Path, ...]:
    """Return the files of a record, as far as its header can be read."""
    try:
        with as_wfdb_reads_it(path) as name:
            return record_files(path, rdheader(name))
    except RecordError:
        return (path,)


def rdheader(name: str) -> Any:
    """Call ``wfdb.rdheader`` and turn its exceptions into a RecordError."""
    try:
        return import_wfdb().rdheader(name)
    except WFDB_ERRORS as error:
        raise RecordError(f"broken header: {error_text(error)}") from error


def error_text(error: BaseException) -> str:
    """Return an error's message, or its type's name if it has none."""
    return str(error) or type(error).__name__


def checked(path: Path, read: Any) -> Header:
    """Check the header that wfdb read, and the sizes of the signal files against it.

    Parameters
    ----------
    path
        The header.
    read
        A ``Record`` or ``MultiRecord`` of wfdb.

    Raises
    ------
    RecordError
        At the first fault.
    """
    if read.record_name != path.stem:
        raise RecordError(f"header of another record: it names {read.record_name!r}")
    files = record_files(path, read)
    for file in files:
        if not file.is_file():
            raise RecordError(f"missing signal file: {file.name}")
        if not file.stat().st_size:
            raise RecordError(f"no samples: {file.name} is empty")
    if hasattr(read, "seg_name"):
        parts = zip(read.seg_name, read.seg_len, strict=True)
        if gap := sum(length for name, length in parts if name == "~"):
            raise RecordError(f"gap between segments: {gap} of {read.sig_len} samples are missing")
        return Header(path.stem, float(read.fs), read.sig_len, (), (), files)
    described = len(read.file_name or ())
    if read.n_sig != described or not described:
        raise RecordError(
            f"broken header: it declares {read.n_sig} leads and describes {described}"
        )
    rates = sorted({per_frame or 1 for per_frame in read.samps_per_frame})
    if len(rates) > 1:
        frequencies = ", ".join(f"{read.fs * rate:g} Hz" for rate in rates)
        raise RecordError(f"leads of different sampling frequencies: {frequencies}")
    if not read.fs > 0:
        raise RecordError(f"broken header: a sampling frequency of {read.fs} Hz")
    if read.sig_len == 0:
        raise RecordError("no samples: the record's length is 0")
    if read.sig_len is not None:
        _refuse_truncated(path, read)
    return Header(
        id=path.stem,
        fs=float(read.fs * rates[0]),
        n_samples=None if read.sig_len is None else read.sig_len * rates[0],
        leads=lead_names(read),
        units=tuple(read.units),
        files=files,
    )


def _refuse_truncated(path: Path, read: Any) -> None:
    for name in dict.fromkeys(read.file_name):
        leads = [i for i, other in enumerate(read.file_name) if other == name]
        width = _BYTES_PER_SAMPLE.get(read.fmt[leads[0]])
        if width is None:
            continue
        n_samples = read.sig_len * sum(read.samps_per_frame[i] or 1 for i in leads)
        expected = (read.byte_offset[leads[0]] or 0) + math.ceil(n_samples * width)
        size = (path.parent / name).stat().st_size
        if size < expected:
            raise RecordError(
                f"truncated signal file: {name} has {size} bytes, the header requires {expected}"
            )


def lead_names(read: Any) -> tuple[str, ...]:
    """Return the leads' names; an unnamed lead gets its number from 1."""
    return tuple(name or f"lead {i + 1}" for i, name in enumerate(read.sig_name))


def record_files(path: Path, read: Any) -> tuple[Path, ...]:
    """List the files of a record from the header that wfdb read, the header first."""
    if hasattr(read, "seg_name"):
        return _segment_files(path, read)
    return (path, *(path.parent / name for name in dict.fromkeys(read.file_name or ())))


def _segment_files(path: Path, read: Any) -> tuple[Path, ...]:
    """List the headers and signal files of all segments; ``~`` stands for a gap."""
    headers = [path.parent / f"{name}.hea" for name in dict.fromkeys(read.seg_name) if name != "~"]
    signals = [file for header in headers for file in wfdb_files(header) if file.name != "~"]
    return (path, *dict.fromkeys(signals))


@contextmanager
def as_wfdb_reads_it(path: Path) -> Iterator[str]:
    """Give a record name that wfdb can read: the record's own, or that of a simplified copy.

    wfdb 4.3 raises for a date after the time that isn't day/month/year, and drops characters that
    aren't ASCII, so it would read µV as V. Such headers, and those of segmented records, whose
    segments may need it, are copied without date and time beside links to the signal files.
    """
    text = _header_text(path)
    if _plain(text) == text and not is_segmented(path):
        yield str(path.with_suffix(""))
        return
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as folder:
        _copy_plainly(path, Path(folder))
        yield str(Path(folder, path.stem))


def _copy_plainly(path: Path, folder: Path) -> None:
    """Write simplified copies of a header and its segments' headers beside links to signals."""
    plain = _plain(_header_text(path))
    (folder / path.name).write_text(plain, encoding="ascii", errors="replace")
    for line in plain.splitlines()[1:]:
        name = Path(line.split(maxsplit=1)[0]).name if line.strip() else ""
        signal, segment = path.parent / name, path.parent / f"{name}.hea"
        if signal.is_file() and not (folder / name).exists():
            (folder / name).symlink_to(signal.resolve())
        if segment.is_file() and not (folder / segment.name).exists():
            _copy_plainly(segment, folder)


def is_segmented(path: Path) -> bool:
    """Return whether the record is a list of segments: its header starts with ``name/2``."""
    return "/" in _record_line(_header_text(path)).split(maxsplit=1)[0]


def _header_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(f"unreadable header: {error.strerror}") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if not _record_line(text):
        raise RecordError("broken header: it is empty")
    return text


def _record_line(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line and not line.startswith("#")), "")


def _plain(text: str) -> str:
    if not text.isascii():
        text = text.replace("µ", "u").replace("μ", "u")
    record_line = _record_line(text)
    fields = record_line.split()
    if len(fields) > 4 and not _is_wfdb_date(fields[4:]):
        text = text.replace(record_line, " ".join(fields[:4]), 1)
    return text


def _is_wfdb_date(fields: list[str]) -> bool:
    time = fields[0]
    if not re.fullmatch(r"(\d{1,2}:){0,2}\d{1,2}(\.\d{1,6})?", time) or len(fields) > 2:
        return False
    time_form = ":".join(("%H", "%M", "%S")[-(time.count(":") + 1) :])
    fraction = ".%f" if "." in time else ""
    forms = f"{time_form}{fraction}" + (" %d/%m/%Y" if len(fields) == 2 else "")
    try:
        datetime.strptime(" ".join(fields), forms)
    except ValueError:
        return False
    return True
