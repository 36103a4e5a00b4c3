"""Divide records so that those of one patient, and exact copies, stay together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ecg_mlflow.records.label_sets import split_label

if TYPE_CHECKING:
    from ecg_mlflow.records.splits import Parts


def groups_of(rows: Sequence[int], bonds: Iterable[Sequence[int]]) -> list[list[int]]:
    """Join rows that belong together; two bonds that share a row form one group.

    Parameters
    ----------
    rows
        Ascending positions of records.
    bonds
        Rows that belong together.

    Returns
    -------
    list of list of int
        Every row once, ascending within groups; the groups in the order of their first rows.
    """
    place = {row: position for position, row in enumerate(rows)}
    pairs = [(place[bond[0]], place[row]) for bond in bonds for row in bond[1:]]
    links = coo_array(
        (np.ones(len(pairs)), np.array(pairs, np.int64).reshape(-1, 2).T),
        shape=(len(rows), len(rows)),
    )
    groups: dict[int, list[int]] = defaultdict(list)
    for row, group in zip(rows, connected_components(links)[1].tolist(), strict=True):
        groups[group].append(row)
    return list(groups.values())


def divide_groups(
    groups: Sequence[Sequence[int]],
    strata: Sequence[str],
    seed: int | None,
    counts: Callable[[int], Mapping[str, int]],
) -> dict[str, list[int]]:
    """Divide whole groups, so that each stratum's records match the fractions.

    1. Take the strata from the smallest to the largest, since rare ones are hardest to divide.
    2. Shuffle the undivided groups that have records of the stratum, if there is a seed.
    3. Count how many of the stratum's records each part still lacks: groups of an earlier stratum
       may have contributed some.
    4. Cut the shuffled groups where the number of the stratum's records is nearest to that.

    A record with several labels counts in each of their strata.

    The share of a part differs from its fraction by at most one group's records, unless groups of
    several strata gave it more before.

    Parameters
    ----------
    groups
        Rows that stay together; each row is in one group.
    strata
        The stratum of each record of the corpus; several strata are joined as in
        `ecg_mlflow.records.label_sets`.
    seed
        Seed of the shuffling; None keeps the order.
    counts
        Returns how many of n records each part gets, by its name; parts are cut in this order.

    Returns
    -------
    dict
        The rows of each part, by its name.
    """
    strata_of = {row: split_label(strata[row]) for group in groups for row in group}
    totals = Counter(one for found in strata_of.values() for one in found)
    parts: dict[str, list[int]] = defaultdict(list)
    placed: Counter[tuple[str, str]] = Counter()
    waiting = list(groups)
    for stratum in sorted(totals, key=lambda name: (totals[name], name)):
        sizes = [sum(stratum in strata_of[row] for row in group) for group in waiting]
        chosen = [place for place, size in enumerate(sizes) if size]
        if not chosen:
            continue
        order = chosen
        if seed is not None:
            order = np.random.default_rng([seed, len(chosen)]).permutation(chosen).tolist()
        wanted = counts(totals[stratum])
        lacking = [max(0, n - placed[part, stratum]) for part, n in wanted.items()]
        borders = _borders([sizes[place] for place in order], lacking)
        for part, start, end in zip(wanted, [0, *borders], borders, strict=False):
            for row in (row for place in order[start:end] for row in waiting[place]):
                parts[part].append(row)
                placed.update((part, one) for one in strata_of[row])
        waiting = [group for group, size in zip(waiting, sizes, strict=True) if not size]
    return parts


def _borders(sizes: Sequence[int], lacking: Sequence[int]) -> list[int]:
    """Return after how many groups each part ends.

    Of two equally near borders the later is used, since the earlier may leave a small part empty.
    """
    ends: npt.NDArray[np.int64] = np.cumsum([0, *sizes])
    # If one part has too many already, the others share the rest.
    wanted = np.cumsum(lacking) * ends[-1] / sum(lacking)
    return [len(sizes) - int(np.abs(ends[::-1] - border).argmin()) for border in wanted]


def rows_by_patient(rows: Iterable[int], patients: Sequence[str] | None) -> dict[str, list[int]]:
    """Return the rows of each known patient.

    Parameters
    ----------
    rows
        Positions of records.
    patients
        Patient of each record of the whole corpus, '' if unknown; or None.
    """
    found: dict[str, list[int]] = defaultdict(list)
    if patients is not None:
        for row in rows:
            if patients[row]:
                found[patients[row]].append(int(row))
    return found


def patients_note(parts: Parts, patients: Sequence[str] | None) -> str | None:
    """Describe how many patients each part has; None if the records name no patients."""
    counts, nameless = {}, 0
    for name, rows in parts.items():
        known = rows_by_patient(rows, patients)
        counts[name] = len(known)
        nameless += len(rows) - sum(map(len, known.values()))
    if not any(counts.values()):
        return None
    note = "all records of a patient are in one part of the split; patients: "
    note += ", ".join(f"{name} {count}" for name, count in counts.items())
    if nameless:
        total = sum(len(rows) for _, rows in parts.items())
        note += f"; {nameless} of {total} records have no patient and are divided one by one"
    return note
