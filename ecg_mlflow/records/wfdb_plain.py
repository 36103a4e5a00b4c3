"""Gives wfdb a header in the form that it reads, where the one on disk is of another form."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from ecg_mlflow.errors import RecordError


@contextmanager
def as_wfdb_reads_it(path: Path) -> Iterator[str]:
    """Give the record's name for wfdb: its own, or that of a plainer copy of its header.

    wfdb 4.3 raises on a date that isn't day/month/year after the time, and drops characters
    that aren't ASCII, so that µV would be read as V. Such headers are rewritten beside links to
    the signal files, and so are those of segmented records, whose segments may be such ones;
    neither date nor time is used.
    """
    text = _header_text(path)
    if _plain(text) == text and not is_segmented(path):
        yield str(path.with_suffix(""))
        return
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as folder:
        _copy_plainly(path, Path(folder))
        yield str(Path(folder, path.stem))


def _copy_plainly(path: Path, folder: Path) -> None:
    """Write a plain copy of a header, and of its segments' headers, beside links to signals."""
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
    """Tell whether the record is a list of segments: ``name/2`` starts its header."""
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
