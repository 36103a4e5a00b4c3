from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_mlflow.errors import GridError
from ecg_mlflow.grids import ConfigAlias, Grid, IntUniform, LogUniform, Option, Uniform
from ecg_mlflow.grids.canonical import digest

LR = LogUniform(1e-4, 1e-2)
lr, layout = Option("lr", LR), Option("layout", ["cna", "cac"])


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (lambda: Uniform(1, 1), ["Uniform(1, 1)", "low must be less than high", "list it"]),
        (lambda: Uniform("0", 1), ["Uniform('0', 1)", "low must be a finite number, not '0'"]),
        (lambda: Uniform(0, math.inf), ["high must be a finite number, not inf"]),
        (lambda: Uniform(False, 1), ["low must be a finite number, not False"]),
        (lambda: Uniform(0, 10**400), ["high must be a finite number"]),
        (lambda: Uniform(-1e308, 1e308), ["high - low must be a finite number"]),
        (lambda: Uniform([0], 1), ["low must be a finite number, not [0]"]),
        (lambda: LogUniform(0, 1), ["logarithmic", "low must be more than 0"]),
        (lambda: IntUniform(1, 1), ["low must be less than high"]),
        (lambda: IntUniform(1.0, 4), ["low must be a whole number up to 2**53, not 1.0"]),
        (lambda: IntUniform(1, 2**53 + 1), ["high must be a whole number up to 2**53"]),
        (lambda: IntUniform(1, 9, step=9), ["step must be 1 to high - low, 8"]),
        (lambda: IntUniform(1, 9, step=1.5), ["step must be a whole number"]),
        (lambda: IntUniform(0, 9, log=True), ["logarithmic", "low must be 1 or more"]),
        (lambda: IntUniform(1, 9, step=2, log=True), ["step must be 1, or log False"]),
        (lambda: IntUniform(1, 9, log=1), ["log is True or False, not 1"]),
    ],
)
def test_bounds_are_checked(build, parts):
    with pytest.raises(GridError) as caught:
        build()
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("span", "spelled"),
    [
        (LogUniform(1e-4, 1e-2), "LogUniform(0.0001, 0.01)"),
        (Uniform(0, np.float32(0.5)), "Uniform(0.0, 0.5)"),
        (IntUniform(np.int64(1), 8), "IntUniform(1, 8)"),
        (IntUniform(8, 64, step=8), "IntUniform(8, 64, step=8)"),
        (IntUniform(1, 64, log=True), "IntUniform(1, 64, log=True)"),
    ],
)
def test_a_range_is_known_by_what_it_was_written_with(span, spelled):
    assert repr(span) == spelled
    assert {eval(spelled), pickle.loads(pickle.dumps(span))} == {span}


@pytest.mark.parametrize("kind", [Uniform, LogUniform, IntUniform])
def test_a_range_takes_two_bounds_and_keeps_them(kind):
    with pytest.raises(TypeError, match=f"^{kind.__name__}"):
        kind(1)
    with pytest.raises(AttributeError):
        kind(1, 8).step = 3


def test_ranges_differ_by_kind_and_bounds():
    spans = {Uniform(1, 8), Uniform(1, 9), LogUniform(1, 8), IntUniform(1, 8)}
    assert len(spans | {IntUniform(1, 8, step=2), IntUniform(1, 8, log=True)}) == 6


@pytest.mark.parametrize(
    ("span", "drawn", "alias"),
    [
        (LR, 0.0012345678, "0.001235"),
        (LR, 1e-5, "0.0001"),
        (LR, 1, "0.01"),
        (Uniform(0, 1), 1 / 3, "0.3333"),
        (Uniform(0, 1), 2e-7 / 3, "6.667e-08"),
        (Uniform(-1, 1), -0.0, "0.0"),
        # Rounding would leave these bounds.
        (Uniform(0, 2 / 3), 2 / 3, repr(2 / 3)),
        (Uniform(1 / 3, 1), 1 / 3, repr(1 / 3)),
        # Four digits would leave these a handful of values.
        (Uniform(0.99, 0.9999), 0.99234567, "0.99235"),
        (Uniform(1e6, 1e6 + 1), 1e6 + 1 / 3, "1000000.33"),
        (IntUniform(1, 8), 3.4, "3"),
        (IntUniform(1, 8), 99, "8"),
        (IntUniform(8, 64, step=8), 35, "32"),
        (IntUniform(1, 12, step=4), 12, "9"),
        (IntUniform(-5, 5, step=3), -3.9, "-5"),
    ],
)
def test_drawn_numbers_become_short_values(span, drawn, alias):
    assert span.kv(drawn).alias == alias
    assert span.kv(float(alias)).alias == alias


