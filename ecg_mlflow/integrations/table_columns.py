"""Columns of a table that somebody else has made: which are there, and what they may hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.integrations.evaluator_config import TableSettings
from ecg_mlflow.stats.predictions import PROBABILITY

if TYPE_CHECKING:
    import pandas as pd

#: Records that a message names.
NAMED = 5


def probability_columns(table: pd.DataFrame, settings: TableSettings) -> dict[str, str]:
    """Return the columns of probabilities by class; one without a name is the positive class's.

    Raises
    ------
    PredictionsError
        If the table has no such column.
    """
    said = settings.probabilities
    if said is None:
        head = PROBABILITY.format("")
        names = [str(name) for name in table.columns if str(name).startswith(head)]
        return {name.removeprefix(head): name for name in names}
    columns = {"": said} if isinstance(said, str) else {label_text(k): v for k, v in said.items()}
    if missing := [column for column in columns.values() if column not in table.columns]:
        raise PredictionsError(
            f"there is no column {', '.join(map(repr, missing))}; there are {list(table.columns)}"
        )
    return columns


def record_names(table: pd.DataFrame, column: str | None) -> tuple[str, ...]:
    """Return the names of the records; their rows where they have none.

    Raises
    ------
    PredictionsError
        If one is there twice.
    """
    found = optional_column(table, column, "record")
    if found is None:
        return tuple(f"row {i}" for i in range(len(table)))
    records = tuple(label_text(one) for one in found)
    if len(set(records)) < len(records):
        twice = sorted({one for one in records if records.count(one) > 1})[:NAMED]
        raise PredictionsError(
            f"records {', '.join(twice)} are there more than once; a table has one row per record: "
            "average the probabilities of its windows first"
        )
    return records


def optional_column(table: pd.DataFrame, column: str | None, default: str) -> list[Any] | None:
    """Return the column that was asked for, or the usual one where there is one.

    Raises
    ------
    PredictionsError
        If the one that was asked for is not there.
    """
    if column is not None and column not in table.columns:
        raise PredictionsError(f"there is no column {column!r}; there are {list(table.columns)}")
    name = column or default
    return table[name].tolist() if name in table.columns else None


def read_labels(values: npt.ArrayLike, records: Sequence[str], what: str) -> list[str]:
    """Return labels as text; there is one for each record.

    Raises
    ------
    PredictionsError
        If their number is another one, or a record has none.
    """
    given = np.asarray(values, dtype=object)
    if given.shape != (len(records),):
        raise PredictionsError(f"{len(records)} records need as many {what}s, not {given.shape}")
    # What differs from itself is NaN, whatever its type.
    if bad := [r for r, one in zip(records, given, strict=True) if one is None or one != one]:
        raise PredictionsError(f"{len(bad)} of {len(given)} records have no {what}: {some_of(bad)}")
    return [label_text(one) for one in given]


def read_numbers(table: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """Return a column of numbers, ``(n_records,)``.

    Raises
    ------
    PredictionsError
        If it has something else.
    """
    try:
        return np.asarray(table[column].to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise PredictionsError(f"the column {column!r} has no probabilities: {error}") from error


def some_of(records: Sequence[str]) -> str:
    """Name the first of some records."""
    more = f" and {len(records) - NAMED} more" if len(records) > NAMED else ""
    return ", ".join(records[:NAMED]) + more


def label_text(value: Any) -> str:
    """Spell a label: 1, 1.0 and NumPy's are one class."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
