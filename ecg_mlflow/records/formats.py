"""Read a recording of any format; `FORMATS` lists the formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecg_mlflow.errors import EcgMlflowError, RecordError
from ecg_mlflow.records.array_reader import read_arrays
from ecg_mlflow.records.edf_reader import read_edf
from ecg_mlflow.records.reading import DEFAULT, Reading
from ecg_mlflow.records.record import DigitalRecord, Record
from ecg_mlflow.records.vendor_reader import read_vendor
from ecg_mlflow.records.wfdb_reader import read_wfdb, wfdb_files


@dataclass(frozen=True)
class Format:
    """A file format of recordings.

    Attributes
    ----------
    read
        Reads the recording of a path: the leads of these names, or all ECG leads. Samples that the
        format marks as invalid become NaN in mV. It raises RecordError for a bad file, and
        ExtraMissingError without its package.
    files
        Returns the files of a recording, also of one that can't be read; by default the path.
    general
        Whether files of this ending may well be something else. They are recordings only where
        there are none in another format.
    """

    read: Callable[[Path, Sequence[str]], DigitalRecord]
    files: Callable[[Path], tuple[Path, ...]] = lambda path: (path,)
    general: bool = False


#: By the ending of their files. Of one recording in several formats, the first is read.
FORMATS = {
    ".hea": Format(read_wfdb, wfdb_files),
    ".edf": Format(read_edf),
    ".bdf": Format(read_edf),
    **dict.fromkeys((".dcm", ".scp", ".ecg", ".xml"), Format(read_vendor, general=True)),
    **dict.fromkeys((".npz", ".h5", ".hdf5", ".mat"), Format(read_arrays, general=True)),
}


def format_of(path: Path) -> Format | None:
    """Return the format of a recording by the ending of its name; None for another file."""
    return FORMATS.get(path.suffix.lower())


def read_digital(
    path: str | Path, reading: Reading = DEFAULT, *, keep_invalid: bool = False
) -> DigitalRecord:
    """Read a record as stored in its files.

    Parameters
    ----------
    path
        The ``.hea`` file of a WFDB record (see `wfdb_reader.read_wfdb`), an ``.edf`` or ``.bdf``
        file (see `edf_reader.read_edf`), a ``.npz``, ``.h5``, ``.hdf5`` or ``.mat`` file (see
        `array_reader.read_arrays`), or a ``.dcm``, ``.scp``, ``.ecg`` or ``.xml`` file (see
        `vendor_reader.read_vendor`).
    reading
        Which leads are read, and what becomes of gaps.
    keep_invalid
        Whether invalid samples become NaN in mV, whatever `reading` says.

    Raises
    ------
    RecordError
        If the record can't be used; the message says why.
    ExtraMissingError
        If the package that reads the format is not installed.
    """
    path = Path(path)
    form = format_of(path)
    if form is None:
        raise RecordError(
            f"{path.name[:100]!r} is in no format that is read here: names of recordings end in "
            f"{' or '.join(FORMATS)}"
        )
    try:
        record = form.read(path, reading.names)
    except EcgMlflowError:
        raise
    except Exception as error:  # whatever a decoder comes upon in a damaged file
        raise RecordError(f"unreadable file: {type(error).__name__}: {error}") from error
    return record if keep_invalid else reading.fill(record)


def read_record(path: str | Path, label: str | None = None) -> Record:
    """Read a record in mV; see `read_digital` for what it raises."""
    digital = read_digital(path)
    return Record(digital.id, digital.millivolts(), digital.fs, digital.leads, label)
