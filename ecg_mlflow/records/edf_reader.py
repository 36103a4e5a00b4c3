"""Read one EDF or EDF+ file with the edfio package; errors name the fault of a bad file.

Format: https://www.edfplus.info/specs/edf.html and edfplus.html.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.errors import ExtraMissingError, RecordError
from ecg_mlflow.files import is_special
from ecg_mlflow.records.record import DigitalRecord, units_per_millivolt

if TYPE_CHECKING:
    from edfio import EdfSignal

# Where the header has the number of data records, and their duration in seconds.
_N_DATA_RECORDS, _SECONDS = slice(236, 244), slice(244, 252)


def read_edf(path: Path) -> DigitalRecord:
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
    try:
        import edfio
    except ImportError as error:
        raise ExtraMissingError(
            "EDF files are read by the package edfio, which is not installed: "
            "pip install 'ecg_mlflow[edf]'"
        ) from error
    if is_special(path):
        raise RecordError(f"unreadable EDF file: {path.name} is no regular file")
    seconds = None
    try:
        with path.open("rb") as file:
            head = file.read(_SECONDS.stop)
        declared = _number("number of data records", head[_N_DATA_RECORDS])
        seconds = _number("duration of a data record", head[_SECONDS])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # edfio warns of truncation only, and corrects itself
            edf = edfio.read_edf(path)
        if edf.num_data_records < declared:
            raise RecordError(
                f"truncated EDF file: it has {edf.num_data_records} whole data records, its header "
                f"requires {declared:g}"
            )
        if not edf.is_continuous:
            raise RecordError(
                f"gap between data records: {declared:g} of {edf.data_record_duration:g} s each, "
                "with gaps between them (EDF+D)"
            )
        labels = [signal.label for signal in edf.signals]
        return _record(path, [edf.signals[i] for i in ecg_signals(labels)])
    except RecordError:
        raise
    except Exception as error:  # whatever edfio comes upon in a damaged file
        why = str(error) or type(error).__name__
        if seconds is not None and seconds <= 0:  # for annotations alone it may be 0
            why = f"its data records last {seconds:g} s"
        raise RecordError(f"unreadable EDF file: {why}") from error


def _number(name: str, text: bytes) -> float:
    """Read a number of the header."""
    if not re.fullmatch(rb" *[+-]?[0-9]+(\.[0-9]*)? *", text):
        met = text.decode("latin-1").strip()
        raise RecordError(f"unreadable EDF file: its header says {met!r} for the {name}")
    return float(text)


def _record(path: Path, signals: list[EdfSignal]) -> DigitalRecord:
    """Check and convert the signals; edfio reads their samples here."""
    if not signals:
        raise RecordError("no signals: the EDF file holds annotations only")
    rates = sorted({signal.sampling_frequency for signal in signals})
    if not 0 < rates[0] <= rates[-1] < float("inf"):
        raise RecordError(f"no sampling frequency: the header gives {rates[0]:g} Hz")
    if len(rates) > 1:
        frequencies = ", ".join(f"{rate:g} Hz" for rate in rates)
        raise RecordError(f"leads of different sampling frequencies: {frequencies}")
    leads = tuple(lead_name(signal.label) for signal in signals)
    scales = [_scale(lead, signal) for lead, signal in zip(leads, signals, strict=True)]
    digital = np.stack([signal.digital for signal in signals], axis=1)
    if not len(digital):
        raise RecordError("no samples: the EDF file has no data records")
    gain, baseline = np.array(scales, np.float32).T
    samples = digital.astype(np.int16, copy=False)
    return DigitalRecord(path.stem, float(rates[0]), leads, samples, gain, baseline)


def _scale(lead: str, signal: EdfSignal) -> tuple[float, float]:
    """Return a lead's units per mV, and its value at 0 mV, which may be a fraction."""
    per_millivolt = units_per_millivolt(lead, signal.physical_dimension)
    low, high = signal.physical_min, signal.physical_max
    steps = signal.digital_max - signal.digital_min
    if high == low or not steps:
        raise RecordError(
            f"no scale: lead {lead!r} has the physical range {low:g} to {high:g} for the digital "
            f"range {signal.digital_min} to {signal.digital_max}"
        )
    per_unit = steps / (high - low)
    return per_unit * per_millivolt, signal.digital_min - low * per_unit


#: Names of leads, as WFDB files have them too; ``X``, ``Y`` and ``Z`` alone may be anything.
_LEADS = (
    *("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"),
    *("V3R", "V4R", "V7", "V8", "V9", "MLI", "MLII", "MLIII", "X", "Y", "Z"),
)
_BY_NAME = {name.casefold(): name for name in _LEADS}
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


def ecg_signals(labels: list[str]) -> list[int]:
    """Return the positions of the signals whose label names an ECG or a lead; all without any."""
    marked = [
        position
        for position, label in enumerate(labels)
        if _IS_ECG.match(label.strip()) or lead_name(label) in _LEADS[:-3]
    ]
    return marked or list(range(len(labels)))
