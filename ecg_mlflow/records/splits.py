"""Divide records into training, validation and test parts, once for a whole study."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import SplitError, few
from ecg_mlflow.grids.canonical import added_field, counts_as
from ecg_mlflow.grids.numbers import is_integer, is_real
from ecg_mlflow.records.grouping import divide_groups, groups_of, rows_by_patient
from ecg_mlflow.records.label_sets import SEPARATOR

TRAIN, VALIDATION, TEST = "train", "validation", "test"
#: In place of fractions: the division that the data set was published with.
OFFICIAL = "official"


@counts_as("Split", version=1)
@dataclass(frozen=True)
class Split:
    """A rule that divides records.

    If the labels name patients, all records of a patient go into one part. A random division keeps
    them together; a division in order or by a list that separates them is an error.

    Parameters
    ----------
    fractions
        The training fraction (the rest is the test set), or ``(train, test)``, or ``(train,
        validation, test)``, adding up to 1; or "official" for the published division of a data set
        that has one, such as PTB-XL's.
    stratified
        Divide each class separately; with patients, or several labels per record, each class only
        approximates the fractions.
    seed
        Divide at random. Without a seed the sorted records are divided in order: the first are the
        test set, then come validation and training.
    records
        Instead of `fractions`: ``{"test": [ids], "validation": [ids]}``; all other records train.
    column, test, validation
        Instead of `fractions`: a column of the label table, and its values in the two parts, each
        one value or several: ``Split(column="fold", test=10, validation=[8, 9])``.

    Raises
    ------
    SplitError
        If the fractions don't add up to 1, `records` names an unknown part or a record twice, or
        what needs no chance is combined with `stratified` or `seed`.
    """

    fractions: float | tuple[float, ...] | str = 0.8
    stratified: bool = False
    seed: int | None = None
    records: Mapping[str, Sequence[str]] | None = None
    column: str | None = added_field(None)
    test: str | int | Sequence[str | int] = added_field(())
    validation: str | int | Sequence[str | int] = added_field(())

    def __post_init__(self) -> None:
        if not isinstance(self.stratified, bool):
            raise SplitError(f"stratified={self.stratified!r} must be True or False")
        if self.seed is not None and not (is_integer(self.seed) and self.seed >= 0):
            raise SplitError(f"the split's seed={self.seed!r} must be a whole number of at least 0")
        if self.column is not None or self.test_values or self.validation_values:
            self._check_column()
        elif self.fractions == OFFICIAL:
            self._require_no_chance("the official split")
        elif self.records is None:
            self.shares()
        else:
            self._check_records(self.records)

    def __str__(self) -> str:
        # A parameter of the study's run, which a later version must log with the same text.
        if self.records is not None:
            listed = ", ".join(f"{len(names)} {part}" for part, names in self.records.items())
            return f"by name: {listed}"
        if self.column is not None:
            rest = f", validation {few(self.validation_values)}" if self.validation_values else ""
            return f"by column {self.column}: test {few(self.test_values)}{rest}"
        if self.fractions == OFFICIAL:
            return OFFICIAL
        how = "the first test" if self.seed is None else f"by chance, seed {self.seed}"
        shares = ", ".join(f"{name} {share:g}" for name, share in self.shares().items())
        return f"{shares}; {'each class by itself, ' if self.stratified else ''}{how}"

    @property
    def test_values(self) -> tuple[str | int, ...]:
        """Values of the column in the test part."""
        return _several(self.test)

    @property
    def validation_values(self) -> tuple[str | int, ...]:
        """Values of the column in the validation part."""
        return _several(self.validation)

    def _require_no_chance(self, what: str) -> None:
        if self.stratified or self.seed is not None:
            raise SplitError(
                f"{what} takes no stratified and no seed: leave these out, or divide by fractions"
            )

    def _check_column(self) -> None:
        self._require_no_chance("a split by a column")
        both = set(map(str, self.test_values)) & set(map(str, self.validation_values))
        if not isinstance(self.column, str) or not self.test_values or both or self.records:
            raise SplitError(
                f"column={self.column!r}, test={self.test!r}, validation={self.validation!r}: name "
                "a column and its values in the test part, and others for validation if it is "
                'wanted, as in Split(column="fold", test=10, validation=9)'
            )

    def _check_records(self, records: Mapping[str, Sequence[str]]) -> None:
        self._require_no_chance("a split that lists its records")
        if (
            not isinstance(records, Mapping)
            or not {TEST} <= set(records) <= {TEST, VALIDATION}
            or any(isinstance(names, str) for names in records.values())
            or not records[TEST]
        ):
            raise SplitError(
                f"records={records!r} must list the test records and may list those of validation, "
                'as in {"test": ["A1", "A2"], "validation": ["A3"]}; all others train'
            )
        counts = Counter(name for part in records.values() for name in part)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise SplitError(f"the split lists records twice: {few(twice, 10)}")

    def shares(self) -> dict[str, float]:
        """Return the fraction of each part.

        Raises
        ------
        SplitError
            If they can't be read, or don't add up to 1.
        """
        given: Any = self.fractions
        if is_real(given):
            given = (float(given), 1 - float(given))
        names = {2: (TRAIN, TEST), 3: (TRAIN, VALIDATION, TEST)}
        if (
            not isinstance(given, list | tuple)
            or len(given) not in names
            or not all(is_real(share) and share > 0 for share in given)
            or abs(sum(given) - 1) > 1e-9
        ):
            raise SplitError(
                f"split={self.fractions!r} must be the training fraction, (train, test) or (train, "
                "validation, test), all above 0 and adding up to 1"
            )
        return dict(zip(names[len(given)], given, strict=True))

    def by_chance(self) -> str:
        """Return the random version of this split, for advice in messages."""
        divided = self.records is None and self.column is None and self.fractions != OFFICIAL
        fractions = self.fractions if divided else 0.8
        stratified = ", stratified=True" if self.stratified else ""
        return f"split=Split({fractions!r}{stratified}, seed=0)"


@dataclass(frozen=True)
class Parts:
    """The records of each part of a split, as ascending positions in the corpus.

    Attributes
    ----------
    validation
        Empty if the split has no such part.
    """

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]

    def items(self) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """Return the non-empty parts, by name."""
        named = ((TRAIN, self.train), (VALIDATION, self.validation), (TEST, self.test))
        return [(name, rows) for name, rows in named if len(rows)]


def split_records(
    split: Split,
    ids: Sequence[str],
    labels: Sequence[str],
    copies: Sequence[Sequence[str]],
    rows: npt.NDArray[np.int64],
    patients: Sequence[str] | None = None,
) -> Parts:
    """Divide the records at `rows` by a split.

    Parameters
    ----------
    split
        The rule.
    ids, labels
        Ids and labels of the whole corpus, sorted by id.
    copies
        Groups of ids with the same signal.
    rows
        ``(n,)`` positions of the records to divide, ascending.
    patients
        Patient of each record of the whole corpus, '' if unknown; or None.

    Raises
    ------
    SplitError
        If a part stays empty, a listed record doesn't exist, or two records of one patient or two
        copies of one recording are in different parts; a random division avoids the latter.
    """
    by_patient = rows_by_patient(rows, patients)
    place = {ids[row]: int(row) for row in rows}
    equal = [[place[name] for name in group if name in place] for group in copies]
    several = any(SEPARATOR in labels[row] for row in rows)
    if split.stratified and several and split.seed is None:
        raise SplitError(
            "records with several labels can't be divided class by class in order: divide them "
            f"at random, {split.by_chance()}"
        )
    strata = labels if split.stratified else [""] * len(ids)
    if split.records is not None:
        places = _listed_parts(split.records, place)
    else:
        joined = split.seed is not None and (by_patient or (split.stratified and several))
        groups = groups_of(rows.tolist(), [*by_patient.values(), *equal] if joined else [])
        places = divide_groups(groups, strata, split.seed, partial(_counts, split.shares()))
        if split.seed is not None and not joined:
            _gather_copies(places, equal, strata)
    wanted = [TRAIN, TEST] if split.records is not None else split.shares()
    if empty := [name for name in wanted if not places[name]]:
        together = f": the records of each of their {len(by_patient)} patients stay together. Try "
        together += "another seed or other fractions"
        raise SplitError(
            f"{len(rows)} records leave nothing for {' and '.join(empty)}"
            + (together if by_patient else "")
        )
    part_of = {row: name for name, part in places.items() for row in part}
    same = {ids[group[0]]: group for group in equal if group}
    for what, bonds in (("records of one patient", by_patient), ("copies", same)):
        torn = [
            f"{name}: {_by_part(bond, part_of, ids)}"
            for name, bond in bonds.items()
            if len({part_of[row] for row in bond}) > 1
        ]
        if torn:
            raise SplitError(
                f"{what} are in two parts of the split: {few(torn, 10, '; ')}. Keep them in one "
                f"part, or divide at random, which does so: {split.by_chance()}"
            )
    return Parts(
        *(np.array(sorted(places[name]), dtype=np.int64) for name in (TRAIN, VALIDATION, TEST))
    )


def _several(values: str | int | Sequence[str | int]) -> tuple[str | int, ...]:
    return (values,) if isinstance(values, str | int) else tuple(values)


def _by_part(rows: Sequence[int], part_of: Mapping[int, str], ids: Sequence[str]) -> str:
    """List some records by their parts: ``A1, A2 (test) and A3 (train)``."""
    names: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        names[part_of[row]].append(ids[row])
    return " and ".join(f"{few(listed, 3)} ({part})" for part, listed in names.items())


def spread(n_records: int, limit: int | None) -> npt.NDArray[np.int64]:
    """Choose at most `limit` evenly spaced records: ``(n,)`` ascending positions."""
    if limit is None or limit >= n_records:
        return np.arange(n_records, dtype=np.int64)
    return np.arange(limit, dtype=np.int64) * n_records // limit


def _listed_parts(
    records: Mapping[str, Sequence[str]], place: Mapping[str, int]
) -> dict[str, list[int]]:
    missing = [name for part in records.values() for name in part if name not in place]
    if missing:
        raise SplitError(
            f"the split lists records that the corpus doesn't have (or that were left out): "
            f"{few(missing, 10)}"
        )
    parts = {part: [place[name] for name in names] for part, names in records.items()}
    taken = {row for rows in parts.values() for row in rows}
    parts[TRAIN] = [row for row in place.values() if row not in taken]
    return defaultdict(list, parts)


def _gather_copies(
    parts: dict[str, list[int]], equal: Sequence[Sequence[int]], strata: Sequence[str]
) -> None:
    """Move copies to the part of the one that is first by stratum, then by part."""
    order = [TEST, VALIDATION, TRAIN]
    part_of = {row: name for name, rows in parts.items() for row in rows}
    for group in filter(None, equal):
        first = min(group, key=lambda row: (strata[row], order.index(part_of[row])))
        for row in group:
            if part_of[row] != part_of[first]:
                parts[part_of[row]].remove(row)
                parts[part_of[first]].append(row)


def _counts(shares: Mapping[str, float], n_records: int) -> dict[str, int]:
    """Return how many records each part gets, in the order in which the parts are filled."""
    n_train = round(shares[TRAIN] * n_records)
    n_validation = round(shares.get(VALIDATION, 0.0) * n_records)
    n_test = n_records - n_train - n_validation
    return {TEST: n_test, VALIDATION: n_validation, TRAIN: n_train}
