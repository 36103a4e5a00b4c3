from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import SplitError
from ecg_mlflow.records.splits import Split, split_records, spread

IDS = [f"A{i:02d}" for i in range(20)]
LABELS = ["N", "A", "N", "N"] * 5


def parts_of(split, rows=None, copies=(), ids=IDS, labels=LABELS, patients=None):
    rows = np.arange(len(ids)) if rows is None else np.asarray(rows)
    parts = split_records(split, ids, labels, copies, rows, patients=patients)
    return {name: [ids[row] for row in part] for name, part in parts.items()}


def test_the_first_fifth_of_the_sorted_records_tests():
    assert parts_of(Split(0.8)) == {"train": IDS[4:], "test": IDS[:4]}


def test_two_fractions_say_the_same_as_one():
    assert parts_of(Split((0.8, 0.2))) == parts_of(Split(0.8))


def test_with_three_fractions_validation_comes_between():
    parts = parts_of(Split((0.5, 0.3, 0.2)))
    assert parts == {"test": IDS[:4], "validation": IDS[4:10], "train": IDS[10:]}


@pytest.mark.parametrize("stratified", [False, True])
def test_every_record_stands_in_one_part(stratified):
    for seed in (None, 0, 7):
        parts = parts_of(Split((0.5, 0.3, 0.2), seed=seed, stratified=stratified))
        assert sorted(name for part in parts.values() for name in part) == IDS, seed


def test_only_the_given_rows_are_divided():
    assert parts_of(Split(0.5), rows=[1, 5, 6, 9]) == {
        "test": ["A01", "A05"],
        "train": ["A06", "A09"],
    }


def test_a_stratified_split_divides_each_class_by_itself():
    parts = parts_of(Split(0.8, stratified=True))
    assert [LABELS[IDS.index(name)] for name in parts["test"]].count("A") == 1
    assert len(parts["test"]) == 4


def test_chance_depends_on_the_seed_alone():
    assert parts_of(Split(0.8, seed=1)) == parts_of(Split(0.8, seed=1))
    assert parts_of(Split(0.8, seed=1)) != parts_of(Split(0.8, seed=2))


@pytest.mark.parametrize("patients", [None, [""] * 20])
@pytest.mark.parametrize(
    ("split", "copies", "test", "validation"),
    [
        (Split((0.7, 0.1, 0.2), seed=1), (), [3, 8, 12, 14], [10, 11]),
        (Split((0.7, 0.1, 0.2), stratified=True, seed=1), (), [0, 4, 5, 11], [6, 19]),
        (
            Split((0.5, 0.2, 0.3), stratified=True, seed=3),
            [("A00", "A09", "A17"), ("A03", "A04")],
            [0, 1, 3, 4, 6, 9, 10, 17],
            [2, 15, 18],
        ),
    ],
)
def test_without_patients_chance_divides_as_it_always_did(
    split, copies, test, validation, patients
):
    # The parts go into every run's identity: other ones would orphan the runs of earlier studies.
    parts = parts_of(split, copies=copies, patients=patients)
    assert parts["test"] == [IDS[row] for row in test]
    assert parts["validation"] == [IDS[row] for row in validation]


def test_listed_records_are_taken_by_name():
    split = Split(records={"test": ["A03", "A01"], "validation": ["A00"]})
    parts = parts_of(split)
    assert parts["test"] == ["A01", "A03"]
    assert parts["validation"] == ["A00"]
    assert parts["train"] == ["A02", *IDS[4:]]


@pytest.mark.parametrize("stratified", [False, True])
def test_chance_keeps_copies_together(stratified):
    copies = [("A00", "A09", "A17"), ("A03", "A04")]
    for seed in range(20):
        parts = parts_of(Split(0.5, seed=seed, stratified=stratified), copies=copies)
        for group in copies:
            assert sum(bool(set(group) & set(part)) for part in parts.values()) == 1, seed


def test_copies_on_two_sides_are_named():
    with pytest.raises(SplitError) as error:
        parts_of(Split(0.8), copies=[("A01", "A07"), ("A08", "A09")])
    assert "A01 (test) = A07 (train)" in str(error.value)
    assert "A08" not in str(error.value)
    assert "split=Split(0.8, seed=0)" in str(error.value)


def test_the_advice_keeps_the_users_fractions():
    split = Split((0.5, 0.3, 0.2), stratified=True)
    with pytest.raises(SplitError) as error:
        parts_of(split, copies=[("A00", "A19")])
    assert "split=Split((0.5, 0.3, 0.2), stratified=True, seed=0)" in str(error.value)


def test_a_copy_that_was_left_out_does_not_count():
    assert parts_of(Split(0.5), rows=[1, 2], copies=[("A01", "A07")])["test"] == ["A01"]


def test_copies_that_listed_parts_tear_are_named_too():
    split = Split(records={"test": ["A01"]})
    with pytest.raises(SplitError, match=r"A01 \(test\) = A02 \(train\)"):
        parts_of(split, copies=[("A01", "A02")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fractions": 1.0}, "adding up to 1"),
        ({"fractions": 0}, "adding up to 1"),
        ({"fractions": (0.5, 0.6)}, "adding up to 1"),
        ({"fractions": (0.5, 0.5, 0.0)}, "all above 0"),
        ({"fractions": (1.0,)}, "must be the training fraction"),
        ({"fractions": "0.8"}, "must be the training fraction"),
        ({"fractions": ("a", "b")}, "must be the training fraction"),
        ({"fractions": float("nan")}, "adding up to 1"),
        ({"fractions": True}, "must be the training fraction"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 0.5}, "seed=0.5"),
        ({"stratified": "N"}, "stratified='N'"),
        ({"records": {}}, "must name the records of 'test'"),
        ({"records": {"test": []}}, "must name the records of 'test'"),
        ({"records": {"train": ["A00"], "test": ["A01"]}}, "'train', 'test'"),
        ({"records": {"test": "A00"}}, "lists of names"),
        ({"records": ["A00"]}, "lists of names"),
        ({"records": {"test": ["A01"], "validation": ["A01"]}}, "twice: A01"),
        ({"records": {"test": ["A01"]}, "seed": 0}, "takes no stratified and no seed"),
    ],
)
def test_rules_that_make_no_sense(arguments, message):
    with pytest.raises(SplitError, match=message):
        Split(**arguments)


def test_listed_records_have_to_exist():
    split = Split(records={"test": [f"X{i}" for i in range(12)]})
    with pytest.raises(SplitError, match=r"X0, X1, .*X9 and 2 more"):
        parts_of(split)


def test_no_part_stays_empty():
    with pytest.raises(SplitError, match="2 records leave nothing for test"):
        parts_of(Split(0.9), rows=[0, 1])
    with pytest.raises(SplitError, match="leave nothing for train"):
        parts_of(Split(records={"test": ["A00"]}), rows=[0])


@pytest.mark.parametrize(
    ("split", "text"),
    [
        (Split(0.75), "train 0.75, test 0.25; the first test"),
        (
            Split((0.6, 0.2, 0.2), seed=3, stratified=True),
            "train 0.6, validation 0.2, test 0.2; each class by itself, by chance, seed 3",
        ),
        (Split(records={"test": IDS}), "by name: 20 test"),
    ],
)
def test_a_split_says_what_it_does(split, text):
    assert str(split) == text


def test_a_limit_spreads_over_all_records():
    assert spread(10, 4).tolist() == [0, 2, 5, 7]
    assert spread(10, None).tolist() == list(range(10))
    assert spread(10, 99).tolist() == list(range(10))
