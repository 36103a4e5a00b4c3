"""What every sampler keeps to, and what the single ones do beyond that."""

from __future__ import annotations

import importlib.util
import logging
import math
import random
import statistics
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from ecg_mlflow.errors import GridError, SearchError
from ecg_mlflow.grids import Grid, IntUniform, LogUniform, Option
from ecg_mlflow.search.optuna_sampler import OptunaSampler, quiet
from ecg_mlflow.search.sampler import GridSampler, TrialState
from ecg_mlflow.search.samplers import make_sampler

COMPLETE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED

NAMES = [
    "grid",
    "random",
    "tpe",
    "qmc",
    "nsgaii",
    pytest.param(
        "cmaes", marks=pytest.mark.skipif(not importlib.util.find_spec("cmaes"), reason="no cmaes")
    ),
    pytest.param(
        "gp", marks=pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="no torch")
    ),
]
REMEMBERING = [name for name in NAMES if name != "grid"]

#: 26 configurations: two pairs and a full product.
SMALL = Option("model", ["A", "B"]) @ Option("width", [8, 16]) + Option("model", ["C"]) * Option(
    "width", [8, 16, 32, 64]
) * Option("depth", [1, 2, 3]) * Option("pool", ["mean", "max"])
RANGES = SMALL * Option("lr", LogUniform(1e-4, 1e-1)) * Option("batch", IntUniform(8, 128))


def make(name, grid=SMALL, n_trials=None, directions=("maximize",), seed=0, known=None):
    if name == "grid":
        return GridSampler(grid)
    return make_sampler(
        name, grid, n_trials=n_trials, directions=directions, seed=seed, known=known
    )


def merit(config):
    """The best of SMALL is C, 32 wide, 2 deep, with max."""
    return (
        (config["model"] == "C")
        - abs(math.log2(config["width"] / 32))
        - abs(config.get("depth", 1) - 2)
        + (config.get("pool") == "max")
    )


def ask_all(sampler, n=10**6, tell=True):
    trials = []
    while len(trials) < n and (trial := sampler.ask()) is not None:
        trials.append(trial)
        if tell:
            sampler.tell(trial.number, COMPLETE, [merit(trial.config)])
    return trials


def configs(trials):
    return [trial.config for trial in trials]


def options(trials):
    """Return what the store knows of trials."""
    return {trial.number: trial.config.alias() for trial in trials}


def studies(sampler, folder):
    """Open the Optuna studies of a sampler's journal as Optuna alone would."""
    sampler.write_journal(folder / "search.journal")
    with quiet():
        storage = JournalStorage(JournalFileBackend(str(folder / "search.journal")))
        names = [study.study_name for study in storage.get_all_studies()]
        return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


@pytest.mark.parametrize("name", REMEMBERING)
def test_there_are_no_more_trials_than_allowed(name):
    sampler = make(name, n_trials=14)
    assert sampler.n_trials == 14
    trials = ask_all(sampler)
    assert len(trials) == 14
    again = make(name, n_trials=17, known=options(trials))
    assert again.n_trials == 17
    assert [trial.number for trial in ask_all(again)] == list(range(17))
    fewer = make(name, n_trials=5, known=options(trials))
    assert fewer.n_trials == 14
    assert configs(ask_all(fewer)) == configs(trials)


@pytest.mark.parametrize("name", REMEMBERING)
def test_ranges_are_searched_without_repetition_inside_their_bounds(name):
    sampler = make(name, RANGES, n_trials=40)
    trials = ask_all(sampler)
    assert len(set(configs(trials))) == 40
    for config in configs(trials):
        assert 1e-4 <= config["lr"] <= 1e-1
        assert config["batch"] in range(8, 129)
        rest = {key: value for key, value in config.items() if key not in ("lr", "batch")}
        assert rest in [dict(one) for one in SMALL]


@pytest.mark.parametrize("name", NAMES)
def test_a_finite_grid_is_tried_wholly_and_nothing_twice_with_several_under_way(name):
    sampler = make(name)
    assert sampler.n_trials == 26
    rng, under_way, asked = random.Random(0), [], []
    while True:
        while len(under_way) < 5 and (trial := sampler.ask()) is not None:
            under_way.append(trial)
            asked.append(trial)
        if not under_way:
            break
        trial = under_way.pop(rng.randrange(len(under_way)))
        state = rng.choice([COMPLETE, COMPLETE, COMPLETE, PRUNED, FAILED])
        values = [] if state is FAILED else [merit(trial.config)]
        sampler.tell(trial.number, state, values, note="" if state is COMPLETE else "why")
    assert [trial.number for trial in asked] == list(range(26))
    assert set(configs(asked)) == set(SMALL)
    assert sampler.n_trials == 26


OTHER = SMALL.only({"model": "C"}) + Option("model", ["D"]) * Option("width", [8, 16])


