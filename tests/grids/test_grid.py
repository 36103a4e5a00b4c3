from __future__ import annotations

import pickle

import pytest

from ecg_mlflow import ResNet, ResNet18, ResNet34
from ecg_mlflow.errors import GridError
from ecg_mlflow.grids import KV, ConfigAlias, Grid, IntUniform, LogUniform, Option, Uniform
from ecg_mlflow.grids.canonical import digest

a, b, c = Option("a", [1, 2]), Option("b", [3, 4]), Option("c", [5, 6])
d = Option("d", [7])
lr = Option("lr", LogUniform(1e-4, 1e-2))
width = Option("width", IntUniform(8, 64, step=8))


def spelled(configurations):
    """Spell configurations as semantics do: ``a1b3 a1b4``."""
    return " ".join(
        "".join(f"{name}{alias}" for name, alias in config.alias().items())
        for config in configurations
    )


EXPRESSIONS = {
    "a": "a1 a2",
    "a * b": "a1b3 a1b4 a2b3 a2b4",
    "a + b": "a1 a2 b3 b4",
    "a * b + c": "a1b3 a1b4 a2b3 a2b4 c5 c6",
    "a * (b + c)": "a1b3 a1b4 a2b3 a2b4 a1c5 a1c6 a2c5 a2c6",
    "(a + b) * (c + d)": "a1c5 a1c6 a2c5 a2c6 a1d7 a2d7 b3c5 b3c6 b4c5 b4c6 b3d7 b4d7",
    "Option.product(a, b)": "a1b3 a2b4",
    "Option.product(a, b) * c": "a1b3c5 a1b3c6 a2b4c5 a2b4c6",
    "c * Option.product(a, b)": "c5a1b3 c6a1b3 c5a2b4 c6a2b4",
    "a @ b": "a1b3 a2b4",
    "a @ b @ c": "a1b3c5 a2b4c6",
    "a @ b * c": "a1b3c5 a1b3c6 a2b4c5 a2b4c6",
    "c * (a @ b)": "c5a1b3 c6a1b3 c5a2b4 c6a2b4",
    "a @ b + c": "a1b3 a2b4 c5 c6",
    "Grid(a * b)": "a1b3 a1b4 a2b3 a2b4",
    "Grid([[a, b], [c]])": "a1b3 a1b4 a2b3 a2b4 c5 c6",
    "a * Grid()": "a1 a2",
    "a + a": "a1 a2 a1 a2",
}


def evaluate(expression):
    options = {"a": a, "b": b, "c": c, "d": d, "lr": lr, "width": width}
    return eval(expression, {**options, "Option": Option, "Grid": Grid, "KV": KV})


@pytest.mark.parametrize(("expression", "configurations"), EXPRESSIONS.items())
def test_order_of_configurations(expression, configurations):
    grid = evaluate(expression)
    assert spelled(grid) == configurations
    assert spelled(grid) == configurations, "iterating twice gives the same list"
    assert spelled(grid.gen_configs()) == configurations
    assert len(grid) == len(configurations.split())


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        # @ binds as tightly as *, so this is (c * a) @ b
        ("c * a @ b", ["c * a @ b means (c * a) @ b", "write c * (a @ b)"]),
        ("a @ (b * c)", ["crosses some"]),
        ("Option.product(a, Option('b', [3]))", ["they have a 2, b 1"]),
        ("a @ Option('b', [3, 4, 5])", ["they have a 2, b 3: make them equal, or use *"]),
        ("(a @ b) @ d", ["they have a with b 2, d 1"]),
        ("Option.product()", ["none was given"]),
        ("Option.product(a, 'b')", ["not 'b' of type str"]),
        ("a * a", ["option 'a' occurs twice"]),
        ("a * (b + a)", ["option 'a' occurs twice"]),
        ("a * 3", ["* 3", "type int", "write Option(name, values)"]),
        ("a + None", ["+ None", "type NoneType"]),
        ("a @ [1, 2]", ["@ [1, 2]", "type list"]),
        ("Grid([])", ["without products", "Grid()"]),
        ("Grid([a, b])", ["not Option({'a': ['1', '2']})", "combine options"]),
        ("Grid([['a']])", ["not 'a' of type str"]),
        ("Option('a', [])", ["option 'a' has no values"]),
        ("Option('a', 'cna')", ["'a' takes a list of values", "Option('a', [value, ...])"]),
        ("Option('a', 3)", ["'a' takes a list of values, not 3 of type int"]),
        ("Option('a', {'x': 1})", ["'a' takes a list of values", "type dict"]),
        ("Option('a', KV(1, 'one'))", ["'a' takes a list of values", "type KV"]),
        ("Option('', [1])", ["name must be a non-empty string, not ''"]),
        ("Option('a', [1, {2}])", ["option 'a', value 1", "sorted list"]),
        ("Option('a', [object()])", ["option 'a', value 0", "frozen dataclass"]),
        ("Option('a', [[print, lambda: 0]])", ["option 'a', value 0", "memory address"]),
        ("Option('a', [1, '1'])", ["'a' have the alias '1'", "1 and '1'", "KV(value, 'alias')"]),
        ("Option('a', [KV(1, 'x'), KV(2, 'x')])", ["alias 'x'", "1 and 2"]),
        ("a + Option('a', [KV(3, '1')])", ["'a' have the alias '1'", "1 and 3"]),
    ],
)
def test_ill_formed_expressions_are_refused(expression, parts):
    with pytest.raises(GridError) as caught:
        evaluate(expression)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_printed_forms():
    op1, op2 = Option("p1", [1, 2]), Option("p2", ["v1", "v2"])
    op3, op4 = Option("p1", [4]), Option("p2", ["v3"])
    grid = op1 * op2 + op3 * op4
    assert repr(grid) == (
        "Grid([[{'p1': ['1', '2']}, {'p2': ['v1', 'v2']}], [{'p1': ['4']}, {'p2': ['v3']}]])"
    )
    assert str(list(grid.gen_configs())) == (
        "[ConfigAlias({'p1': '1', 'p2': 'v1'}), ConfigAlias({'p1': '1', 'p2': 'v2'}), "
        "ConfigAlias({'p1': '2', 'p2': 'v1'}), ConfigAlias({'p1': '2', 'p2': 'v2'}), "
        "ConfigAlias({'p1': '4', 'p2': 'v3'})]"
    )
    assert repr(op1) == "Option({'p1': ['1', '2']})"


