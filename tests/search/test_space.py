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


class Answers:
    """A trial that answers by chance, and keeps to Optuna's rule of one domain per name."""

    def __init__(self, seed, domains):
        self.rng = np.random.default_rng(seed)
        self.domains = domains
        self.params = {}

    def suggest_categorical(self, name, choices):
        self._register(name, tuple(choices))
        assert len(set(choices)) == len(choices)
        return self._answer(name, str(self.rng.choice(choices)))

    def suggest_float(self, name, low, high, *, log=False):
        self._register(name, ("float", low, high, log))
        return self._answer(name, float(self.rng.choice([low, high, self.rng.uniform(low, high)])))

    def suggest_int(self, name, low, high, *, step=1, log=False):
        self._register(name, ("int", low, high, step, log))
        assert (high - low) % step == 0
        return self._answer(name, int(self.rng.choice(range(low, high + 1, step))))

    def _register(self, name, domain):
        assert self.domains.setdefault(name, domain) == domain

    def _answer(self, name, value):
        assert name not in self.params, f"{name} is asked for twice"
        self.params[name] = value
        return value


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


@settings(max_examples=300, deadline=None)
@given(mixed, seeds)
def test_only_the_grids_configurations_are_chosen(grid, seed):
    space = Space(grid)
    rng = np.random.default_rng(seed)
    domains = {}
    for i in range(5):
        trial = Answers(seed + i, domains)
        suggested = space.suggest(trial)
        assert belongs(suggested, grid)
        assert space.suggest(FixedTrial(trial.params)) == suggested
        for config in [space.draw(rng), space.untried(set(), rng)]:
            assert belongs(config, grid)


@settings(max_examples=100, deadline=None)
@given(finite, seeds)
def test_what_is_untried_is_drawn_once_each(grid, seed):
    space = Space(grid)
    rng = np.random.default_rng(seed)
    found = []
    tried = set()
    while (config := space.untried(tried, rng)) is not None:
        found.append(config)
        tried.add(found[-1].digest)
        assert len(found) <= len(grid)
    assert len(found) == len(set(found)) == space.n_configs
    assert set(found) == set(grid)


@settings(max_examples=300, deadline=None)
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


@settings(max_examples=300, deadline=None)
@given(mixed, seeds)
def test_a_configuration_leads_back_to_parameters(grid, seed):
    space = Space(grid)
    config = space.draw(np.random.default_rng(seed))
    trial = FixedTrial(space.encode(config))
    assert space.suggest(trial) == config
    assert [*trial.distributions] == [*trial.params], "no parameter too many, in their order"
    renamed = ConfigAlias({name: KV(config[name], "other") for name in reversed(list(config))})
    assert space.encode(renamed) == space.encode(config), "it is known by its values"
    assert space.encode(ConfigAlias({**config.config(), "momentum": 0.9})) is None
    for name in config:
        assert space.encode(ConfigAlias({**config.config(), name: -7.5})) is None
        less = ConfigAlias({key: value for key, value in config.items() if key != name})
        assert space.encode(less) is None or belongs(less, grid)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@settings(max_examples=30, deadline=None)
