"""Read one EDF or EDF+ file with the edfio package; errors name the fault of a bad file.

Format: https://www.edfplus.info/specs/edf.html and edfplus.html.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.errors import ExtraMissingError, RecordError
from ecg_mlflow.records.record import DigitalRecord, units_per_millivolt

if TYPE_CHECKING:
    from edfio import Edf, EdfSignal

_EDF_ERRORS = (ValueError, LookupError, TypeError, OSError, ArithmeticError, MemoryError)
_FIXED_HEADER_BYTES = 256


def is_edf(path: Path) -> bool:
    """Return whether a file's name is that of an EDF file."""
    return path.suffix.casefold() == ".edf"


def require_edfio() -> None:
    """Check that the package that reads EDF files is installed.

    Raises
    ------
    ExtraMissingError
        If it is missing.
    """
    if importlib.util.find_spec("edfio") is None:
        raise ExtraMissingError(
            "EDF files are read by the package edfio, which is not installed: "
            "pip install 'ecg_mlflow[edf]'"
        )


def read_edf_digital(path: Path) -> DigitalRecord:
    """Read a record as stored in its EDF file.

    The leads are the signals whose labels name an ECG or one of its leads; without such a label,
    all signals. Annotations are ignored.

    Parameters
    ----------
    path
        The ``.edf`` file.

    Raises
    ------
    RecordError
        If the file is broken, truncated or has gaps, or its leads have different sampling
        frequencies, no scale, or a unit that is not a voltage.
    ExtraMissingError
        If edfio is not installed.
    """
    require_edfio()
    _refuse_truncated(path)
    from edfio import read_edf

    try:
        edf = read_edf(path)
        continuous = edf.is_continuous
        signals = [edf.signals[i] for i in ecg_signals([one.label for one in edf.signals])]
        return _record(path, edf, signals, continuous=continuous)
    except RecordError:
        raise
    except _EDF_ERRORS as error:
        raise RecordError(f"unreadable EDF file: {error or type(error).__name__}") from error


def _record(path: Path, edf: Edf, signals: list[EdfSignal], *, continuous: bool) -> DigitalRecord:
    """Check and convert the signals; edfio reads their samples here."""
    if not signals:
        raise RecordError("no signals: the EDF file holds annotations only")
    if not continuous:
        raise RecordError(
            f"gap between data records: {edf.num_data_records} of {edf.data_record_duration:g} s "
            "each, with gaps between them (EDF+D)"
        )
    rates = sorted({signal.sampling_frequency for signal in signals})
    if len(rates) > 1:
        frequencies = ", ".join(f"{rate:g} Hz" for rate in rates)
        raise RecordError(f"leads of different sampling frequencies: {frequencies}")
    leads = tuple(lead_name(signal.label) for signal in signals)
    scales = [_scale(lead, signal) for lead, signal in zip(leads, signals, strict=True)]
    digital: NDArray[np.int16] = np.stack([signal.digital for signal in signals], axis=1)
    if not len(digital):
        raise RecordError("no samples: the EDF file has no data records")
    return DigitalRecord(
        id=path.stem,
        fs=float(rates[0]),
        leads=leads,
        digital=digital.astype(np.int16, copy=False),
        physical=None,
        gain=np.array([gain for gain, _ in scales], np.float32),
        baseline=np.array([baseline for _, baseline in scales], np.float32),
        units=tuple(signal.physical_dimension for signal in signals),
        files=(path,),
    )


def _scale(lead: str, signal: EdfSignal) -> tuple[float, float]:
    """Return a lead's units per mV, and its value at 0 mV, which may be a fraction."""
    unit = signal.physical_dimension.replace("µ", "u").replace("μ", "u")
    per_millivolt = units_per_millivolt(lead, unit)
    low, high = signal.physical_min, signal.physical_max
    steps = signal.digital_max - signal.digital_min
    if high == low or not steps:
        raise RecordError(
            f"no scale: lead {lead!r} has the physical range {low:g} to {high:g} {unit} for the "
            f"digital range {signal.digital_min} to {signal.digital_max}"
        )
    per_unit = steps / (high - low)
    return per_unit * per_millivolt, signal.digital_min - low * per_unit


def _refuse_truncated(path: Path) -> None:
    """Raise RecordError if the file is shorter than its header says; edfio ignores that."""
    try:
        with path.open("rb") as file:
            head = file.read(_FIXED_HEADER_BYTES)
            n_signals = _number(head, 252, 4, "number of signals")
            fields = file.read(_FIXED_HEADER_BYTES * n_signals) if n_signals > 0 else b""
            size = path.stat().st_size
    except OSError as error:
        raise RecordError(f"unreadable EDF file: {error.strerror}") from error
    if n_signals < 1:
        raise RecordError(f"broken EDF header: it declares {n_signals} signals")
    # The numbers of samples come after 216 bytes of other fields per signal.
    samples = [
        _number(fields, 216 * n_signals + 8 * i, 8, f"samples of signal {i + 1}")
        for i in range(n_signals)
    ]
    n_records = _number(head, 236, 8, "number of data records")
    expected = _FIXED_HEADER_BYTES * (n_signals + 1) + 2 * sum(samples) * max(n_records, 0)
    if size < expected:
        raise RecordError(
            f"truncated EDF file: it has {size} bytes, its header requires {expected}"
        )


def _number(data: bytes, start: int, width: int, what: str) -> int:
    field = data[start : start + width]
    try:
        return int(field.decode("ascii"))
    except ValueError:
        raise RecordError(
            f"broken EDF header: the {what} is {field!r}, which is not a number; is this an EDF "
            "file?"
        ) from None


#: Names of leads, as WFDB files have them too.
_LEADS = (
    *("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"),
    *("V3R", "V4R", "V7", "V8", "V9", "MLI", "MLII", "MLIII", "X", "Y", "Z"),
)
_BY_NAME = {name.casefold(): name for name in _LEADS}
#: Names that mean a lead without the word ECG; ``X``, ``Y`` and ``Z`` may be anything.
_CLEAR = frozenset(name.casefold() for name in _LEADS if name not in "XYZ")
_PREFIX = re.compile(r"^(?:(?:ecg|ekg)[\s_:.\-]*)?(?:lead[\s_:.\-]*)?", re.IGNORECASE)
_IS_ECG = re.compile(r"^(?:ecg|ekg)(?![a-z])", re.IGNORECASE)


def lead_name(label: str) -> str:
    """Return the lead that a signal's label names, ``II`` for ``ECG Lead II``, else the label.

    Examples
    --------
    >>> lead_name("EKG aVR"), lead_name("ECG"), lead_name("Resp")
    ('aVR', 'ECG', 'Resp')
    """
    label = label.strip()
    return _BY_NAME.get(_PREFIX.sub("", label).casefold(), label)


def is_ecg(label: str) -> bool:
    """Return whether a label names an ECG: by that word, or by a lead's name."""
    label = label.strip()
    return bool(_IS_ECG.match(label)) or _PREFIX.sub("", label).casefold() in _CLEAR


def ecg_signals(labels: Sequence[str]) -> list[int]:
    """Return the positions of the ECG leads among signals; all positions if no label names one."""
    marked = [position for position, label in enumerate(labels) if is_ecg(label)]
    return marked or list(range(len(labels)))