@pytest.mark.parametrize("other", [SMALL, OTHER], ids=["same", "other"])
@pytest.mark.parametrize("name", NAMES)
def test_another_grid_in_the_middle(name, other):
    sampler = make(name)
    trials = ask_all(sampler, 11)
    open_trial = sampler.ask()
    left = set(other) - {*configs(trials), open_trial.config}
    sampler.update(other)
    assert sampler.n_trials == 12 + len(left)
    later = ask_all(sampler, 3)
    sampler.tell(open_trial.number, COMPLETE, [merit(open_trial.config)])
    later += ask_all(sampler)
    assert set(configs(later)) == left
    assert [trial.number for trial in later] == list(range(12, 12 + len(left)))


def test_the_grid_is_asked_for_in_its_order_and_leaves_no_journal(tmp_path):
    sampler = make("grid")
    assert configs(ask_all(sampler, 3)) == SMALL[:3]
    more = SMALL + Option("model", ["D"]) * Option("width", [8])
    sampler.update(more)
    assert configs(ask_all(sampler)) == more[3:]
    sampler.write_journal(tmp_path / "search.journal")
    assert list(tmp_path.iterdir()) == []
    assert configs(ask_all(make("grid", SMALL + SMALL))) == list(SMALL)


@pytest.mark.parametrize("name", REMEMBERING)
def test_ends_of_several_objectives(name, tmp_path):
    if name == "cmaes":
        pytest.skip("for one objective")
    sampler = make(name, directions=["maximize", "minimize"])
    for state in (PRUNED, FAILED, COMPLETE):
        sampler.tell(sampler.ask().number, state, [0.5, 0.5], "why")
    found = [trial.state.name for trial in studies(sampler, tmp_path)["search"].trials]
    assert found == ["PRUNED", "FAIL", "COMPLETE"]
    left = 0
    while (trial := sampler.ask()) is not None:
        sampler.tell(trial.number, COMPLETE, [merit(trial.config), trial.config["width"]])
        left += 1
    assert left == 23


@pytest.mark.parametrize("name", REMEMBERING)
def test_a_value_that_is_not_finite_is_a_failure(tmp_path, name):
    sampler = make(name)
    for value in (math.nan, math.inf, -math.inf):
        sampler.tell(sampler.ask().number, COMPLETE, [value])
        sampler.tell(sampler.ask().number, PRUNED, [value])
    trials = studies(sampler, tmp_path)["search"].trials
    assert [one.state.name for one in trials] == ["FAIL", "PRUNED"] * 3
    notes = [one.user_attrs["note"] for one in trials[::2]]
    assert notes == [f"not finite: [{value}]" for value in ("nan", "inf", "-inf")]
    assert not any(one.intermediate_values for one in trials)
    assert len(ask_all(sampler)) == 20


def test_the_journal_has_what_was_asked_and_told_and_no_mere_suggestions(tmp_path):
    sampler = make("tpe")
    trials = ask_all(sampler, 20)
    sampler.tell(sampler.ask().number, PRUNED, [0.25], "worse than most")
    *others, pruned = studies(sampler, tmp_path)["search"].trials
    assert [one.user_attrs["number"] for one in others] == list(range(20))
    assert [one.value for one in others] == [merit(trial.config) for trial in trials]
    assert (pruned.state.name, pruned.user_attrs["note"]) == ("PRUNED", "worse than most")
    assert pruned.intermediate_values == {0: 0.25}


def test_a_genetic_sampler_counts_the_generations_of_all_that_was_asked(tmp_path):
    sampler = make("nsgaii")
    ask_all(sampler, 14)
    for trial in studies(sampler, tmp_path)["search"].trials:
        assert any("generation" in name for name in trial.system_attrs)


# --- Resuming; see also tests/study/test_search_history.py ---------------------------------------


@pytest.mark.parametrize(("name", "seed"), [("random", 3), ("nsgaii", 3), ("tpe", 4)])
def test_what_is_known_is_asked_again_by_another_sampler_too_and_nothing_twice(name, seed):
    trials = ask_all(make("tpe", seed=3), 20)
    known = options(trials[5:15])
    asked = ask_all(make(name, seed=seed, known=known))
    assert configs(asked[5:15]) == configs(trials[5:15])
    assert set(configs(asked)) == set(SMALL)
    assert len(asked) == 26


@pytest.mark.parametrize(
    "other",
    [SMALL.only({"model": "C"}), SMALL * Option("lr", [0.1]), Grid()],
    ids=["less", "more options", "nothing"],
)
def test_a_search_is_not_resumed_in_a_grid_that_lacks_its_trials(other):
    said = r"trial 0 .*'model': 'A'.* another grid.*undo the change"
    with pytest.raises(SearchError, match=said):
        make("random", other, known={0: {"model": "A", "width": "8"}}).ask()


def test_a_grid_that_has_grown_is_searched_further():
    more = SMALL + Option("model", ["D"]) * Option("width", [8, 16])
    sampler = make("random", more, known=options(ask_all(make("random"))))
    assert sampler.n_trials == 28
    assert set(configs(ask_all(sampler))) == set(more)


