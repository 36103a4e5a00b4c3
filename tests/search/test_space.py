from __future__ import annotations

import itertools
import warnings
from collections import Counter
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from ecg_mlflow.grids import KV, ConfigAlias, Grid, IntUniform, LogUniform, Option, Uniform
from ecg_mlflow.search import space as space_module
from ecg_mlflow.search.space import Space

LR = LogUniform(1e-4, 1e-2)
a, b, c = Option("a", [1, 2]), Option("b", [3, 4, 5]), Option("c", [6])
lr = Option("lr", LR)


def belongs(config, grid):
    """Whether a configuration has exactly the options of one product, with values of theirs."""
    return any(
        set(config) == {option.name for option in product}
        and all(
            option.range.exactly(config[option.name]) is not None
            if option.range
            else KV(config[option.name]).digest in {kv.digest for kv in option.values}
            for option in product
        )
        for product in grid.products
    )


NAMES = ["p", "q", "product", "q (2)"]
RANGES = [
    LR,
    Uniform(0, 1),
    IntUniform(1, 3),
    IntUniform(1, 10, step=4),
    IntUniform(1, 9, log=True),
]
values = st.lists(st.sampled_from([1, 2, 3, KV(1, "one"), KV(2.0, "two")]), min_size=1, max_size=4)


def grids(domains):
    """Strategy for sums and products of options and pairs, with many names in common."""
    options = st.builds(Option, st.sampled_from(NAMES), domains)

    @st.composite
    def pairs(draw):
        n = draw(st.integers(1, 3))
        first, second = draw(st.permutations(NAMES))[:2]
        lists = st.lists(st.integers(1, 3), min_size=n, max_size=n)
        return Option(first, draw(lists)) @ Option(second, draw(lists))

    def combine(parts):
        def build(left, right, symbol):
            if symbol == "+" or set(left.names) & set(right.names):
                return left + right
            return left * right

        return st.builds(build, parts, parts, st.sampled_from("+*"))

    return st.recursive(options | pairs(), combine, max_leaves=6).map(Grid)


