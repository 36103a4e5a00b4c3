from __future__ import annotations

from collections import Counter

import pytest

from ecg_mlflow.records.grouping import divide_groups, groups_of


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


@pytest.mark.parametrize("seed", range(6))
def test_a_border_inside_a_group_goes_to_its_nearer_end(seed):
    # The border lies after 2 of 8 records; the first group ends after 5 or after 3.
    parts = divide_groups([[0, 1, 2, 3, 4], [5, 6, 7]], [""] * 8, seed, quarter)
    assert {name: sorted(rows) for name, rows in parts.items()} in (
        {"test": [5, 6, 7], "train": [0, 1, 2, 3, 4]},
        {"train": list(range(8))},
    )


def test_of_equally_near_ends_the_later_leaves_no_part_empty():
    parts = divide_groups([[0, 1], [2, 3]], [""] * 4, 0, quarter)
    assert len(parts["test"]) == 2


@pytest.mark.parametrize("seed", range(10))
def test_a_frequent_class_makes_up_for_what_a_rare_one_has_brought(seed):
    # Four patients with an A: one of them has nine N, the others one each; 36 more N alone.
    groups = [list(range(10)), [10, 11], [12, 13], [14, 15], *([row] for row in range(16, 52))]
    strata = ["A" if row in (0, 10, 12, 14) else "N" for row in range(52)]
    parts = divide_groups(groups, strata, seed, quarter)
    assert Counter(strata[row] for row in parts["test"]) == {"A": 1, "N": 12}


@pytest.mark.parametrize("seed", range(10))
def test_what_one_part_has_too_much_the_others_lack_alike(seed):
    # Four patients with an A: one of them has twenty N; eight more N alone.
    groups = [list(range(21)), [21], [22], [23], *([row] for row in range(24, 32))]
    strata = ["A" if row in (0, 21, 22, 23) else "N" for row in range(32)]
    parts = divide_groups(
        groups, strata, seed, lambda n: {"a": n // 4, "b": n // 4, "c": n - n // 4 * 2}
    )
    counts = {name: sum(strata[row] == "N" for row in parts[name]) for name in "abc"}
    # Of 28, 7 in a, 7 in b and 14 in c were wanted.
    assert counts in (
        {"a": 20, "b": 3, "c": 5},
        {"a": 3, "b": 20, "c": 5},
        {"a": 4, "b": 4, "c": 20},
    )


def test_a_class_that_came_with_others_needs_no_turn_of_its_own():
    parts = divide_groups(
        [[0, 1, 2], [3, 4, 5]], ["A", "N", "N"] * 2, 0, lambda n: {"a": n // 2, "b": n // 2}
    )
    assert sorted(map(len, parts.values())) == [3, 3]


@pytest.mark.parametrize("seed", range(10))
def test_a_record_counts_for_each_of_its_labels(seed):
    # 40 AF, of which 8 are RBBB too, 8 RBBB alone, 52 of neither.
    labels = ["AF"] * 32 + ["AF,RBBB"] * 8 + ["RBBB"] * 8 + [""] * 52
    parts = divide_groups([[row] for row in range(100)], labels, seed, quarter)
    found = Counter(one for row in parts["test"] for one in labels[row].split(","))
    assert found["RBBB"] == 4
    assert found["AF"] == 10
    assert abs(len(parts["test"]) - 25) <= 2
