"""What a label file says of records beside their labels: age, sex, site, whatever it has."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from ecg_mlflow.errors import DataNotFoundError

_RECORD = "record"
#: Columns that name or label a record, and describe no group of records.
_OWN = ("record", "label", "patient")


def read_groups(paths: Sequence[Path]) -> dict[str, dict[str, str]]:
    """Read the columns of label files that may describe groups of records.

    Parameters
    ----------
    paths
        CSV files; those without a header that names the column ``record`` have nothing to say.

    Returns
    -------
    For each such column the values by record; an empty cell is left out.

    Raises
    ------
    DataNotFoundError
        If a file can't be read.
    """
    found: dict[str, dict[str, str]] = {}
    for path in paths:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.reader(file))
        except (OSError, UnicodeDecodeError) as error:
            raise DataNotFoundError(f"can't read {path}: {error}") from error
        header = [cell.strip() for cell in rows[0]] if rows else []
        place = [cell.casefold() for cell in header]
        if _RECORD not in place:
            continue
        record = place.index(_RECORD)
        for row in rows[1:]:
            for name, cell in zip(header, row, strict=False):
                if name.casefold() not in _OWN and name and cell.strip() and len(row) > record:
                    found.setdefault(name, {})[row[record].strip()] = cell.strip()
    return found