PROGRAM = """
from test_samplers import RANGES, SMALL, ask_all, make_sampler
for grid in SMALL, RANGES:
    sampler = make_sampler("tpe", grid, n_trials=24, directions=["maximize"], seed=3)
    print([trial.config.alias(as_string=True) for trial in ask_all(sampler)])
"""


def test_the_choice_does_not_depend_on_the_process():
    said = set()
    for hash_seed in "12":
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{Path(__file__).parent}:."}
        program = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
        said.add(done.stdout)
    assert len(said) == 1


def test_a_new_grid_knows_what_was_found_out_before(tmp_path):
    sampler = make("tpe")
    trials = ask_all(sampler, 14)
    late, never = sampler.ask(), sampler.ask()
    grid = SMALL.only({"width": ["8", "16", "32"]})
    sampler.update(grid)
    sampler.tell(late.number, PRUNED, [merit(late.config)])
    sampler.tell(never.number, FAILED)
    known = {trial.number for trial in [*trials, late] if trial.config in set(grid)}

    copies = studies(sampler, tmp_path)["search-1"].trials
    assert sorted(trial.user_attrs["copy_of"] for trial in copies) == sorted(known)


@pytest.mark.parametrize("name", REMEMBERING)
def test_optuna_is_quiet_and_its_settings_stay(name):
    said, handler, logger = [], logging.Handler(), logging.getLogger("optuna")
    handler.emit = said.append
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        ask_all(make(name, RANGES, n_trials=14))
        assert (said, logger.level) == ([], logging.INFO)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


FIVE_HUNDRED = (
    Option("a", list(range(10))) * Option("b", list(range(10))) * Option("c", list(range(5)))
)


def away_from_best(config):
    return sum(abs(config[key] - best) for key, best in {"a": 3, "b": 7, "c": 1}.items())


def needed(name, seed):
    """Return how many trials it takes to find the best of 500."""
    sampler = make(name, FIVE_HUNDRED, n_trials=120, directions=["minimize"], seed=seed)
    while (trial := sampler.ask()) is not None:
        if (away := away_from_best(trial.config)) == 0:
            return trial.number
        sampler.tell(trial.number, COMPLETE, [away])
    return math.inf


def test_tpe_finds_the_best_of_500_sooner_than_chance():
    tpe, chance = (
        statistics.median(needed(name, seed) for seed in range(5)) for name in ("tpe", "random")
    )
    assert tpe < 70 < 120 < chance


def test_tpe_has_another_suggestion_where_its_first_was_tried(monkeypatch):
    drawn = []
    draw = OptunaSampler._drawn
    sampler = make("tpe", FIVE_HUNDRED, n_trials=50, directions=["minimize"])
    monkeypatch.setattr(OptunaSampler, "_drawn", lambda *args: drawn.append(args) or draw(*args))
    while (trial := sampler.ask()) is not None:
        sampler.tell(trial.number, COMPLETE, [away_from_best(trial.config)])
    assert len(drawn) == 10  # only the first


@pytest.mark.parametrize("name", ["TPE", "TPESampler", "NSGA-II", "NSGAIISampler", "Random"])
def test_names_of_samplers(name):
    assert make(name).ask() is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GridSampler", "write sampler=grid"),
        ("Grid", "write sampler=grid"),
        ("bruteforce", "sampler=grid does"),
        ("PartialFixedSampler", "fix them"),
        ("BaseSampler", "there is no sampler 'BaseSampler'"),
        (
            "tpi",
            "'tpi': choose one of grid, random, tpe, cmaes, gp, nsgaii, nsgaiii, qmc, perhaps tpe",
        ),
        ("", "there is no sampler ''"),
    ],
)
def test_names_that_are_refused(name, message):
    with pytest.raises(SearchError, match=message):
        make(name)


def test_what_a_sampler_lacks_is_known_before_anything_is_tried():
    if importlib.util.find_spec("cmaes") is None:
        with pytest.raises(SearchError, match=r"sampler=CmaEs needs .* pip install cmaes"):
            make("CmaEs")
        return
    with pytest.raises(SearchError, match=r"sampler=cmaes can't be used with 2 objective"):
        make("cmaes", directions=["maximize", "minimize"])


def test_a_search_that_would_not_end():
    with pytest.raises(SearchError, match=r"option 'lr' is LogUniform\(.*trials=N"):
        make("tpe", RANGES)
    with pytest.raises(SearchError, match="never end"):
        make("tpe").update(RANGES)
    with pytest.raises(GridError, match=r"'lr' is LogUniform.*sampler=tpe"):
        make("grid", RANGES, n_trials=20)


@pytest.mark.parametrize("name", NAMES)
def test_a_grid_of_one_configuration(name):
    assert [dict(trial.config) for trial in ask_all(make(name, Grid()), tell=False)] == [{}]