def test_aliases():
    option = Option("model", [ResNet18, KV(ResNet34, "deep"), [2, 2], None, 1.0])
    assert option.alias() == {"model": ["ResNet18", "deep", "[2, 2]", "None", "1.0"]}
    assert [config["model"] for config in option] == [ResNet18, ResNet34, [2, 2], None, 1.0]


def test_values_come_from_any_ordered_iterable():
    assert Option("a", (1, 2)) == Option("a", range(1, 3)) == Option("a", iter([1, 2])) == a


def test_indexing_agrees_with_iterating():
    grid = a * b + c
    configs = list(grid)
    assert [grid[i] for i in range(-6, 6)] == configs * 2
    assert grid[1::2] == configs[1::2]
    assert grid[6:] == []
    with pytest.raises(IndexError):
        grid[6]


def test_the_grid_without_options_has_one_configuration():
    assert list(Grid()) == [ConfigAlias({})]
    assert Grid().names == ()
    assert Grid() * a == Grid(a)


def test_names_and_products_come_in_order_of_first_appearance():
    assert (b * a + c * a).names == ("b", "a", "c")
    assert (a * b + c).products == ((a, b), (c,))
    first, second = (a @ b).products
    assert first == (Option("a", [1]), Option("b", [3]))
    assert second == (Option("a", [2]), Option("b", [4]))


def test_a_grid_is_a_value():
    grid, same = a * b, Option("a", [1, 2]) * b
    assert grid == same != b * a
    assert hash(grid) == hash(same)
    assert digest(grid) == digest(same) != digest(b * a)
    assert {a, Option("a", [1, 2])} == {a}
    assert pickle.loads(pickle.dumps(grid + c)) == grid + c


def test_equal_configurations_are_told_by_value_not_alias():
    one, uno, also = KV(1, "one"), KV(1.0, "uno"), KV(True, "also")
    kept, twins = (Option("x", [one, 2, uno, also]) + Option("x", [2])).unique()
    assert [config.alias()["x"] for config in kept] == ["one", "2", "also"]
    assert [(first.alias()["x"], second.alias()["x"]) for first, second in twins] == [
        ("one", "uno"),
        ("2", "2"),
    ]
    assert (a * b).unique() == (list(a * b), [])


def test_the_reference_grid_has_26_configurations_and_130_runs():
    ready_made = Option.product(
        Option("model", [ResNet18, ResNet34]),
        Option("blocks", [[2, 2, 2, 2], [3, 4, 6, 3]]),
        Option("filters", [[64, 128, 256, 512], KV([64, 128, 256, 512], "same")]),
    ) * Option("input_filters", [64])
    custom = (
        Option("model", [ResNet])
        * Option("layout", ["cna", "cnacna"])
        * Option("filters", [[4, 4, 8], [4, 8, 16]])
        * Option("blocks", [[1] * 7, [2] * 7, [2, 3, 4, 5, 4, 3, 2]])
        * Option("input_filters", [8, 32])
    )
    grid = ready_made + custom
    assert len(grid) == 26
    kept, twins = grid.unique()
    assert (len(kept), twins) == (26, [])
    assert len(kept) * 5 == 130
    assert [config.alias()["model"] for config in grid[:3]] == ["ResNet18", "ResNet34", "ResNet"]


