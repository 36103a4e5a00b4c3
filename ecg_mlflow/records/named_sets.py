"""Describe the public data sets that have names, and find their records and labels.

The descriptions are those of ECGBench (https://github.com/vlbthambawita/ECGBench, MIT), and our own
for what it lacks. A package registers more by entry points of the group ``ecg_mlflow.datasets``,
each of which names a `DataSet`.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_mlflow.errors import DataNotFoundError

if TYPE_CHECKING:
    import pandas as pd

#: Labels of a data set: the diagnoses in the headers' ``#Dx`` lines, or a file beside the records.
HEADERS, BESIDE = "headers", ""
#: Group of the entry points that register data sets.
ENTRY_POINTS = "ecg_mlflow.datasets"
OPEN = "open"
_NAMED = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)(?::(?P<choices>[\w:]+))?(?:@(?P<folder>.+))?")

#: Makes the table of a folder: the columns record (the name of the header) and label, and where the
#: source has them patient, age, sex and the fold. Records without a label are left out.
ReadTable = Callable[[Path, tuple[str, ...]], "pd.DataFrame"]


@dataclass(frozen=True)
class Fold:
    """The official division of a data set.

    Attributes
    ----------
    column
        Column of the fold in the table of labels.
    validation, test
        Its values in these parts; all others train.
    """

    column: str
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    Attributes
    ----------
    name
        What users call it: ``data=ptbxl``.
    title, signals, records, patients, license, page, citation
        Descriptions for people, as the source gives them.
    access
        "open"; or "credentialed" or "restricted", where the source must be asked first.
    gigabytes
        About how large the signals are, in samples of 16 bits; None if unknown.
    files
        Address of the published folder that has ``SHA256SUMS.txt``; without it the data set is not
        downloaded.
    folder
        Folder within it that has the records, such as ``training/georgia/``.
    form
        Format of the signals; others than WFDB and EDF are not read by name.
    labels
        `HEADERS`, `BESIDE`, or a function that makes the table.
    choices
        Words that may follow the name after a colon, each in words.
    folder_of
        Folders of records that only one choice needs, by the choice; the first is the default.
    fold
        The official division, if there is one.
    shares
        How the data set shares recordings or patients with others, by their names, for which ``{}``
        stands: ``{"cinc2021": "is a part of {}"}``.
    """

    name: str
    title: str
    signals: str
    records: str
    patients: str
    access: str
    license: str
    page: str
    citation: str = ""
    gigabytes: float | None = None
    files: str = ""
    folder: str = ""
    form: str = "wfdb"
    labels: str | ReadTable = HEADERS
    choices: Mapping[str, str] = field(default_factory=dict)
    folder_of: Mapping[str, str] = field(default_factory=dict)
    fold: Fold | None = None
    shares: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Named:
    """What a user asked for: ``ptbxl:super:500@folder``.

    Attributes
    ----------
    data_set, choices
        The data set, and the words after its name.
    folder
        Where it is on this machine, as the user wrote it; None to download it.
    """

    data_set: DataSet
    choices: tuple[str, ...]
    folder: str | None

    @property
    def folders(self) -> list[str]:
        """The choices whose own folders are needed, if the data set has such."""
        known = self.data_set.folder_of
        return [one for one in self.choices if one in known] or [*known][:1]

    def needs(self, file: str) -> bool:
        """Return whether a file of the published folder is needed, by its path there."""
        folders = self.data_set.folder_of.items()
        others = tuple(folder for key, folder in folders if key not in self.folders)
        return file.startswith(self.data_set.folder) and not file.startswith(others)

    def __str__(self) -> str:
        words = ":".join((self.data_set.name, *self.choices))
        return words if self.folder is None else f"{words}@{self.folder}"


def named(data: str) -> Named | None:
    """Read the name of a data set; None for a path, or another name.

    Raises
    ------
    DataNotFoundError
        If a word after the name is none of the data set's.
    """
    found = _NAMED.fullmatch(data)
    if found is None or found["name"] not in data_sets():
        return None
    data_set = data_sets()[found["name"]]
    choices = tuple(filter(None, (found["choices"] or "").split(":")))
    if unknown := [word for word in choices if word not in data_set.choices]:
        allowed = ", ".join(data_set.choices) or "none"
        raise DataNotFoundError(
            f"data={data!r}: {unknown[0]!r} is no choice of {data_set.name}; they are: {allowed}"
        )
    return Named(data_set, choices, found["folder"])


def records_folder(asked: Named, folder: Path) -> Path:
    """Return the folder of the records within a copy of the data set, or within a part of it."""
    inner = folder / asked.data_set.folder
    return inner if inner.is_dir() else folder


def pattern_of(asked: Named, folder: Path) -> str:
    """Return a glob of all files of a data set's records.

    Raises
    ------
    DataNotFoundError
        If the folder doesn't exist, or the signals are in a format that is not read by name.
    """
    data_set = asked.data_set
    if data_set.form not in ("wfdb", "edf"):
        raise DataNotFoundError(
            f"the signals of {data_set.name} are in the format {data_set.form}, which is not read "
            f"by name: convert them to WFDB, and give the folder; see {data_set.page}"
        )
    if not folder.is_dir():
        raise DataNotFoundError(
            f"data={asked}: there is no folder {folder}. Give the folder that {data_set.title} was "
            f"unpacked into; see {data_set.page}"
        )
    return f"{glob.escape(str(records_folder(asked, folder)))}/**/*"


def read_table(asked: Named, folder: Path) -> pd.DataFrame | None:
    """Read the table of a data set's records; None if the labels are in headers or beside them.

    Raises
    ------
    DataNotFoundError
        If the files of the labels are missing or can't be read.
    """
    if isinstance(asked.data_set.labels, str):
        return None
    try:
        table = asked.data_set.labels(folder, asked.choices)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataNotFoundError(f"data={asked}: the labels can't be read: {error}") from error
    if table.empty:
        raise DataNotFoundError(f"data={asked}: no record has a label in {folder}")
    return table


def overlap(one: str, other: str) -> str | None:
    """Say how two data share recordings or patients, where both have names; else None.

    Examples
    --------
    >>> overlap("cinc2021", "ptbxl:super@/data/ptb-xl")
    'cinc2021 has ptbxl as a part'
    """
    first, second = named(one), named(other)
    if first is None or second is None:
        return None
    for this, that in ((first.data_set, second.data_set), (second.data_set, first.data_set)):
        if how := this.shares.get(that.name):
            return f"{this.name} {how.format(that.name)}"
    return None


@cache
def data_sets() -> Mapping[str, DataSet]:
    """Return all data sets by their names, sorted.

    Raises
    ------
    DataNotFoundError
        If two are registered by one name.
    """
    # Imported here, because it takes a second, which data from folders does not need.
    from ecg_mlflow.records.ecgbench_sets import described_sets

    found = {one.name: one for one in described_sets()}
    for entry in entry_points(group=ENTRY_POINTS):
        one = entry.load()
        if one.name in found:
            raise DataNotFoundError(
                f"the entry point {entry.value} registers a data set {one.name!r}, which exists"
            )
        found[one.name] = one
    return dict(sorted(found.items()))
