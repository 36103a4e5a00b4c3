from __future__ import annotations

import re
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from ecg_mlflow.errors import SplitError
from ecg_mlflow.records import load_corpus, read_record
from ecg_mlflow.records.grouping import divide_groups, groups_of, patients_note
from ecg_mlflow.records.splits import Split, split_records, spread

THREE = (0.7, 0.1, 0.2)
#: Twelve recordings of five patients and two of unknown ones, in the order of their names.
PATIENTS = ["P1", "P1", "P1", "P2", "P2", "", "P3", "P3", "P3", "P4", "P5", ""]
LABELS = ["N", "N", "A", "N", "N", "N", "A", "A", "A", "N", "A", "A"]
TWENTY = ["N", "A", "N", "N"] * 5


def names(*rows):
    return [f"A{row:02d}" for row in rows]


def divide(split, labels=TWENTY, patients=None, copies=(), rows=None):
    """Divide records A00, A01, ...; return the positions in each part, by its name."""
    ids = names(*range(len(labels)))
    rows = np.arange(len(ids)) if rows is None else np.asarray(rows)
    parts = split_records(split, ids, labels, [names(*group) for group in copies], rows, patients)
    return {name: part.tolist() for name, part in parts.items()}


@pytest.mark.parametrize(
    ("split", "rows", "test", "validation"),
    [
        (Split(0.8), range(20), [0, 1, 2, 3], []),
        (Split((0.8, 0.2)), range(20), [0, 1, 2, 3], []),
        (Split((0.5, 0.3, 0.2)), range(20), [0, 1, 2, 3], [4, 5, 6, 7, 8, 9]),
        (Split(0.5), [1, 5, 6, 9], [1, 5], []),
        (Split(0.5, True), range(12), [0, 1, 2, 3, 4, 6], []),
        (Split(0.5, True), [1, 2, 5, 6, 8], [1, 2], []),
        (Split(records={"test": ["A03", "A01"], "validation": ["A00"]}), range(20), [1, 3], [0]),
    ],
)
def test_records_in_order_or_by_name(split, rows, test, validation):
    parts = divide(split, rows=rows)
    assert (parts["test"], parts.get("validation", [])) == (test, validation)
    assert parts["train"] == [row for row in rows if row not in test + validation]


@pytest.mark.parametrize("patients", [None, [""] * 20, [f"P{i}" for i in range(20)]])
@pytest.mark.parametrize(
    ("split", "copies", "test", "validation"),
    [
        (Split(THREE, seed=1), (), [3, 8, 12, 14], [10, 11]),
        (Split(THREE, stratified=True, seed=1), (), [0, 4, 5, 11], [6, 19]),
        (
            Split((0.5, 0.2, 0.3), stratified=True, seed=3),
            [(0, 9, 17), (3, 4)],
            [0, 1, 3, 4, 6, 9, 10, 17],
            [2, 15, 18],
        ),
        (
            Split((0.5, 0.2, 0.3), stratified=True, seed=0),
            [(0, 5), (2, 13, 16)],
            [1, 2, 7, 11, 13, 15, 16, 18],
            [6, 17],
        ),
    ],
)
def test_without_patients_chance_divides_as_it_always_did(
    split, copies, test, validation, patients
):
    # The parts go into every run's identity: other ones would orphan the runs of earlier studies.
    if copies and patients:
        patients = [""] * 20  # copies bind patients first
    parts = divide(split, copies=copies, patients=patients)
    assert (parts["test"], parts["validation"]) == (test, validation)
    assert sorted(row for part in parts.values() for row in part) == list(range(20))


def test_records_that_were_left_out_bind_nobody():
    rows = [row for row in range(12) if row != 10]
    split = Split(0.6, seed=3)
    bound = divide(split, LABELS, PATIENTS, [(0, 10)], rows)
    assert bound == divide(split, LABELS, PATIENTS, rows=rows)
    assert divide(Split(0.5), copies=[(1, 7)], rows=[1, 2])["test"] == [1]
    assert divide(Split(0.5), LABELS, PATIENTS, rows=[2, 3]) == {"test": [2], "train": [3]}


BY_NAME = Split(records={"test": ["A00", "A03", "A04"], "validation": ["A02"]})


