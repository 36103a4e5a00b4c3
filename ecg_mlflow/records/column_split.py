"""Turn a split by a column of the label table, or the official one, into a list of records."""

from __future__ import annotations

from collections.abc import Iterable

from ecg_mlflow.errors import SplitError, few
from ecg_mlflow.records.catalogue import asked_for
from ecg_mlflow.records.corpus import Corpus
from ecg_mlflow.records.named_sets import data_sets, named
from ecg_mlflow.records.sources import load_groups
from ecg_mlflow.records.splits import OFFICIAL, TEST, VALIDATION, Split


def list_records(split: Split, corpus: Corpus, rows: Iterable[int]) -> Split:
    """Return a split that lists its records, for one by a column; any other as it is.

    Parameters
    ----------
    split
        The rule.
    corpus
        The records; their label table is read again.
    rows
        Positions of the records to divide.

    Raises
    ------
    SplitError
        If the data set has no official split, the table lacks the column, or a record has no value
        there, or no record one of the test part.
    """
    data = asked_for(corpus.source)
    if split.fractions == OFFICIAL:
        asked = named(data)
        fold = asked.data_set.fold if asked else None
        if fold is None:
            known = [name for name, one in data_sets().items() if one.fold]
            raise SplitError(
                f"split={OFFICIAL!r}: {data} has no official split that is known; data sets with "
                f"one are {', '.join(known)}. Name a column, Split(column=..., test=...)"
            )
        split = Split(column=fold.column, test=fold.test, validation=fold.validation)
    if split.column is None:
        return split
    groups = load_groups(data, corpus.provenance.labels)
    if split.column not in groups:
        raise SplitError(
            f"{split}: the labels have no such column; they have {few(groups, 20) or 'no others'}"
        )
    # Stretches of a record, such as ``A1#00250``, have its value.
    values = groups[split.column]
    names = [corpus.ids[row] for row in rows]
    value_of = {name: values.get(name.partition("#")[0], "") for name in names}
    if without := [name for name in names if not value_of[name]]:
        raise SplitError(f"{split}: no value for {few(without, 10)}")
    parts = {
        part: [name for name in names if _text(value_of[name]) in {*map(_text, wanted)}]
        for part, wanted in ((TEST, split.test_values), (VALIDATION, split.validation_values))
    }
    if not parts[TEST]:
        raise SplitError(
            f"{split}: no record; the values are {few(sorted(set(value_of.values())), 20)}"
        )
    return Split(records={part: listed for part, listed in parts.items() if listed})


def _text(value: object) -> str:
    """Return a value as text, in which ``10.0`` is 10."""
    return str(value).removesuffix(".0")
