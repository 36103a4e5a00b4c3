from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids import KV, C


def ResNet18():  # noqa: N802
    """Stands for a model builder."""


class Compiled:
    """Looks like a function compiled by numba."""

    __name__ = "kernel"

    def __init__(self, py_func):
        self.py_func = py_func


@pytest.mark.parametrize(
    ("value", "alias"),
    [
        (ResNet18, "ResNet18"),
        (Compiled(ResNet18), "kernel"),
        (dict, "dict"),
        ([2, 2], "[2, 2]"),
        (None, "None"),
        (1.0, "1.0"),
        (1, "1"),
        (True, "True"),
        ("cna", "cna"),
        ("read at 0xdeadbeef", "read at 0xdeadbeef"),
        (np.float64(0.5), "0.5"),
        (np.array([1, 2]), "[1 2]"),
    ],
)
def test_default_alias(value, alias):
    assert KV(value).alias == alias


def test_explicit_alias_wins():
    kv = KV(ResNet18, "deep")
    assert (kv.value, kv.alias) == (ResNet18, "deep")
    assert KV([ResNet18], "one model").alias == "one model"


@pytest.mark.parametrize(
    "value",
    [[ResNet18], functools.partial(ResNet18), {"model": ResNet18}],
    ids=["list", "partial", "dict"],
)
def test_an_alias_with_a_memory_address_is_refused(value):
    with pytest.raises(GridError, match=r"memory address.*write KV\(value, 'alias'\)"):
        KV(value)


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        ({1, 2}, "write a sorted list"),
        (iter([1]), "write a list"),
        (object(), "frozen dataclass, a function or a plain value"),
    ],
    ids=["set", "iterator", "object"],
)
def test_a_value_without_identity_is_refused(value, instead):
    with pytest.raises(GridError, match=instead):
        KV(value, "alias")


@pytest.mark.parametrize("alias", ["", 3, b"a"])
def test_an_alias_is_a_non_empty_string(alias):
    with pytest.raises(GridError, match="must be a non-empty string"):
        KV(1, alias)


def test_an_empty_string_needs_an_alias():
    with pytest.raises(GridError, match="must be a non-empty string"):
        KV("")
    assert KV("", "none").value == ""


def test_a_placeholder_is_no_value():
    with pytest.raises(GridError, match=r"C\('filters'\).*Option\.product"):
        KV([C("filters")])


def test_aliases_are_given_once():
    with pytest.raises(GridError, match="has an alias already"):
        KV(KV(1, "one"), "uno")


def test_equal_by_value_and_alias():
    assert KV([1, 2]) == KV([1, 2])
    assert hash(KV([1, 2])) == hash(KV([1, 2]))
    assert KV(1, "one") == KV(1.0, "one")
    assert KV(1) != KV(1.0)
    assert KV(1, "one") != KV(2, "one")
    assert KV(1) != 1


def test_later_changes_of_a_list_do_not_reach_the_value():
    blocks = [[1, 2], {"filters": [4]}, np.zeros(2)]
    kv = KV(blocks, "blocks")
    blocks[0].append(3)
    blocks[1]["filters"].append(8)
    blocks[2][0] = 1
    assert kv.value[:2] == [[1, 2], {"filters": [4]}]
    assert kv.value[2].tolist() == [0, 0]


def test_frozen():
    with pytest.raises(AttributeError):
        KV(1).value = 2


def test_survives_pickling():
    assert pickle.loads(pickle.dumps(KV([2, 2], "two"))) == KV([2, 2], "two")
