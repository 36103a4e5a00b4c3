"""Whose the records are: what a split must not tear apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ecg_mlflow.errors import SplitError

if TYPE_CHECKING:
    from ecg_mlflow.records.splits import Parts

#: How many patients an error lists, and how many records of each on each side.
SHOWN_PATIENTS, SHOWN_RECORDS = 10, 3


def rows_by_patient(rows: Iterable[int], patients: Sequence[str] | None) -> dict[str, list[int]]:
    """Return the rows of each patient that is known.

    Parameters
    ----------
    rows
        Positions of records.
    patients
        Whose the records of the whole corpus are, '' where that isn't known; or None.
    """
    found: dict[str, list[int]] = defaultdict(list)
    if patients is not None:
        for row in rows:
            if patients[row]:
                found[patients[row]].append(int(row))
    return found


def patients_note(parts: Parts, patients: Sequence[str] | None) -> str | None:
    """Say how many patients each part has; None where the records name none."""
    counts, nameless = {}, 0
    for name, rows in parts.items():
        known = rows_by_patient(rows, patients)
        counts[name] = len(known)
        nameless += len(rows) - sum(map(len, known.values()))
    if not any(counts.values()):
        return None
    note = "the records of one patient stand on one side of the split; patients: "
    note += ", ".join(f"{name} {count}" for name, count in counts.items())
    if nameless:
        total = sum(len(rows) for _, rows in parts.items())
        note += f"; {nameless} of {total} records name no patient and are divided one by one"
    return note


def check_patients(
    parts: Parts, ids: Sequence[str], by_patient: Mapping[str, Sequence[int]], advice: str
) -> None:
    """Check that no patient stands in two parts.

    Parameters
    ----------
    parts
        The records of each part.
    ids
        Of the whole corpus.
    by_patient
        The rows of each patient.
    advice
        What the user can write instead.

    Raises
    ------
    SplitError
        If one does; the message names patients and records.
    """
    part_of = {int(row): name for name, rows in parts.items() for row in rows}
    torn = []
    for patient, rows in by_patient.items():
        sides: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            sides[part_of[row]].append(ids[row])
        if len(sides) > 1:
            torn.append(f"{patient} with " + " and ".join(map(_side, sides.items())))
    if torn:
        more = len(torn) - SHOWN_PATIENTS
        raise SplitError(
            f"the records of {len(torn)} patient{'s' if len(torn) > 1 else ''} stand on two sides "
            f"of the split: {'; '.join(torn[:SHOWN_PATIENTS])}"
            + (f"; and {more} more patients" if more > 0 else "")
            + f". List whole patients, or divide by chance, which keeps them together: {advice}"
        )


def _side(side: tuple[str, list[str]]) -> str:
    name, records = side
    more = len(records) - SHOWN_RECORDS
    listed = ", ".join(records[:SHOWN_RECORDS]) + (f" and {more} more" if more > 0 else "")
    return f"{listed} ({name})"