@pytest.mark.parametrize(
    ("span", "ends"),
    [(LR, (1e-4, 1e-2)), (Uniform(0, 1), (0.0, 1.0)), (IntUniform(1, 10, step=4), (1, 9))],
)
def test_ends_have_the_kind_of_their_range(span, ends):
    values = tuple(kv.value for kv in span.ends())
    assert values == ends
    assert [*map(type, values)] == [*map(type, ends)]


def test_shares_follow_the_scale():
    assert [Uniform(0, 8).at(q).value for q in (0, 0.25, 1)] == [0, 2, 8]
    assert [LR.at(q).value for q in (0, 0.5, 1)] == [1e-4, 1e-3, 1e-2]
    shares = (np.arange(1000) + 0.5) / 1000
    counts = np.bincount([IntUniform(1, 9, step=2).at(q).value for q in shares])
    assert counts.tolist() == [0, *[200, 0] * 4, 200]
    counts = np.bincount([IntUniform(1, 8, log=True).at(q).value for q in shares])
    assert counts[1] > 2 * counts[3] > 4 * counts[8] > 0
    assert IntUniform(1, 8).at(1).value == 8


floats = st.floats(-1e300, 1e300)
positive = st.floats(1e-300, 1e300)


def spans():
    """Strategy for ranges of every kind, narrow and wide ones."""
    ends = st.tuples(floats, floats) | floats.map(lambda x: (x, math.nextafter(x, math.inf)))
    ints = st.tuples(st.integers(-100, 100), st.integers(1, 100), st.integers(1, 9))
    logs = st.tuples(st.integers(1, 100), st.integers(1, 100))
    return st.one_of(
        ends.filter(lambda x: x[0] < x[1]).map(lambda x: Uniform(*x)),
        st.tuples(positive, positive).filter(lambda x: x[0] < x[1]).map(lambda x: LogUniform(*x)),
        ints.map(lambda x: IntUniform(x[0], x[0] + max(x[1], x[2]), step=x[2])),
        logs.map(lambda x: IntUniform(x[0], x[0] + x[1], log=True)),
    )


@settings(max_examples=200, deadline=None)
@given(spans(), st.floats(0, 1))
def test_values_stay_inside_and_can_be_written_down(span, share):
    kv = span.at(share)
    assert span.low <= kv.value <= span.high
    assert span.kv(kv.value) == kv, "rounding twice is rounding once"
    assert span.exactly(kv.value) == kv, "it is one of the range's"
    assert span.exactly(kv.alias) == kv, "what a table shows is what it was"
    low, high = span.ends()
    assert low.value < high.value
    assert span.covers(span)


@pytest.mark.parametrize(
    "call",
    [
        *(len, list, iter, bool),
        lambda grid: grid[0],
        lambda grid: grid.gen_configs(),
        lambda grid: grid.unique(),
        lambda grid: ConfigAlias({"lr": 0.001}) in grid,
    ],
)
def test_a_grid_with_a_range_has_no_list_of_configurations(call):
    for grid in (lr, Grid(lr), layout * lr, layout + lr, lr * layout):
        assert not grid.is_finite
        with pytest.raises(GridError, match=r"option 'lr' is LogUniform\(.*, a range, .*a sampler"):
            call(grid)


def test_what_does_not_list_works_with_ranges():
    assert (lr.values, lr.range, lr.alias()) == ((), LR, {"lr": LR})
    assert (layout.range, layout.is_finite) == (None, True)
    grid = layout * lr
    assert repr(grid) == "Grid([[{'layout': ['cna', 'cac']}, {'lr': LogUniform(0.0001, 0.01)}]])"
    assert grid.products == ((layout, lr),)
    assert grid != layout * Option("lr", Uniform(1e-4, 1e-2))
    assert pickle.loads(pickle.dumps(grid)) == grid
    assert digest(grid) != digest(layout * Option("lr", LogUniform(1e-4, 1e-3)))
    assert (grid + Option("lr", [0.1, 1.0])).names == ("layout", "lr")


@pytest.mark.parametrize("options", [(layout, lr), (lr,), (layout, Option("a", [1]) * lr)])
def test_a_range_is_not_paired(options):
    with pytest.raises(GridError, match=r"pairs values.*has a range.*write \*"):
        Option.product(*options)


def test_a_range_is_not_one_of_several_values():
    with pytest.raises(GridError, match=r"option 'lr', value 1: Uniform\(0\.0, 1\.0\) is a range"):
        Option("lr", [0.5, Uniform(0, 1)])