finite = grids(values)
mixed = grids(values | st.sampled_from(RANGES))
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("sampler", ["RandomSampler", "TPESampler"])
@settings(max_examples=40, deadline=None)
@given(mixed, seeds)
def test_optuna_chooses_only_the_grids_configurations(sampler, grid, seed):
    """Optuna itself refuses a parameter of two domains."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options = {"multivariate": True, "group": True} if sampler == "TPESampler" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        chosen = getattr(optuna.samplers, sampler)(seed=seed, **options)
    study = optuna.create_study(sampler=chosen)
    space, rng = Space(grid), np.random.default_rng(seed)
    for i in range(40):
        if i % 5 == 4:
            study.enqueue_trial(space.encode(space.draw(rng)))
        trial = study.ask()
        config = space.suggest(trial)
        assert belongs(config, grid)
        assert space.suggest(FixedTrial(trial.params)) == config
        study.tell(trial, rng.random())
    assert belongs(space.untried(set(), rng), grid)


@settings(max_examples=100, deadline=None)
@given(finite, seeds)
def test_what_is_untried_is_drawn_once_each(grid, seed):
    space, rng = Space(grid), np.random.default_rng(seed)
    found, tried = [], set()
    while (config := space.untried(tried, rng)) is not None:
        found.append(config)
        tried.add(config.digest)
        assert len(found) <= len(grid)
    assert len(found) == len(set(found)) == space.n_configs
    assert set(found) == set(grid)


@settings(max_examples=200, deadline=None)
@given(mixed)
def test_examples_show_every_value_of_every_product(grid):
    examples = Space(grid).examples()
    assert len(examples) == len(set(examples))
    most = 0
    for product in grid.products:
        here = [one for one in examples if belongs(one, Grid([product]))]
        for option in product:
            kvs = option.range.ends() if option.range else option.values
            assert {kv.digest for kv in kvs} <= {KV(one[option.name]).digest for one in here}
        most += max(2 if option.range else len(option.values) for option in product)
    assert len(examples) <= most
    if grid.is_finite:
        configs = iter(grid)
        assert all(one in configs for one in examples), "they come in the grid's order"


@settings(max_examples=200, deadline=None)
@given(mixed, seeds)
def test_a_configuration_leads_back_to_parameters(grid, seed):
    space = Space(grid)
    config = space.draw(np.random.default_rng(seed))
    trial = FixedTrial(space.encode(config))
    assert space.suggest(trial) == config
    assert [*trial.distributions] == [*trial.params], "no parameter too many, in their order"
    renamed = ConfigAlias({name: KV(config[name], "other") for name in reversed(list(config))})
    assert space.encode(renamed) == space.encode(config), "it is known by its values"
    assert space.encode(ConfigAlias({**config, "momentum": 0.9})) is None
    for name in config:
        assert space.encode(ConfigAlias({**config, name: -7.5})) is None
        less = ConfigAlias({key: value for key, value in config.items() if key != name})
        assert space.encode(less) is None or belongs(less, grid)


def parameters(grid):
    """Return what parameters a space has, and what those of lists choose from."""
    space, found = Space(Grid(grid)), {}
    for config in space.examples():
        for name, choice in space.encode(config).items():
            found.setdefault(name, []).append(choice)
    return {name: [*dict.fromkeys(choices)] for name, choices in found.items()}


def test_products_come_first_and_fixed_options_follow_from_them():
    grid = c * a + Option("x", ["u", "v"]) @ Option("y", [1, 2]) * lr + b
    assert parameters(grid) == {
        "product": ["0", "1", "2", "3"],
        "a": ["1", "2"],
        "lr": [1e-4, 1e-2],
        "b": ["3", "4", "5"],
    }
    config = Space(grid).suggest(FixedTrial({"product": "2", "lr": 0.00123456}))
    assert config.config() == {"x": "v", "y": 2, "lr": 0.001235}


@pytest.mark.parametrize(
    ("grid", "names"),
    [
        (a * c * lr, ["a", "lr"]),
        (a * b + a * b, ["a", "b"]),
        (Grid(), []),
        (Option("a", [1, 1]) * Option("b", [1, 2, 1]), ["b"]),
        # Products with the same values share a parameter.
        (
            c * lr + a * lr + Option("lr", [1, 2]) + a * Option("lr", [2, 1]),
            ["product", "lr", "a", "lr (2)"],
        ),
        # Parameters have names that no option has.
        (
            Option("product", [1, 2]) + Option("product", LR) + Option("product (3)", [1, 2]),
            ["product (2)", "product", "product (4)", "product (3)"],
        ),
    ],
)
def test_names_of_parameters(grid, names):
    assert [*parameters(grid)] == names


def test_a_grid_too_large_to_list_is_drawn_from():
    space = Space(Grid([[Option(f"d{i}", range(10)) for i in range(30)]]))
    assert (space.n_configs, Space(a + lr).n_configs) == (10**30, None)
    rng = np.random.default_rng(0)
    assert space.untried(set(), rng) != space.untried(set(), rng)
    assert len(space.examples()) == 10


def test_a_grid_that_is_not_kept_listed_is_enumerated_too(monkeypatch):
    monkeypatch.setattr(space_module, "_LISTED", 3)
    space = Space(a * b + a * Option("b", [5, 6]))
    last = ConfigAlias({"a": 2, "b": 6})
    tried = {config.digest for config in space.grid} - {last.digest}
    monkeypatch.setattr(space_module, "_N_DRAWS", 0)
    rng = np.random.default_rng(0)
    assert space.untried(tried, rng) == last
    assert space.untried(tried | {last.digest}, rng) is None


def test_an_exhausted_range_gives_nothing_new():
    space = Space(Grid(Option("n", IntUniform(1, 3))))
    rng = np.random.default_rng(0)
    digests = [ConfigAlias({"n": n}).digest for n in (1, 2, 3)]
    assert space.untried(set(digests[:2]), rng) == ConfigAlias({"n": 3})
    assert space.untried(set(digests), rng) is None


def is_even(drawn, n_kinds):
    """Whether all are drawn about equally often: chi-square, p = 0.001."""
    counts = Counter(drawn)
    expected = len(drawn) / n_kinds
    limit = {3: 14, 10: 28, 11: 30}[n_kinds]
    square = sum((n - expected) ** 2 / expected for n in counts.values())
    return len(counts) == n_kinds and square < limit


def test_all_configurations_are_equally_likely():
    space = Space(a * b + Option("c", [6, 7, 8]) + Option("x", [1, 2]) @ Option("y", [3, 4]))
    rng = np.random.default_rng(0)
    assert is_even([space.draw(rng) for _ in range(11_000)], 11)
    tried = {next(iter(space.grid)).digest}
    assert is_even([space.untried(tried, rng) for _ in range(10_000)], 10)
    twice = Space(a * c + Option("a", [2, 3]) * c)  # a = 2 is in both products
    assert is_even([twice.untried(set(), rng) for _ in range(6000)], 3)


def test_a_range_weighs_as_much_as_ten_values():
    space = Space(lr + Option("d", range(30)))
    rng = np.random.default_rng(0)
    drawn = [space.draw(rng) for _ in range(4000)]
    rates = [config["lr"] for config in drawn if "lr" in config]
    assert 900 < len(rates) < 1100
    assert 0.4 < np.mean(np.array(rates) < 1e-3) < 0.6, "half of them below the middle exponent"


def test_examples_are_few():
    grid = Option("model", ["r18", "r34"]) * Option("size", [1, 2, 3]) * lr + c
    assert [config.alias(as_string=True) for config in Space(grid).examples()] == [
        "lr_0.0001-model_r18-size_1",
        "lr_0.0001-model_r18-size_3",
        "lr_0.01-model_r34-size_2",
        "c_6",
    ]
    assert Space(Grid()).examples() == [ConfigAlias({})]


def test_numbers_are_those_that_a_range_gives():
    space = Space(Grid(lr))
    for bound, x in ((1e-2, 1e-2 * (1 + 1e-15)), (1e-4, 1e-4 * (1 - 1e-15))):
        trial = SimpleNamespace(suggest_float=lambda *args, x=x, **more: x)
        assert space.suggest(trial) == ConfigAlias({"lr": bound}), "it has lost its last digit"
    assert space.encode(ConfigAlias({"lr": 0.001235})) == {"lr": 0.001235}
    for other in (0.00123456, "0.001"):
        assert space.encode(ConfigAlias({"lr": other})) is None


def test_aliases_are_kept():
    space = Space(Option("x", [KV([1], "one"), KV([2], "two")]) * a)
    aliases = [
        space.suggest(FixedTrial({"x": x, "a": y})).alias()
        for x, y in itertools.product(["one", "two"], "12")
    ]
    assert aliases == [config.alias() for config in space.grid]
