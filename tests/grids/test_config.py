from __future__ import annotations

import pickle

import pytest

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids import KV, ConfigAlias


@pytest.fixture
def config():
    return ConfigAlias({"p2": KV([2, 2], "two"), "p1": 1.0})


def test_values_and_aliases(config):
    assert config.config() == {"p2": [2, 2], "p1": 1.0}
    assert config.alias() == {"p2": "two", "p1": "1.0"}
    assert config["p1"] == 1.0


def test_alias_as_string_sorts_the_options():
    config = ConfigAlias(
        {
            "model": KV(None, "ResNet18"),
            "layout": "cnacna",
            "blocks": [2, 2, 2, 2],
            "filters": [64, 128, 256, 512],
            "input_filters": 64,
        }
    )
    assert config.alias(as_string=True) == (
        "blocks_[2, 2, 2, 2]-filters_[64, 128, 256, 512]-input_filters_64"
        "-layout_cnacna-model_ResNet18"
    )


def test_is_a_mapping(config):
    assert list(config) == ["p2", "p1"]
    assert len(config) == 2
    assert "p1" in config
    assert dict(config) == config.config()
    assert config.get("p3") is None
    with pytest.raises(KeyError):
        config["p3"]


def test_repr_shows_the_aliases(config):
    assert repr(config) == "ConfigAlias({'p2': 'two', 'p1': '1.0'})"


def test_equal_by_value_whatever_the_alias_and_order(config):
    same = ConfigAlias({"p1": KV(1, "one"), "p2": (2, 2)})
    assert config == same
    assert hash(config) == hash(same)
    assert config.digest == same.digest


@pytest.mark.parametrize(
    "other",
    [
        ConfigAlias({"p1": 1.0}),
        ConfigAlias({"p1": 1.0, "p2": KV([2, 3], "two")}),
        ConfigAlias({"p1": 1.0, "p3": [2, 2]}),
        ConfigAlias({"p1": True, "p2": [2, 2]}),
        {"p1": 1.0, "p2": [2, 2]},
    ],
)
def test_unequal(config, other):
    assert config != other


def test_what_a_model_does_to_its_arguments_stays_with_the_model(config):
    config.config()["p2"].append(9)
    config["p2"].append(9)
    config.config()["p3"] = None
    assert config.config() == {"p2": [2, 2], "p1": 1.0}


def test_values_are_checked():
    with pytest.raises(GridError, match="sorted list"):
        ConfigAlias({"classes": {"A", "N"}})


def test_survives_pickling(config):
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.alias() == config.alias()


def test_digest_is_pinned():
    # Stored runs are found by it: a change of the canonical form must raise its VERSION.
    assert ConfigAlias({"layout": "cna", "blocks": [2, 2]}).digest == (
        "7b27623d604b1c3b9e2646cf7c7af4e345e7ff5d6696ee5cbdbbc33d4b9f2794"
    )