def test_whole_patients_may_be_divided_in_order_or_by_name():
    parts = divide(Split(0.8), ["N"] * 10, ["P1"] * 2 + ["P2"] * 8)
    assert parts == {"test": [0, 1], "train": list(range(2, 10))}
    split = Split(records={"test": ["A03", "A04", "A05"], "validation": ["A10"]})
    parts = divide(split, LABELS, PATIENTS)
    assert (parts["test"], parts["validation"]) == ([3, 4, 5], [10])
    made = split_records(split, names(*range(12)), LABELS, (), np.arange(12), PATIENTS)
    assert patients_note(made, PATIENTS) == (
        "all records of a patient are in one part of the split; patients: train 3, "
        "validation 1, test 1; 2 of 12 records have no patient and are divided one by one"
    )
    everyone = [patient or "P6" for patient in PATIENTS[:6]] + ["P7"] * 6
    assert "have no patient" not in str(patients_note(made, everyone))
    assert patients_note(made, None) is patients_note(made, [""] * 12) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *[
            ({"fractions": fractions}, "must be the training fraction.* above 0 and adding up to 1")
            for fractions in (
                *(1.0, 0, (0.5, 0.6), (0.5, 0.5, 0.0), (1.0,), "0.8", ("a", "b")),
                *(float("nan"), True, (True, 0.0)),
            )
        ],
        ({"seed": -1}, "seed=-1"),
        ({"seed": 0.5}, "seed=0.5"),
        ({"stratified": "N"}, "stratified='N'"),
        *[
            ({"records": records}, "must list the test records")
            for records in (
                *({}, {"test": []}, {"train": ["A00"], "test": ["A01"]}),
                *({"test": "A00"}, {"validation": ["A00"]}, ["A00"]),
            )
        ],
        ({"records": {"test": ["A01"], "validation": ["A01"]}}, "twice: A01"),
        ({"records": {"test": ["A01"]}, "seed": 0}, "takes no stratified and no seed"),
    ],
)
def test_rules_that_make_no_sense(arguments, message):
    with pytest.raises(SplitError, match=message):
        Split(**arguments)


@pytest.mark.parametrize(
    ("split", "arguments", "message"),
    [
        (Split(0.9), {"rows": [0, 1]}, "2 records leave nothing for test"),
        (BY_NAME, {"rows": [0, 2, 3, 4]}, "leave nothing for train"),
        (Split(THREE, seed=0), {"patients": ["P1"] * 20}, "20 records .*their 1 patients stay"),
        (BY_NAME, {"rows": [0, 1]}, "doesn't have .*A03, A04, A02"),
        (Split(0.5, True), {"labels": ["A,B", "A"]}, r"several .*stratified=True, seed=0\)"),
        # Records that belong together are in two parts, and named.
        (
            Split(0.8),
            {"copies": [(1, 7), (8, 9)]},
            r"^copies .*: A01: A01 .test. and A07 .train.\. Keep",
        ),
        (
            Split((0.5, 0.3, 0.2), True),
            {"copies": [(0, 19)]},
            r"Split.*0.2\), stratified=True, seed=0\)",
        ),
        (
            BY_NAME,
            {"copies": [(0, 2)]},
            r"A00 .test. and A02 .validation.\. Keep .*Split\(0.8, seed=0\)",
        ),
        (
            Split(0.8),
            {"patients": [*"XXXYYYY", *[""] * 13]},
            r"^records .*: Y: A03 .test. and A04, A05, A06 .train.\. ",
        ),
        (
            BY_NAME,
            {"patients": [*PATIENTS, *[""] * 8]},
            r": P1: A00 .test. and A01 .train. and A02 .validation.\. ",
        ),
        (
            Split(0.5),
            {"labels": ["N"] * 150, "patients": [*"ABCDEFGHIJKLMNO"] * 10},
            r"A00, A15, A30 and 2 more .*J: .* and 5 more\. ",
        ),
    ],
)
def test_divisions_that_are_not_possible(split, arguments, message):
    with pytest.raises(SplitError, match=message):
        divide(split, **arguments)


def test_a_split_says_what_it_does():
    assert str(Split(0.75)) == "train 0.75, test 0.25; the first test"
    expected = "train 0.6, validation 0.2, test 0.2; each class by itself, by chance, seed 3"
    assert str(Split((0.6, 0.2, 0.2), seed=3, stratified=True)) == expected
    assert str(Split(records={"test": names(*range(20))})) == "by name: 20 test"


def test_a_limit_spreads_over_all_records():
    assert spread(10, 4).tolist() == [0, 2, 5, 7]
    assert spread(10, None).tolist() == spread(10, 99).tolist() == list(range(10))


@pytest.mark.parametrize(
    ("bonds", "groups"),
    [
        ([[2], []], [[1], [2], [5], [6], [9]]),
        ([[6, 9], [1, 5], [5, 6]], [[1, 5, 6, 9], [2]]),
        ([[9, 6, 5, 2, 1]], [[1, 2, 5, 6, 9]]),
    ],
)
def test_bonds_that_share_a_row_join(bonds, groups):
    assert groups_of([1, 2, 5, 6, 9], bonds) == groups


