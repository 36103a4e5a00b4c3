"""A value with its alias, and a configuration of such values."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids import KV, C, ConfigAlias, Uniform


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
        (True, "True"),
        ("read at 0xdeadbeef", "read at 0xdeadbeef"),
        (np.float64(0.5), "0.5"),
        (np.array([1, 2]), "[1 2]"),
    ],
)
def test_default_alias(value, alias):
    assert KV(value).alias == alias
    assert KV([value], "own").alias == "own"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([ResNet18],), r"memory address.*write KV\(value, 'alias'\)"),
        ((functools.partial(ResNet18),), "memory address"),
        (({1, 2}, "alias"), "write a sorted list"),
        ((iter([1]), "alias"), "write a list"),
        ((object(), "alias"), "frozen dataclass, a function or a plain value"),
        ((1, ""), "must be a non-empty string"),
        ((1, 3), "must be a non-empty string"),
        (("",), "must be a non-empty string"),
        (([C("filters")],), r"\[C\('filters'\)\] holds C\('filters'\).*\.product\(a, b\)$"),
        (
            ({"lr": (1, Uniform(0, 2))}, "alias"),
            r"^Uniform\(0\.0, 2\.0\) is a range.*Option\('lr', Uniform\(0\.0, 2\.0\)\)$",
        ),
        ((KV(1, "one"), "uno"), "has an alias already"),
    ],
)
def test_what_is_no_value_is_refused(arguments, message):
    with pytest.raises(GridError, match=message):
        KV(*arguments)


def test_values_are_equal_by_value_and_alias():
    assert KV(1, "one") == KV(1.0, "one")
    assert hash(KV([1, 2])) == hash(KV((1, 2), "[1, 2]"))
    assert pickle.loads(pickle.dumps(KV([2, 2], "two"))) == KV([2, 2], "two")
    for other in (KV(1.0), KV(1, "one"), KV(2), 1):
        assert KV(1) != other


def test_later_changes_of_a_list_do_not_reach_the_value():
    blocks = [[1, 2], {"filters": [4]}, np.zeros(2), ([5],)]
    kv = KV(blocks, "blocks")
    blocks[0].append(3)
    blocks[1]["filters"].append(8)
    blocks[2][0] = 1
    blocks[3][0].append(6)
    assert kv.value[:2] == [[1, 2], {"filters": [4]}]
    assert kv.value[2].tolist() == [0, 0]
    assert kv.value[3] == ([5],)


@pytest.fixture
def config():
    return ConfigAlias({"p2": KV([2, 2], "two"), "p1": 1.0})


def test_a_configuration_is_a_mapping(config):
    assert config.config() == dict(config) == {"p2": [2, 2], "p1": 1.0}
    assert config.alias() == {"p2": "two", "p1": "1.0"}
    assert config.alias(as_string=True) == "p1_1.0-p2_two"
    assert repr(config) == "ConfigAlias({'p2': 'two', 'p1': '1.0'})"
    assert (list(config), len(config), config.get("p3")) == (["p2", "p1"], 2, None)
    with pytest.raises(GridError, match="sorted list"):
        ConfigAlias({"classes": {"A", "N"}})


def test_configurations_are_equal_by_value_whatever_the_alias_and_order(config):
    same = ConfigAlias({"p1": KV(1, "one"), "p2": (2, 2)})
    assert config == same
    assert (hash(config), config.digest) == (hash(same), same.digest)
    copy = pickle.loads(pickle.dumps(config))
    assert (copy, copy.alias()) == (config, config.alias())
    for values in ({"p1": 1.0}, {"p1": 1.0, "p3": [2, 2]}, {"p1": True, "p2": [2, 2]}):
        assert config != ConfigAlias(values)
    assert config != dict(config)


def test_what_a_model_does_to_its_arguments_stays_with_the_model(config):
    config.config()["p2"].append(9)
    config["p2"].append(9)
    config.config()["p3"] = None
    assert config.config() == {"p2": [2, 2], "p1": 1.0}


def test_digest_is_pinned():
    # Stored runs are found by it: a change of the canonical form must raise its VERSION.
    assert ConfigAlias({"layout": "cna", "blocks": [2, 2]}).digest == (
        "7b27623d604b1c3b9e2646cf7c7af4e345e7ff5d6696ee5cbdbbc33d4b9f2794"
    )
