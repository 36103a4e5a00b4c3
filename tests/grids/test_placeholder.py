from __future__ import annotations

import copy
import functools
import operator
import pickle
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest

from ecg_mlflow.errors import GridError, ResearchError
from ecg_mlflow.grids import C, ConfigAlias, references, resolve

X = C("x")


@dataclass(frozen=True)
class Split:
    length: object
    step: object = 1
    double: object = field(init=False, default=None)

    def __post_init__(self):
        object.__setattr__(self, "double", [self.length, self.length])


class Window(NamedTuple):
    length: object
    step: object


class CheckedWindow(Window):
    def __new__(cls, length, step):
        if length == 0:
            raise GridError("no length")
        return super().__new__(cls, length, step)


def call(*args, **kwargs):
    return args, kwargs


@pytest.mark.parametrize(
    ("obj", "names", "resolved"),
    [
        (C("x"), {"x"}, 1),
        ([C("x"), 5], {"x"}, [1, 5]),
        ((C("x"), [C("y")]), {"x", "y"}, (1, [[2, 2]])),
        ({"a": C("y"), C("x"): 5}, {"x", "y"}, {"a": [2, 2], 1: 5}),
        (Window(C("x"), 5), {"x"}, Window(1, 5)),
        (Split(C("x")), {"x"}, Split(1)),
        (Split(5, {"AF": [C("x")]}), {"x"}, Split(5, {"AF": [1]})),
    ],
)
def test_placeholders_are_found_and_replaced(obj, names, resolved):
    assert references(obj) == names
    assert resolve(obj, {"x": 1, "y": [2, 2]}) == resolved
    assert type(resolve(obj, {"x": 1, "y": [2, 2]})) is type(resolved)


def test_a_named_tuple_checks_its_values_itself():
    with pytest.raises(GridError, match="no length"):
        resolve(CheckedWindow(C("x"), 1), {"x": 0})


def test_partials_are_resolved_and_derived_fields_follow():
    assert resolve(Split(C("x")), {"x": 7}).double == [7, 7]
    waiting = functools.partial(call, C("x"), [C("y")], step=C("z"))
    assert references(waiting) == {"x", "y", "z"}
    assert resolve(waiting, {"x": 1, "y": 2, "z": 3})() == ((1, [2]), {"step": 3})


@pytest.mark.parametrize(
    "obj",
    [None, 3, "x", [1, (2, {"a": 3})], Split(3), functools.partial(call, 1), call, Split],
)
def test_without_placeholders_the_object_itself_comes_back(obj):
    assert references(obj) == frozenset()
    assert resolve(obj, {"x": 1}) is obj


def test_only_what_changes_is_copied():
    kept, changed = [1, 2], [X]
    result = resolve([kept, changed], {"x": 3})
    assert result == [[1, 2], [3]]
    assert result[0] is kept
    assert changed == [X]


def test_a_configuration_can_give_the_values_which_are_not_searched():
    assert resolve([X], ConfigAlias({"x": [2, 2]})) == [[2, 2]]
    assert resolve(X, {"x": [C("y")]}) == [C("y")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 1, "blocks": 2}, r"'filters', 'blocks'; did you mean C\('filters'\)\?"),
        ({"lr": 1}, "Its options: 'lr'; add the option"),
        ({}, "Its options: none; add the option"),
    ],
)
def test_a_placeholder_without_an_option_is_an_error(options, message):
    with pytest.raises(ResearchError, match=rf"C\('filtrs'\) has no value.*{message}"):
        resolve({"a": [C("filtrs")]}, options)


@pytest.mark.parametrize(
    "misuse",
    [
        *(str, format, bool, int, float, abs, round, range, list, operator.neg),
        lambda x: f"filters={x:>5}",
        lambda x: "%s" % x,  # noqa: UP031
        lambda x: x[0],
        lambda x: np.ones(3) * x,
        *(
            functools.partial(lambda operate, swap, x: operate(*((x, 2), (2, x))[swap]), one, swap)
            for one in (
                *(operator.add, operator.sub, operator.mul, operator.matmul, operator.truediv),
                *(operator.floordiv, operator.mod, operator.pow, operator.and_, operator.or_),
                *(operator.xor, operator.lt, operator.le, operator.gt, operator.ge),
            )
            for swap in (False, True)
        ),
    ],
)
def test_computing_with_a_placeholder_fails(misuse):
    with pytest.raises(GridError, match=r"C\('x'\) was used in an expression"):
        misuse(X)


def test_a_placeholder_is_a_value():
    assert repr([X]) == "[C('x')]"
    assert pickle.loads(pickle.dumps(X)) == copy.deepcopy(X) == C("x") == X
    assert C("y") != X
    assert X != "x"
    assert {X: 1}[C("x")] == 1


@pytest.mark.parametrize("name", ["", None, 3, C("x")])
def test_a_placeholder_takes_a_name(name):
    with pytest.raises(GridError, match="takes an option's name"):
        C(name)
