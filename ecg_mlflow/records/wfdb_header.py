"""Parse the header of a WFDB record, each field to its end.

What the fields mean: https://physionet.org/physiotools/wag/header-5.htm. Where a line has something
else, the error names it: a number of which only the beginning is read would scale or place the
signal wrongly, and nobody would see it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from ecg_mlflow.errors import RecordError
from ecg_mlflow.files import is_special

#: What WFDB defines for a header that leaves them out.
DEFAULT_FS, DEFAULT_GAIN, DEFAULT_UNITS = 250.0, 200.0, "mV"
#: Name of a segment, and of a file, without samples.
GAP = "~"
#: Characters of a field that a message shows.
SHOWN = 40

_NUMBER = r"[+-]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eE][+-]?\d{1,3})?"
_NAME = r"[^\s/\\\0]{1,200}"


def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


_COUNT = _pattern(r"\d{1,15}"), "a whole number"
_INTEGER = _pattern(r"[+-]?\d{1,15}"), "a whole number"
_RECORD = _pattern(rf"({_NAME})(?:/(\d{{1,6}}))?"), "a name, or name/number of segments"
_FREQUENCY = (
    _pattern(rf"({_NUMBER})(?:/{_NUMBER}(?:\({_NUMBER}\))?)?"),
    "a frequency in Hz above 0, such as 500",
)
#: Nothing depends on them, and data sets write them in many ways. Without bounds, a long word that
#: doesn't match would take time by the square of its length.
_TIME_OR_DATE = _pattern(r"\w{0,40}\d[\w:./+-]{0,40}"), "a time or a date"
_FILE = _pattern(_NAME), "the name of a file in the record's folder"
_FORMAT = (
    _pattern(r"(\d{1,4})(?:x(\d{1,9}))?(?::(\d{1,15}))?(?:\+(\d{1,15}))?"),
    "a format such as 16 or 16+24",
)
_GAIN = (
    _pattern(rf"({_NUMBER})(?:\(([+-]?\d{{1,15}})\))?(?:/(\S+))?"),
    "units of the converter per physical unit, such as 1000/mV or 1000(0)/mV",
)


@dataclass(frozen=True)
class SignalLine:
    """What a header says of one signal.

    Attributes
    ----------
    file, fmt
        Name of the signal file, and the format of its samples.
    per_frame, skew, offset
        Samples per frame; frames by which the signal is late; bytes before its first sample.
    gain, baseline, units
        Units per physical unit, the value at 0, and the physical unit.
    initial
        Value before the first sample.
    checksum
        Sum of all samples modulo 2**16, of either sign; 0 if it is not known.
    description
        Mostly the lead's name; empty if there is none.
    """

    file: str
    fmt: str
    per_frame: int = 1
    skew: int = 0
    offset: int = 0
    gain: float = DEFAULT_GAIN
    baseline: int = 0
    units: str = DEFAULT_UNITS
    initial: int = 0
    checksum: int = 0
    description: str = ""


@dataclass(frozen=True)
class WfdbHeader:
    """The header of a record.

    Attributes
    ----------
    name
        Of the record.
    fs
        Frames per second, in Hz.
    n_frames
        Length of the record; None if the size of its file tells it.
    signals
        The signals; none if the record has segments.
    segments
        Names of the segments and their lengths in frames; None if the record has none.
    n_signals
        How many signals the record declares.
    comments
        The comments without their ``#``.
    """

    name: str
    fs: float
    n_frames: int | None
    signals: tuple[SignalLine, ...] = ()
    segments: tuple[tuple[str, int], ...] | None = None
    n_signals: int = 0
    comments: tuple[str, ...] = field(default=(), repr=False)


def read_header(path: Path) -> WfdbHeader:
    """Read a header file.

    Raises
    ------
    RecordError
        If it can't be read; else as `parse_header`.
    """
    try:
        if is_special(path):
            raise RecordError(f"unreadable header: {path.name} is no regular file")
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(f"unreadable header: {path.name}: {error.strerror}") from error
    return parse_header(data)


def parse_header(data: bytes) -> WfdbHeader:
    """Parse a header; each line is UTF-8, or else Latin-1.

    Of descriptions and comments, which become the names of leads and labels, characters that aren't
    ASCII are dropped, as wfdb drops them.

    Raises
    ------
    RecordError
        If a field is missing or has another form, or there are not as many lines as declared; the
        message names line and field.
    """
    lines, comments = [], []
    for number, line in enumerate(map(_decoded, data.splitlines()), start=1):
        if line.startswith("#"):
            comments.append(_ascii(line).strip(" \t#"))
        elif line:
            lines.append((number, line))
    if not lines:
        raise RecordError("broken header: it is empty")
    number, line = lines[0]
    first, rest = _Fields(number, line), lines[1:]
    name, n_segments = first.parts("record name", *_RECORD)
    n_signals = first.integer("number of signals", *_COUNT, required=True)
    (fs_text,) = first.parts("sampling frequency", *_FREQUENCY, default=(str(DEFAULT_FS),))
    fs = float(fs_text)
    if not 0 < fs < math.inf:
        raise first.error("sampling frequency", fs_text, _FREQUENCY[1])
    n_frames = first.integer("number of samples", *_COUNT) if first.rest else None
    for name_of_field in ("time or date", "date or time"):
        first.parts(name_of_field, *_TIME_OR_DATE, default=())
    if first.rest:
        raise first.error("end of the line", first.rest, "there, after time and date")
    declared, what = (int(n_segments), "segments") if n_segments else (n_signals, "leads")
    if declared != len(rest) or not rest:
        raise RecordError(f"broken header: it declares {declared} {what} and describes {len(rest)}")
    header = WfdbHeader(name, fs, n_frames, n_signals=n_signals, comments=tuple(comments))
    if n_segments:
        return replace(header, segments=tuple(_segment(_Fields(*one)) for one in rest))
    return replace(header, signals=tuple(_signal(_Fields(*one)) for one in rest))


def _signal(fields: _Fields) -> SignalLine:
    (file,) = fields.parts("signal file", *_FILE)
    fmt, per_frame, skew, offset = fields.parts("format", *_FORMAT)
    gain_text, baseline, units = fields.parts("gain", *_GAIN, default=("", "", ""))
    gain = float(gain_text or 0)
    if not math.isfinite(gain):
        raise fields.error("gain", gain_text, _GAIN[1])
    numbers = [0] * 5
    for i, name in enumerate(
        ("ADC resolution", "ADC zero", "initial value", "checksum", "block size")
    ):
        # Some writers leave numbers out before the description, which begins with a letter then.
        if fields.rest[:1].isalpha():
            break
        numbers[i] = fields.integer(name, *_INTEGER)
    return SignalLine(
        file,
        fmt,
        int(per_frame or 1) or 1,
        int(skew or 0),
        int(offset or 0),
        gain or DEFAULT_GAIN,
        numbers[1] if not baseline else int(baseline),
        units or DEFAULT_UNITS,
        numbers[2],
        numbers[3],
        _ascii(fields.rest),
    )


def _segment(fields: _Fields) -> tuple[str, int]:
    (name,) = fields.parts("segment", *_FILE)
    n_frames = fields.integer("number of samples", *_COUNT, required=True)
    if fields.rest:
        raise fields.error("end of the line", fields.rest, "there, after the number of samples")
    return name, n_frames


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError:
        return line.decode("latin-1").strip()


def _ascii(text: str) -> str:
    return text.encode("ascii", "ignore").decode()


class _Fields:
    """The fields of a line, read from left to right."""

    def __init__(self, number: int, line: str) -> None:
        self._number = number
        self.rest = line

    def parts(
        self,
        name: str,
        pattern: re.Pattern[str],
        expected: str,
        default: tuple[str, ...] | None = None,
    ) -> tuple[str, ...]:
        """Read a field; return the groups of its pattern, or the whole of one without groups."""
        if not self.rest:
            if default is None:
                raise self.error(name, None, expected)
            return default
        word, *rest = self.rest.split(None, 1)
        found = pattern.fullmatch(word)
        if found is None:
            raise self.error(name, word, expected)
        self.rest = rest[0] if rest else ""
        return found.groups("") or (word,)

    def integer(
        self, name: str, pattern: re.Pattern[str], expected: str, *, required: bool = False
    ) -> int:
        """Read a whole number; 0 where the line has ended."""
        (word,) = self.parts(name, pattern, expected, None if required else ("0",))
        return int(word)

    def error(self, name: str, met: str | None, expected: str) -> RecordError:
        """Return the error for a field that is missing or has another form."""
        said = "is missing" if met is None else f"is {met[:SHOWN]!r}"
        return RecordError(
            f"broken header: line {self._number}: the {name} {said}; it should be {expected}"
        )
