from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from ecg_mlflow.errors import SplitError
from ecg_mlflow.records.grouping import divide_groups, groups_of, patients_note
from ecg_mlflow.records.splits import Split, split_records


@pytest.mark.parametrize(
    ("bonds", "groups"),
    [
        ([], [[1], [2], [5], [6], [9]]),
        ([[1, 6]], [[1, 6], [2], [5], [9]]),
        ([[6, 9], [1, 5], [5, 6]], [[1, 5, 6, 9], [2]]),
        ([[9, 6, 5, 2, 1]], [[1, 2, 5, 6, 9]]),
        ([[2], []], [[1], [2], [5], [6], [9]]),
    ],
)
def test_bonds_that_share_a_row_join(bonds, groups):
    assert groups_of([1, 2, 5, 6, 9], bonds) == groups


def quarter(n_records):
    return {"test": n_records // 4, "train": n_records - n_records // 4}


def test_a_border_inside_a_group_goes_to_its_nearer_end():
    # The border lies after 2 of 8 records; the first group ends after 5 or after 3.
    for seed in range(6):
        parts = divide_groups([[0, 1, 2, 3, 4], [5, 6, 7]], [""] * 8, seed, quarter)
        assert {name: sorted(rows) for name, rows in parts.items()} in (
            {"test": [5, 6, 7], "train": [0, 1, 2, 3, 4]},
            {"train": list(range(8))},
        ), seed


def test_of_equally_near_ends_the_later_leaves_no_part_empty():
    parts = divide_groups([[0, 1], [2, 3]], [""] * 4, 0, quarter)
    assert len(parts["test"]) == 2


def test_a_frequent_class_makes_up_for_what_a_rare_one_has_brought():
    # Four patients with an A: one of them has nine N, the others one each; 36 more N alone.
    groups = [list(range(10)), [10, 11], [12, 13], [14, 15], *([row] for row in range(16, 52))]
    strata = ["A" if row in (0, 10, 12, 14) else "N" for row in range(52)]
    for seed in range(10):
        parts = divide_groups(groups, strata, seed, quarter)
        assert Counter(strata[row] for row in parts["test"]) == {"A": 1, "N": 12}, seed


def test_what_one_part_has_too_much_the_others_lack_alike():
    # Four patients with an A: one of them has twenty N; eight more N alone.
    groups = [list(range(21)), [21], [22], [23], *([row] for row in range(24, 32))]
    strata = ["A" if row in (0, 21, 22, 23) else "N" for row in range(32)]
    for seed in range(10):
        parts = divide_groups(
            groups, strata, seed, lambda n: {"a": n // 4, "b": n // 4, "c": n - n // 4 * 2}
        )
        counts = {name: sum(strata[row] == "N" for row in parts[name]) for name in "abc"}
        # Of 28, 7 in a, 7 in b and 14 in c were wanted.
        assert counts in (
            {"a": 20, "b": 3, "c": 5},
            {"a": 3, "b": 20, "c": 5},
            {"a": 4, "b": 4, "c": 20},
        ), seed


def test_a_class_that_came_with_others_needs_no_turn_of_its_own():
    parts = divide_groups(
        [[0, 1, 2], [3, 4, 5]], ["A", "N", "N"] * 2, 0, lambda n: {"a": n // 2, "b": n // 2}
    )
    assert sorted(map(len, parts.values())) == [3, 3]


def test_a_record_counts_for_each_of_its_labels():
    # 40 AF, of which 8 are RBBB too, 8 RBBB alone, 52 of neither.
    labels = ["AF"] * 32 + ["AF,RBBB"] * 8 + ["RBBB"] * 8 + [""] * 52
    for seed in range(10):
        parts = divide_groups([[row] for row in range(100)], labels, seed, quarter)
        found = Counter(one for row in parts["test"] for one in labels[row].split(","))
        assert (found["RBBB"], found["AF"]) == (4, 10), seed
        assert abs(len(parts["test"]) - 25) <= 2, seed


#: Twelve recordings of five patients and two of unknown ones, in the order of their names.
PATIENTS = ["P1", "P1", "P1", "P2", "P2", "", "P3", "P3", "P3", "P4", "P5", ""]
IDS = [f"A{i:02d}" for i in range(len(PATIENTS))]
LABELS = ["N", "N", "A", "N", "N", "N", "A", "A", "A", "N", "A", "A"]
THREE = (0.7, 0.1, 0.2)


def divide(split, patients=PATIENTS, labels=None, copies=(), rows=None):
    """Divide records A00, A01, ...; return the positions in each part."""
    n_records = len(patients)
    ids = [f"A{i:02d}" for i in range(n_records)]
    labels = (LABELS if patients is PATIENTS else ["N"] * n_records) if labels is None else labels
    rows = np.arange(n_records) if rows is None else np.asarray(rows)
    parts = split_records(split, ids, labels, copies, rows, patients=patients)
    return {name: part.tolist() for name, part in parts.items()}


def sides_of(parts, patients):
    """Return the parts in which each known patient stands."""
    sides = {}
    for name, rows in parts.items():
        for row in rows:
            if patients[row]:
                sides.setdefault(patients[row], set()).add(name)
    return sides


@pytest.mark.parametrize("stratified", [False, True])
def test_chance_keeps_each_patient_on_one_side(stratified):
    for seed in range(20):
        parts = divide(Split(0.6, seed=seed, stratified=stratified))
        assert all(len(sides) == 1 for sides in sides_of(parts, PATIENTS).values()), seed
        assert sorted(parts["train"] + parts["test"]) == list(range(12))


def test_patients_of_ten_records_are_shared_out_by_records():
    patients = [f"P{i // 10:02d}" for i in range(200)]
    parts = divide(Split(THREE, seed=1), patients)
    assert {name: len(rows) for name, rows in parts.items()} == {
        "train": 140,
        "validation": 20,
        "test": 40,
    }


def test_chance_depends_on_the_seed_alone():
    splits = [divide(Split(0.6, seed=seed)) for seed in (1, 1, 2, 3, 4)]
    assert splits[0] == splits[1]
    assert any(split != splits[0] for split in splits)


def test_patients_of_one_record_each_are_divided_as_records_without_patients():
    for split in (Split(THREE, seed=4), Split(THREE, seed=4, stratified=True)):
        labels = ["N", "A", "N", "O"] * 10
        alone = divide(split, [f"P{i}" for i in range(40)], labels)
        assert alone == divide(split, [""] * 40, labels)


def test_a_copy_binds_its_two_patients_together():
    for seed in range(20):
        parts = divide(Split(0.5, seed=seed), copies=[("A00", "A10"), ("A05", "A11")])
        [side] = [rows for rows in parts.values() if 0 in rows]
        assert {0, 1, 2, 10} <= set(side)
        assert ({5, 11} <= set(side)) or not {5, 11} & set(side)


def test_a_copy_that_was_left_out_binds_nobody():
    rows = [row for row in range(12) if row != 10]
    copies = [("A00", "A10"), ("A10", "A10x")]
    assert divide(Split(0.6, seed=3), copies=copies, rows=rows) == divide(
        Split(0.6, seed=3), rows=rows
    )


def test_each_class_is_shared_out_though_patients_have_several():
    # One record in twenty is A, and only in patients who otherwise have N.
    patients = [f"P{i // 5:03d}" for i in range(1000)]
    labels = ["A" if i % 20 == 0 else "N" for i in range(1000)]
    for seed in range(20):
        parts = divide(Split(THREE, stratified=True, seed=seed), patients, labels)
        counts = {name: Counter(labels[row] for row in rows) for name, rows in parts.items()}
        assert [counts[name]["A"] for name in ("train", "validation", "test")] == [35, 5, 10]
        assert abs(counts["test"]["N"] - 190) <= 4
        assert abs(counts["validation"]["N"] - 95) <= 4


def test_a_border_through_a_patient_names_the_patient_and_the_way_out():
    with pytest.raises(SplitError) as error:
        divide(Split(0.8), ["P1"] * 3 + ["P2"] * 4 + [""] * 13)
    text = str(error.value)
    assert "the records of 1 patient are in two parts" in text
    assert "P2 with A03 (test) and A04, A05, A06 (train)" in text
    assert "P1" not in text
    assert "split=Split(0.8, seed=0)" in text


def test_a_border_between_patients_is_fine():
    parts = divide(Split(0.8), ["P1"] * 2 + ["P2"] * 8)
    assert parts == {"test": [0, 1], "train": list(range(2, 10))}


def test_listed_records_that_tear_a_patient_apart_are_named():
    with pytest.raises(SplitError) as error:
        divide(Split(records={"test": ["A00", "A03", "A04"], "validation": ["A02"]}))
    text = str(error.value)
    assert "P1 with A00 (test) and A01 (train) and A02 (validation)" in text
    assert "P2" not in text
    assert "List whole patients" in text


def test_listed_records_of_whole_patients_are_fine():
    parts = divide(Split(records={"test": ["A03", "A04", "A05"], "validation": ["A10"]}))
    assert (parts["test"], parts["validation"]) == ([3, 4, 5], [10])


def test_of_many_torn_patients_some_are_shown():
    patients = [f"P{i % 15:02d}" for i in range(150)]
    with pytest.raises(SplitError) as error:
        divide(Split(0.5), patients)
    text = str(error.value)
    assert "the records of 15 patients" in text
    assert "A00, A15, A30 and 2 more (test)" in text
    assert "P09" in text
    assert "P10" not in text
    assert "and 5 more patients" in text


def test_a_patient_whose_other_records_were_left_out_is_whole():
    assert divide(Split(0.5), rows=[2, 3]) == {"test": [2], "train": [3]}


def test_too_few_patients_for_all_parts():
    with pytest.raises(SplitError, match=r"20 records leave nothing for .*their 2 patients"):
        divide(Split(THREE, seed=0), ["P1"] * 10 + ["P2"] * 10)


def test_the_note_counts_patients():
    split = Split(records={"test": ["A03", "A04", "A05"], "validation": ["A10"]})
    parts = split_records(split, IDS, LABELS, (), np.arange(12), patients=PATIENTS)
    assert patients_note(parts, PATIENTS) == (
        "all records of a patient are in one part of the split; patients: train 3, "
        "validation 1, test 1; 2 of 12 records have no patient and are divided one by one"
    )
    everyone = [patient or "P6" for patient in PATIENTS[:6]] + ["P7"] * 6
    assert "have no patient" not in str(patients_note(parts, everyone))
    assert patients_note(parts, None) is None
    assert patients_note(parts, [""] * 12) is None


PATIENT = st.sampled_from(["", *(f"P{i}" for i in range(9))])
SHARES = st.sampled_from([0.8, 0.5, (0.6, 0.4), THREE, (0.4, 0.3, 0.3)])


def divide_or_reject(split, patients, labels, copies=()):
    """Divide; turn down the example if a part stays empty, as few patients may leave it."""
    try:
        return divide(split, patients, labels, copies)
    except SplitError as error:
        if "leave nothing for" not in str(error):
            raise
        reject()


@settings(deadline=None)
@given(
    records=st.lists(st.tuples(PATIENT, st.sampled_from("NAO")), min_size=1, max_size=60),
    twins=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=3),
    shares=SHARES,
    stratified=st.booleans(),
    seed=st.integers(0, 100),
)
def test_no_patient_stands_on_two_sides_and_every_record_on_one(
    records, twins, shares, stratified, seed
):
    patients, labels = [patient for patient, _ in records], [label for _, label in records]
    pairs = [pair for pair in twins if max(pair) < len(records) and pair[0] != pair[1]]
    copies = [tuple(f"A{i:02d}" for i in pair) for pair in pairs]
    # With no patient at all the rule for single records divides; it has tests of its own.
    parts = divide_or_reject(
        Split(shares, stratified, seed), [*patients, "P"], [*labels, "N"], copies
    )
    assert sorted(row for rows in parts.values() for row in rows) == list(range(len(records) + 1))
    assert all(len(sides) == 1 for sides in sides_of(parts, [*patients, "P"]).values())
    for first, second in pairs:
        assert [first in rows for rows in parts.values()] == [
            second in rows for rows in parts.values()
        ]


@settings(deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 8), st.sampled_from("NAO")), min_size=1, max_size=30),
    shares=SHARES,
    stratified=st.booleans(),
    seed=st.integers(0, 100),
)
def test_fractions_hold_to_within_one_patients_records(sizes, shares, stratified, seed):
    # Patients of one label each.
    patients = [f"P{i}" for i, (size, _) in enumerate(sizes) for _ in range(size)]
    labels = [label for size, label in sizes for _ in range(size)]
    split = Split(shares, stratified, seed)
    parts = divide_or_reject(split, patients, labels)
    classes = sorted(set(labels)) if stratified else ["any"]
    for label in classes:
        total = [row for row in range(len(labels)) if label in ("any", labels[row])]
        largest = max(Counter(patients[row] for row in total).values())
        for name, share in split.shares().items():
            found = len(set(parts[name]) & set(total))
            # Half a record is what rounding to whole records takes.
            assert abs(found - share * len(total)) <= largest + 0.5
