from __future__ import annotations

import functools

import pytest

from ecg_mlflow import ResNet
from ecg_mlflow.errors import ModelError
from ecg_mlflow.models.arguments import builder_name, model_arguments


def net(input_shape, n_classes, width, depth=2, *, layout="cna"):
    """Stand for a model builder."""


def open_net(input_shape, n_classes, **options):
    """Stand for a builder that takes anything."""


@pytest.mark.parametrize(
    ("builder", "given", "options", "mentioned", "taken"),
    [
        (net, {}, {"width": 3}, (), {"width": 3}),
        (net, {"width": 3}, {"layout": "c"}, (), {"layout": "c"}),
        (net, {}, {"width": 3, "lr": 1}, ("lr",), {"width": 3}),
        (net, {}, {"width": 3, "depth": 1}, ("depth",), {"width": 3, "depth": 1}),
        (functools.partial(net, width=1), {}, {}, (), {}),
        (open_net, {"a": 1}, {"b": 2, "lr": 1}, ("lr",), {"b": 2}),
        (ResNet, {"blocks": 1, "filters": 1, "layout": "c", "input_filters": 1}, {}, (), {}),
    ],
)
def test_options_reach_the_builder_by_name(builder, given, options, mentioned, taken):
    assert model_arguments(builder, given, options, frozenset(mentioned)) == taken


@pytest.mark.parametrize(
    ("builder", "given", "options", "message"),
    [
        (net, {}, {}, "net needs a value for 'width': add an option"),
        (ResNet, {"blocks": [1]}, {"filters": [1]}, "ResNet needs a value for 'layout', 'input_fi"),
        (net, {"width": 1, "kernel": 3}, {}, "has 'kernel', but net takes 'width', 'depth', 'lay"),
        (net, {"width": 1}, {"width": 2}, "'width' is given twice"),
        (open_net, {"a": 1}, {"a": 2}, "'a' is given twice"),
        ("ResNet18", {}, {}, "model='ResNet18' must be a function"),
        (dict, {}, {}, "wrap it in a function"),
    ],
)
def test_arguments_that_do_not_fit(builder, given, options, message):
    with pytest.raises(ModelError, match=message):
        model_arguments(builder, given, options, frozenset())


def test_a_partial_has_the_name_of_its_function():
    assert builder_name(functools.partial(net, width=1)) == "net"
    assert builder_name(ResNet) == "ResNet"
