"""Divides records that must stay together: those of one patient, and exact copies."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ecg_mlflow.records.label_sets import split_label


def groups_of(rows: Sequence[int], bonds: Iterable[Sequence[int]]) -> list[list[int]]:
    """Join rows by bonds; what two bonds share joins all of both.

    Parameters
    ----------
    rows
        Ascending positions of records.
    bonds
        Rows that belong together.

    Returns
    -------
    list of list of int
        Every row once, ascending within groups; the groups by their first row.
    """
    leader = {row: row for row in rows}

    def leader_of(row: int) -> int:
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    for bond in bonds:
        for row in bond[1:]:
            first, second = sorted((leader_of(bond[0]), leader_of(row)))
            leader[second] = first
    groups: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        groups[leader_of(row)].append(row)
    return list(groups.values())


def divide_groups(
    groups: Sequence[Sequence[int]],
    strata: Sequence[str],
    seed: int,
    counts: Callable[[int], Mapping[str, int]],
) -> dict[str, list[int]]:
    """Divide whole groups by chance, so that each stratum's records come out at the fractions.

    1. Take the strata from the smallest to the largest, since what is rare is hardest to divide.
    2. Shuffle the groups that have records of the stratum and are still to be divided.
    3. Count what each part lacks of the stratum's records: groups of an earlier stratum may have
       brought some.
    4. Cut the shuffled groups where the stratum's records come nearest to that.

    A record of several labels counts in each of their strata.

    A part then has its share of a stratum to within one group's records, unless groups of several
    strata have brought it more before. Groups of one record are divided as records are without
    groups.

    Parameters
    ----------
    groups
        Rows that stay together, each row in one group.
    strata
        The stratum of each record of the corpus; several as `ecg_mlflow.records.label_sets`
        spells them.
    seed
        Of the chance.
    counts
        Says how many of n records each part shall have, by its name; these are cut in that order.

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
        rng = np.random.default_rng([seed, len(chosen)])
        order = rng.permutation(chosen).tolist()
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

    Of equally near places it is the later, since the earlier may leave a small part empty.
    """
    ends: npt.NDArray[np.int64] = np.cumsum([0, *sizes])
    # Where one part has too much already, the others share what is left.
    wanted = np.cumsum(lacking) * ends[-1] / sum(lacking)
    return [len(sizes) - int(np.abs(ends[::-1] - border).argmin()) for border in wanted]
