"""Splits by a column of the label table, and the official ones of public data sets."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import SplitError
from ecg_mlflow.records import load_corpus
from ecg_mlflow.records.column_split import list_records
from ecg_mlflow.records.sources import load_groups
from ecg_mlflow.records.splits import Split, split_records


@pytest.fixture
def folded(tmp_path, write_record):
    """Six records of three patients in three folds."""
    lines = ["record,label,patient,fold\n"]
    for i, fold in enumerate(("1", "1", "2", "2", "3", "3")):
        write_record(tmp_path, f"R{i}")
        lines.append(f"R{i},A,P{i // 2},{fold}\n")
    (tmp_path / "REFERENCE.csv").write_text("".join(lines))
    return tmp_path


def parts_of(split, corpus, rows=None):
    rows = np.arange(len(corpus)) if rows is None else np.asarray(rows)
    listed = list_records(split, corpus, rows)
    parts = split_records(listed, corpus.ids, corpus.labels, corpus.copies, rows, corpus.patients)
    return {name: [corpus.ids[row] for row in found] for name, found in parts.items()}


@pytest.mark.parametrize(
    "values", [{"test": 3, "validation": [2]}, {"test": "3", "validation": "2.0"}]
)
def test_the_values_of_a_column_are_parts(folded, values):
    parts = parts_of(Split(column="fold", **values), load_corpus(str(folded)))
    assert parts == {"train": ["R0", "R1"], "validation": ["R2", "R3"], "test": ["R4", "R5"]}


def test_only_the_records_that_are_divided_count(folded):
    parts = parts_of(Split(column="fold", test=[2, 3]), load_corpus(str(folded)), [0, 2, 5])
    assert parts == {"train": ["R0"], "test": ["R2", "R5"]}


def test_stretches_between_gaps_have_the_value_of_their_record(folded, write_record):
    write_record(
        folded, "R4", np.r_[np.full(600, 0.1), np.full(100, -32.768), np.full(700, 0.2)][:, None]
    )
    corpus = load_corpus(str(folded), gaps="avoid:1")
    assert corpus.ids[4:] == ("R4#0000", "R4#0700", "R5")
    assert parts_of(Split(column="fold", test=3), corpus)["test"] == [*corpus.ids[4:]]


def test_a_column_that_separates_patients_or_leaves_records_out_is_refused(folded):
    labels = folded / "REFERENCE.csv"
    text = labels.read_text()
    labels.write_text(text.replace("R5,A,P2,3", "R5,A,P2,1"))
    with pytest.raises(SplitError, match=r"records of one patient .* R4 \(test\) and R5 \(train\)"):
        parts_of(Split(column="fold", test=3), load_corpus(str(folded)))
    labels.write_text(text.replace("R5,A,P2,3", "R5,A,P2,"))
    with pytest.raises(SplitError, match="by column fold: test 3: no value for R5"):
        parts_of(Split(column="fold", test=3), load_corpus(str(folded)))


def test_columns_and_values_that_are_not_there(folded):
    corpus = load_corpus(str(folded))
    with pytest.raises(
        SplitError, match=r"by column site: test 1: .* no such column; they have fold"
    ):
        parts_of(Split(column="site", test=1), corpus)
    with pytest.raises(
        SplitError, match="test 10, validation 9: no record; the values are 1, 2, 3"
    ):
        parts_of(Split(column="fold", test=10, validation=9), corpus)
    with pytest.raises(SplitError, match=r"has no official split .* with one are .*ptbxl.* column"):
        parts_of(Split("official"), corpus)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (lambda: Split(column="fold"), "name a column and its values in the test part"),
        (lambda: Split(test=3), "column=None, test=3"),
        (lambda: Split(column="fold", test=3, validation=["3"]), "and others for validation"),
        (lambda: Split(column="fold", test=3, seed=0), "a split by a column takes no stratified"),
        (lambda: Split("official", stratified=True), "the official split takes no stratified"),
        (lambda: Split("offcial"), "split='offcial' must be the training fraction"),
    ],
)
def test_rules_that_say_too_little_or_too_much(split, message):
    with pytest.raises(SplitError, match=message):
        split()


def test_the_official_split_of_ptbxl(ptbxl):
    corpus = load_corpus(f"ptbxl:all@{ptbxl}")
    parts = parts_of(Split("official"), corpus)
    fold_of = load_groups(f"ptbxl:all@{ptbxl}")["strat_fold"]
    folds = {part: {fold_of[name] for name in names} for part, names in parts.items()}
    assert folds == {"train": set("12345678"), "validation": {"9"}, "test": {"10"}}
    assert sum(map(len, parts.values())) == len(corpus) == 120
