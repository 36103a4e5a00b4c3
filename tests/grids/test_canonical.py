from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import subprocess
import sys
import types
from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import Path

import cloudpickle
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_mlflow.errors import CanonicalError
from ecg_mlflow.grids.canonical import added_field, canonical, digest


@dataclass(frozen=True)
class Split:
    length: int
    step: int = 1
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class Window:
    length: int
    step: int = 1


class Rhythm(Enum):
    NORMAL = "N"
    AF = "A"


class Level(IntEnum):
    ONE = 1


Pair = namedtuple("Pair", "first second")


def scale(signal, factor=2.0, *, offset=0):
    return signal * factor + offset


def shifted(by):
    def shift(signal):
        return signal + by

    return shift


def load(folder, source, name="steps"):
    """Import a module from text, as a grid file is imported."""
    path = folder / f"{name}.py"
    path.write_text(source)
    module = types.ModuleType(name)
    exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    return module


EQUAL = [
    (1, 1.0),
    (1, np.int16(1)),
    (0.5, np.float32(0.5)),
    (0.0, -0.0),
    (10**20, 1e20),
    (True, np.bool_(True)),
    ("cna", np.str_("cna")),
    ([1, [2]], (1, (2.0,))),
    (Pair(1, 2), [1, 2]),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({1: "x"}, {1.0: "x"}),
    (Path("data") / "A00001", "data/A00001"),
    (math.nan, float("nan")),
    (np.arange(3), np.arange(6)[:3]),
    (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
    (np.array([1, 2], "<i4"), np.array([1, 2], ">i4")),
    (Split(3, note="x"), Split(3, note="y")),
    (functools.partial(scale, factor=3), functools.partial(scale, factor=3)),
    (shifted(1), shifted(1)),
    (lambda x: x + 1, lambda x: x + 1),
]

DIFFERENT = [
    (True, 1),
    (None, False),
    (1, "1"),
    (0.1, np.float32(0.1)),
    (math.inf, -math.inf),
    (math.inf, "inf"),
    ("a", b"a"),
    (b"a", b"b"),
    ([1, 2], [2, 1]),
    ([[1], 2], [1, [2]]),
    ([], {}),
    ({"a": 1}, {"a": 2}),
    ({"a": 1}, [["a", 1]]),
    ({1: "x"}, {"1": "x"}),
    ({"dict": [["a", 1]]}, {"a": 1}),
    (range(3), [0, 1, 2]),
    (range(3), range(4)),
    (range(3), range(0, 3, 2)),
    (range(3), range(1, 3)),
    (np.arange(3), [0, 1, 2]),
    (np.arange(3), np.arange(3.0)),
    (np.zeros(4), np.zeros((2, 2))),
    (Rhythm.AF, Rhythm.NORMAL),
    (Rhythm.AF, "A"),
    (Level.ONE, 1),
    (Split(3), Split(4)),
    (Split(3), Window(3)),
    (Split, Window),
    (int, float),
    (len, print),
    (math.sin, np.sin),
    (np.sin, np.cos),
    (math, np),
    (scale, "scale"),
    (functools.partial(scale, factor=3), functools.partial(scale, factor=4)),
    (functools.partial(scale, 3), functools.partial(scale, factor=3)),
    (functools.partial(scale), scale),
    (shifted(1), shifted(2)),
    (lambda x: x.real, lambda x: x.imag),
    (lambda x: x in {1, 2}, lambda x: x in {1, 3}),
    (lambda x: lambda: x, lambda x: lambda: -x),
    (lambda x, y=1: x, lambda x, y=2: x),
    (lambda x, *, y=1: x, lambda x, *, y=2: x),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_values_have_one_digest_of_strict_json(one, other):
    form = canonical(one)
    assert form == canonical(other) == json.loads(json.dumps(form, allow_nan=False))
    assert digest(one) == digest(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_values_have_different_digests(one, other):
    assert digest(one) != digest(other)
    for form in (canonical(one), canonical(other)):
        assert json.loads(json.dumps(form, allow_nan=False)) == form


LOOP: list = [1]
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (LOOP, r"the value\[1\] contains itself"),
        ({"N", "A"}, r"the value is .* of type set.*write a sorted list"),
        ({"classes": [1, {2}]}, r"the value\['classes'\]\[1\] is \{2\}"),
        ({("a", frozenset()): 1}, r"a key of the value\[1\] is frozenset"),
        (Split({3}), r"the value\.length is \{3\}"),
        (functools.partial(scale, factor={3}), r"the partial at the value\[2\]\['factor'\] is"),
        (shifted({3}), r"the closure variable 'by' of .*shifted.* is \{3\}"),
        (iter([1]), "type list_iterator.*write a list"),
        (types.MappingProxyType({}), "type mappingproxy.*write a dict"),
        (bytearray(b"a"), "type bytearray.*write bytes"),
        (object(), "of type object, .*frozen dataclass, a function or a plain value"),
        (1j, "type complex.*plain value"),
        ([].append, "write a Python function that calls it"),
        (np.array([None]), "dtype object.*write a list"),
        (np.datetime64("2017-01-01"), "type numpy.datetime64.*plain value"),
    ],
)
def test_other_values_are_refused_with_advice(value, message):
    with pytest.raises(CanonicalError, match=message):
        canonical(value)


HYPOT = math.hypot


def test_a_function_in_c_of_the_users_is_known_by_its_caller(monkeypatch):
    monkeypatch.delitem(sys.modules, "math")  # which makes it no library's any more
    with pytest.raises(CanonicalError, match=r"built-in function hypot.*a Python function that"):
        canonical(HYPOT)
    assert canonical(lambda x: HYPOT(x, 1)).keys() == {"code"}


STEPS = """
from math import sin, cos
import logging

GAIN = 2
LEADS = ["I", "II"]
log = logging.getLogger("steps")


def helper(x):
    return x + 1


def unused(x):
    return x


def step(x, factor=3):
    log.info("step")
    inner = lambda y: helper(y) * GAIN
    return [inner(x) * factor * sin(x) for _ in LEADS]


class Model:
    depth = 3


def build():
    return Model()


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)
"""


@pytest.mark.parametrize(
    ("function", "old", "new", "changes"),
    [
        ("step", "* factor *", "+ factor *", True),
        ("step", "factor=3", "factor=4", True),
        ("step", "GAIN = 2", "GAIN = 3", True),
        ("step", '"II"', '"V1"', True),
        ("step", "return x + 1", "return x + 2", True),
        ("even", "n != 0 and", "n > 0 and", True),
        ("step", "def unused(x):\n    return x", "def unused(x):\n    return -x", False),
        ("step", 'GAIN = 2\nLEADS = ["I", "II"]', 'LEADS = ["I", "II"]\n\nGAIN = 2.0', False),
        ("step", 'getLogger("steps")', 'getLogger("other")', False),
    ],
)
def test_a_function_changes_with_what_it_is_made_of_alone(tmp_path, function, old, new, changes):
    before = digest(getattr(load(tmp_path, STEPS), function))
    assert STEPS.replace(old, new) != STEPS
    after = digest(getattr(load(tmp_path, STEPS.replace(old, new)), function))
    assert (after != before) == changes


def test_closures_count_by_their_values():
    @functools.wraps(scale)
    def louder(signal):
        return 2 * scale(signal)

    def outer():
        def inner():
            return later

        before = digest(inner)
        later = 1
        return before, digest(inner)

    def make(step):
        def countdown(n):
            return countdown(n - step) if n else 0

        return countdown

    assert digest(louder) != digest(scale)
    before, after = outer()
    assert before != after
    assert outer() == (before, after)
    assert digest(make(1)) == digest(make(1)) != digest(make(2))


def test_a_compiled_function_follows_the_python_function_under_it():
    compiled = numba.njit(scale)
    assert canonical(compiled) == {"wrapped": canonical(scale)}
    assert digest(compiled) != digest(numba.njit(shifted))
    compiled(1.0, 2.0, 0)
    assert digest(compiled) == digest(numba.njit(scale)), "running it changes nothing"


def test_without_source_a_function_is_known_by_its_bytecode(tmp_path):
    before = load(tmp_path, STEPS).step
    with_source = digest(before)
    unread = load(tmp_path, STEPS).step
    (tmp_path / "steps.py").unlink()
    assert digest(before) == with_source, "an identity that was once known stays"
    without_source = digest(unread)
    assert without_source != with_source

    for old, new in [("* factor *", "+ factor *"), ("* sin(x)", "* cos(x)"), ("GAIN\n", "3\n")]:
        changed = load(tmp_path, STEPS.replace(old, new)).step
        (tmp_path / "steps.py").unlink()
        assert digest(changed) != without_source, (old, new)


def test_without_source_a_class_is_known_by_its_methods():
    def of(source):
        namespace = {"__name__": "nowhere"}
        exec(source, namespace)
        return digest(namespace["Model"])

    assert of("class Model:\n def f(self): return 1") == of("class Model:\n def f(self): return 1")
    assert of("class Model:\n def f(self): return 1") != of("class Model:\n def f(self): return 2")


@pytest.mark.parametrize("source_available", [True, False])
@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_in_another_process_unpickled_functions_keep_their_digest(
    tmp_path, source_available, hash_seed
):
    steps = load(tmp_path, STEPS + "\nis_known = lambda x: x in {'N', 'A', 'O'}\n")
    if not source_available:
        (tmp_path / "steps.py").unlink()
    # A module that can't be imported by name is pickled by value, as a grid file's functions are.
    value = [steps.step, steps.even, steps.is_known, {"b": 1, "a": [2.5]}]
    code = (
        "import sys, pickle; from ecg_mlflow.grids.canonical import digest;"
        "print(digest(pickle.load(sys.stdin.buffer)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=cloudpickle.dumps(value),
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
    )
    assert run.stdout.decode().strip() == digest(value)
    assert digest(steps.even) != digest(steps.odd)


def test_the_form_is_pinned():
    # Stored runs and cached records are found by digests: whoever changes the canonical form of
    # any value must raise VERSION, and then these expectations.
    value = {"b": [1.0, True, None], "a": ("x", b"\x00", 0.5, math.inf)}
    text = '[2,{"dict":[["a",["x",{"bytes":"00"},0.5,{"float":"inf"}]],["b",[1,true,null]]]}]'
    assert [2, canonical(value)] == json.loads(text)
    assert digest(value) == hashlib.sha256(text.encode()).hexdigest()
    # Data sets are known by digests of the first version.
    assert digest(value, version=1) == hashlib.sha256(f"[1{text[2:]}".encode()).hexdigest()


def test_a_field_that_a_class_got_later_counts_where_it_is_set():
    @dataclass(frozen=True)
    class Later:
        edge: float
        order: int = added_field(3)

    def fields(value):
        return canonical(value)["dataclass"][1]

    assert fields(Later(40)) == fields(Later(40, 3)) == {"edge": 40}
    assert fields(Later(40, 4)) == {"edge": 40, "order": 4}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


def reordered(value):
    """Spell a value in another way: dicts backwards, lists as tuples, whole floats as ints."""
    if isinstance(value, dict):
        return {key: reordered(item) for key, item in reversed(value.items())}
    if isinstance(value, list):
        return tuple(map(reordered, value))
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@settings(max_examples=60, deadline=None)
@given(plain)
def test_another_spelling_has_the_same_digest(value):
    assert digest(reordered(value)) == digest(value)