def quarter(n_records):
    return {"test": n_records // 4, "train": n_records - n_records // 4}


@pytest.mark.parametrize(
    ("groups", "strata", "tests"),
    [
        # The border lies after 2 of 8 records; the first group ends after 5 or after 3.
        ([5, 3], ["N"] * 8, [{}, {"N": 3}]),
        # Of two equally near ends the later leaves no part empty.
        ([2, 2], ["N"] * 4, [{"N": 2}]),
        # A frequent class makes up for what a rare one has brought: four patients have an A, one
        # of them nine N, the others one each; 36 more N alone.
        (
            [10, 2, 2, 2, *[1] * 36],
            ["A" if row in (0, 10, 12, 14) else "N" for row in range(52)],
            [{"A": 1, "N": 12}],
        ),
        # A class that came with others needs no turn of its own.
        ([4] * 4, ["A", "N", "N", "N"] * 4, [{"A": 1, "N": 3}]),
        # A record counts for each of its labels.
        (
            [1] * 100,
            ["AF"] * 32 + ["AF,RBBB"] * 8 + ["RBBB"] * 8 + ["no"] * 52,
            [{"AF": 10, "RBBB": 4, "no": 13}],
        ),
    ],
)
def test_a_quarter_of_groups(groups, strata, tests):
    rows = iter(range(len(strata)))
    groups = [[next(rows) for _ in range(size)] for size in groups]
    for seed in range(10):
        parts = divide_groups(groups, strata, seed, quarter)
        found = Counter(one for row in parts["test"] for one in strata[row].split(","))
        assert found in tests, seed
        assert sorted(row for part in parts.values() for row in part) == list(range(len(strata)))


def test_what_one_part_has_too_much_the_others_lack_alike():
    # Four patients with an A: one of them has twenty N; eight more N alone.
    groups = [list(range(21)), *([row] for row in range(21, 32))]
    strata = ["A" if row in (0, 21, 22, 23) else "N" for row in range(32)]
    for seed in range(10):
        parts = divide_groups(
            groups, strata, seed, lambda n: {"a": n // 4, "b": n // 4, "c": n - n // 4 * 2}
        )
        found = [sum(strata[row] == "N" for row in parts[name]) for name in "abc"]
        # Of 28, 7 in a, 7 in b and 14 in c were wanted.
        assert found in ([20, 3, 5], [3, 20, 5], [4, 4, 20]), seed


@settings(deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 8), st.sampled_from("NAO")), min_size=1, max_size=30),
    mixed=st.booleans(),
    twins=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=3),
    shares=st.sampled_from([0.8, 0.5, (0.6, 0.4), THREE, (0.4, 0.3, 0.3)]),
    stratified=st.booleans(),
    seed=st.integers(0, 100),
)
def test_patients_and_copies_stay_together_and_fractions_hold(
    sizes, mixed, twins, shares, stratified, seed
):
    patients = [f"P{i}" for i, (size, _) in enumerate(sizes) for _ in range(size)]
    labels = [label for size, label in sizes for _ in range(size)]
    copies = [pair for pair in twins if max(pair) < len(labels) and pair[0] != pair[1]]
    if mixed:  # patients with several labels, and some unknown ones
        labels = labels[::2] + labels[1::2]
        patients = ["" if patient.endswith("3") else patient for patient in patients]
    split = Split(shares, stratified, seed)
    try:
        parts = divide(split, labels, patients, copies)
    except SplitError as error:  # few patients may leave a part empty
        if "leave nothing for" not in str(error):
            raise
        reject()
    assert parts == divide(split, labels, patients, copies)
    part_of = {row: name for name, rows in parts.items() for row in rows}
    assert sorted(part_of) == list(range(len(labels)))
    assert all(part_of[first] == part_of[second] for first, second in copies)
    whole = {(patient, part_of[row]) for row, patient in enumerate(patients) if patient}
    assert len(whole) == len({patient for patient, _ in whole})
    if mixed or copies:
        return
    # Patients of one label each: a part differs from its fraction by one patient at most.
    for label in sorted(set(labels)) if stratified else ["any"]:
        total = [row for row in range(len(labels)) if label in ("any", labels[row])]
        largest = max(Counter(patients[row] for row in total).values())
        for name, share in split.shares().items():
            found = len(set(parts[name]) & set(total))
            # Half a record is what rounding to whole records takes.
            assert abs(found - share * len(total)) <= largest + 0.5


def test_test_records_that_train_under_other_names_and_another_gain_are_refused(
    twelve_leads, tmp_path, write_record
):
    """Five of the Challenge's recordings, as somebody else has converted them."""
    shutil.copytree(twelve_leads / "cinc2021", tmp_path / "cinc2021")
    names = {
        f"X{i}": name for i, name in enumerate(("E07500", "HR06009", "JS20004", "E07503", "E07502"))
    }
    for new, old in names.items():
        record = read_record(twelve_leads / "cinc2021" / f"{old}.hea")
        header = write_record(
            tmp_path / "ours", new, record.signal, fs=500, gain=400, baseline=99, leads=record.leads
        )
        with header.open("a") as file:
            file.write("# Dx: 426783006\n")
    corpus = load_corpus(f"{tmp_path}/*/*.hea", "headers")
    rows = np.arange(len(corpus))
    known = (corpus.ids, corpus.labels, corpus.copies, rows)
    with pytest.raises(SplitError, match="copies are in two parts of the split") as error:
        split_records(Split(records={"test": [*names]}), *known)
    for new, old in names.items():
        assert re.search(
            rf"{old} \(train\) and {new} \(test\)|{new} \(test\) and {old}", str(error.value)
        )
    parts = split_records(Split(0.7, seed=0), *known)
    part_of = {corpus.ids[row]: part for part, part_rows in parts.items() for row in part_rows}
    assert all(part_of[new] == part_of[old] for new, old in names.items())