@pytest.mark.parametrize(
    ("expression", "config", "configurations"),
    [
        ("a * b + c", {}, "a1b3 a1b4 a2b3 a2b4 c5 c6"),
        ("a * b", {"b": 4}, "a1b4 a2b4"),
        ("a * b", {"b": "4", "a": "1"}, "a1b4"),
        ("a * b", {"b": ["4", "3"]}, "a1b3 a1b4 a2b3 a2b4"),
        ("a * b + c", {"b": "4"}, "a1b4 a2b4"),
        ("a @ b", {"a": "2"}, "a2b4"),
        ("c * (a @ b)", {"b": "3", "c": "6"}, "c6a1b3"),
        ("Option('a', [1]) + Option('a', [2]) * b", {"a": "1"}, "a1"),
        ("Option('a', [KV(None, 'none'), None])", {"a": None}, "aNone"),
        ("Option('a', [[2, 2], [3]])", {"a": "[2, 2]"}, "a[2, 2]"),
        ("lr", {"lr": 0.00123}, "lr0.00123"),
        ("lr", {"lr": "1e-3"}, "lr0.001"),
        ("lr", {"lr": [1e-3, 1e-2, 0.001]}, "lr0.001 lr0.01"),
        ("a * lr", {"a": "1", "lr": 0.00123}, "a1lr0.00123"),
        ("width", {"width": [8, 24.0, "32"]}, "width8 width24 width32"),
        # A range in one product and a list in the other.
        ("a * lr + Option('lr', [0.1, 0.001])", {"lr": 0.001}, "a1lr0.001 a2lr0.001 lr0.001"),
        ("a * lr + Option('lr', [0.1, 0.001])", {"lr": 0.1}, "lr0.1"),
        ("lr + Option('lr', [0.1])", {"lr": [0.1, 0.01]}, "lr0.01 lr0.1"),
    ],
)
def test_the_part_that_agrees(expression, config, configurations):
    part = evaluate(expression).only(config)
    assert isinstance(part, Grid)
    assert spelled(part) == configurations


def test_options_that_are_not_named_stay_ranges():
    grid = (a * lr).only({"a": "1"})
    assert grid == Option("a", [1]) * lr
    assert not grid.is_finite


@pytest.mark.parametrize(
    ("option", "narrower"),
    [
        (lr, LogUniform(1e-3, 1e-2)),
        (lr, Uniform(1e-4, 1e-3)),
        (lr, lr.range),
        (width, IntUniform(16, 48, step=16)),
        (width, IntUniform(16, 50, step=8)),
    ],
)
def test_a_range_can_be_narrowed(option, narrower):
    assert (a * option).only({option.name: narrower}) == a * Option(option.name, narrower)


def test_a_configuration_is_a_part_of_its_grid():
    grid = Option("x", [[2, 2], KV([3], "three")]) * lr
    config = grid.only({"x": "three", "lr": 0.002})[0]
    assert list(grid.only(config)) == [config]


@pytest.mark.parametrize(
    ("expression", "config", "parts"),
    [
        ("a * b", {"aa": "1"}, ["no option 'aa'", "options are 'a', 'b'", "did you mean 'a'?"]),
        ("a * b", {"zzz": "1"}, ["no option 'zzz'", "give one of them"]),
        ("Grid()", {"a": "1"}, ["no option 'a'. The options are none"]),
        ("a * b + a * c", {"a": "3"}, ["option 'a' has no value '3'; it has '1', '2'"]),
        ("a * b", {"a": ["1", 3]}, ["option 'a' has no value 3; it has '1', '2'"]),
        ("a * b", {"a": []}, ["option 'a' is given an empty list"]),
        ("a * b", {"a": LogUniform(1, 2)}, ["no value LogUniform(1.0, 2.0); it has '1', '2'"]),
        ("lr", {"lr": 0.1}, ["'lr' has no value 0.1; it has LogUniform(0.0001, 0.01)"]),
        ("lr", {"lr": "high"}, ["'lr' has no value 'high'; it has LogUniform(0.0001, 0.01)"]),
        ("lr", {"lr": Uniform(0, 1e-3)}, ["'lr' has no value Uniform(0.0, 0.001)"]),
        ("lr", {"lr": [Uniform(1e-4, 1e-3)]}, ["'lr' has no value Uniform(0.0001, 0.001)"]),
        ("lr + Option('lr', [0.1])", {"lr": 1}, ["it has LogUniform(0.0001, 0.01), '0.1'"]),
        ("width", {"width": 9}, ["'width' has no value 9; it has IntUniform(8, 64, step=8)"]),
        ("width", {"width": 72}, ["'width' has no value 72"]),
        ("width", {"width": IntUniform(8, 16)}, ["'width' has no value IntUniform(8, 16)"]),
        ("a + b", {"a": "1", "b": "3"}, ["no configuration has a='1', b='3'", "Name fewer"]),
    ],
)
def test_a_part_that_does_not_exist_is_refused(expression, config, parts):
    with pytest.raises(GridError) as caught:
        evaluate(expression).only(config)
    assert [part for part in parts if part not in str(caught.value)] == []