@given(mixed, seeds)
def test_optuna_can_search_it(sampler, grid, seed):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            sampler=optuna.samplers.RandomSampler(seed=seed)
            if sampler == "random"
            else optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
        )
    space = Space(grid)
    rng = np.random.default_rng(seed)
    for i in range(50):
        if i % 5 == 4:
            study.enqueue_trial(space.encode(space.draw(rng)))
        trial = study.ask()
        config = space.suggest(trial)
        assert belongs(config, grid)
        assert space.suggest(FixedTrial(trial.params)) == config
        study.tell(trial, rng.random())


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
        # Products with the same values share a parameter.
        (
            c * lr
            + a * lr
            + Option("lr", [1, 2])
            + a * Option("lr", [2, 1])
            + c * Option("lr", [1]),
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


def test_a_value_that_is_listed_twice_is_one_choice():
    space = Space(Option("a", [1, 1]) * Option("b", [1, 2, 1]))
    assert space.encode(ConfigAlias({"a": 1, "b": 2})) == {"b": "2"}
    assert space.n_configs == 2


def test_number_of_configurations():
    assert Space(a * b + c).n_configs == 7
    assert Space(a * b + a * Option("b", [KV(4, "four"), 9])).n_configs == 8
    assert Space(a + lr).n_configs is None
    digits = [Option(f"d{i}", range(10)) for i in range(30)]
    grid = Grid([digits])
    assert Space(grid).n_configs == 10**30


def test_a_grid_too_large_to_list_is_drawn_from():
    space = Space(Grid([[Option(f"d{i}", range(10)) for i in range(30)]]))
    rng = np.random.default_rng(0)
    first, second = (space.untried(set(), rng) for _ in range(2))
    assert first != second
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


def chi_square(counts, expected):
    return sum((counts[key] - n) ** 2 / n for key, n in expected.items())


def test_all_configurations_are_equally_likely():
    space = Space(a * b + Option("c", [6, 7, 8]) + Option("x", [1, 2]) @ Option("y", [3, 4]))
    rng = np.random.default_rng(0)
    drawn = Counter(space.draw(rng) for _ in range(11_000))
    assert len(drawn) == 11
    assert chi_square(drawn, dict.fromkeys(drawn, 1000)) < 30  # p = 0.001 with 10 degrees
    tried = {next(iter(space.grid)).digest}
    left = Counter(space.untried(tried, rng) for _ in range(10_000))
    assert len(left) == 10
    assert chi_square(left, dict.fromkeys(left, 1000)) < 28


def test_equal_configurations_of_two_products_are_not_twice_as_likely_to_be_left():
    space = Space(a * c + Option("a", [2, 3]) * c)
    rng = np.random.default_rng(0)
    left = Counter(space.untried(set(), rng) for _ in range(6000))
    assert chi_square(left, dict.fromkeys(left, 2000)) < 14


def test_a_range_weighs_as_much_as_ten_values():
    space = Space(lr + Option("d", range(30)))
    rng = np.random.default_rng(0)
    drawn = [space.draw(rng) for _ in range(4000)]
    rates = [config["lr"] for config in drawn if "lr" in config]
    assert 900 < len(rates) < 1100
    assert 0.4 < np.mean(np.array(rates) < 1e-3) < 0.6, "half of them below the middle exponent"


def test_examples_are_few():
    grid = Option("model", ["r18", "r34"]) * Option("size", [1, 2, 3]) * lr + c
    assert [config.alias() for config in Space(grid).examples()] == [
        {"model": "r18", "size": "1", "lr": "0.0001"},
        {"model": "r18", "size": "3", "lr": "0.0001"},
        {"model": "r34", "size": "2", "lr": "0.01"},
        {"c": "6"},
    ]
    assert Space(Grid()).examples() == [ConfigAlias({})]


def test_a_bound_that_lost_its_last_digit_still_belongs():
    space = Space(Grid(lr))

    for bound, x in ((1e-2, 1e-2 * (1 + 1e-15)), (1e-4, 1e-4 * (1 - 1e-15))):
        trial = SimpleNamespace(suggest_float=lambda *args, x=x, **more: x)
        assert space.suggest(trial) == ConfigAlias({"lr": bound})


def test_a_number_between_those_that_a_range_gives_has_no_parameters():
    space = Space(Grid(lr))
    assert space.encode(ConfigAlias({"lr": 0.001235})) == {"lr": 0.001235}
    assert space.encode(ConfigAlias({"lr": 0.00123456})) is None
    assert space.encode(ConfigAlias({"lr": "0.001"})) is None


def test_aliases_are_kept():
    option = Option("x", [KV([1], "one"), KV([2], "two")])
    space = Space(option * a)
    aliases = [
        space.suggest(FixedTrial({"x": x, "a": y})).alias()
        for x, y in itertools.product(["one", "two"], "12")
    ]
    assert aliases == [config.alias() for config in space.grid]
