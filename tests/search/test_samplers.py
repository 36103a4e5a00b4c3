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

from ecg_mlflow.errors import GridError, SearchError
from ecg_mlflow.grids import KV, Grid, IntUniform, LogUniform, Option
from ecg_mlflow.search.sampler import Trial, TrialState
from ecg_mlflow.search.samplers import known_samplers, make_sampler

COMPLETE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED
RUNNING = TrialState.RUNNING

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

#: 26 configurations: two pairs and a cube.
SMALL = Option("model", ["A", "B"]) @ Option("width", [8, 16]) + Option("model", ["C"]) * Option(
    "width", [8, 16, 32, 64]
) * Option("depth", [1, 2, 3]) * Option("pool", ["mean", "max"])
RANGES = SMALL * Option("lr", LogUniform(1e-4, 1e-1)) * Option("batch", IntUniform(8, 128))


@pytest.fixture
def make(tmp_path):
    def make(name, grid=SMALL, n_trials=None, directions=("maximize",), seed=0):
        return make_sampler(
            name, grid, n_trials=n_trials, directions=directions, seed=seed,
            journal=tmp_path / "search.log",
        )  # fmt: skip

    return make


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


@pytest.mark.parametrize("name", NAMES)
def test_a_finite_grid_is_tried_wholly_and_nothing_twice(make, name):
    sampler = make(name)
    assert sampler.n_trials == 26
    trials = ask_all(sampler)
    assert [trial.number for trial in trials] == list(range(26))
    assert {trial.state for trial in trials} == {RUNNING}
    assert set(configs(trials)) == set(SMALL)
    assert len(set(configs(trials))) == 26
    assert sampler.n_trials == 26
    assert sampler.ask() is None


@pytest.mark.parametrize("name", REMEMBERING)
def test_there_are_no_more_trials_than_allowed(make, name):
    sampler = make(name, n_trials=14)
    assert sampler.n_trials == 14
    assert len(ask_all(sampler)) == 14
    again = make(name, n_trials=17)
    assert again.n_trials == 17
    assert [trial.number for trial in ask_all(again)] == [14, 15, 16]
    fewer = make(name, n_trials=5)
    assert fewer.n_trials == 17
    assert fewer.ask() is None


@pytest.mark.parametrize("name", REMEMBERING)
def test_ranges_are_searched_without_repetition_inside_their_bounds(make, name):
    sampler = make(name, RANGES, n_trials=40)
    trials = ask_all(sampler)
    assert len(set(configs(trials))) == 40
    for config in configs(trials):
        assert 1e-4 <= config["lr"] <= 1e-1
        assert config["batch"] in range(8, 129)
        rest = {key: value for key, value in config.items() if key not in ("lr", "batch")}
        assert rest in [dict(one) for one in SMALL]


@pytest.mark.parametrize("name", NAMES)
def test_trials_are_told_in_any_order_with_several_under_way(make, name):
    sampler = make(name)
    rng = random.Random(0)
    under_way, asked = [], []
    while True:
        while len(under_way) < 5 and (trial := sampler.ask()) is not None:
            under_way.append(trial)
            asked.append(trial.config)
        if not under_way:
            break
        trial = under_way.pop(rng.randrange(len(under_way)))
        state = rng.choice([COMPLETE, COMPLETE, COMPLETE, PRUNED, FAILED])
        values = [] if state is FAILED else [merit(trial.config)]
        sampler.tell(trial.number, state, values, note="" if state is COMPLETE else "why")
    assert len(asked) == 26
    assert set(asked) == set(SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_told_must_make_sense(make, name):
    sampler = make(name)
    number = sampler.ask().number
    for wrong in (-1, 1):
        with pytest.raises(AssertionError, match="not asked for"):
            sampler.tell(wrong, COMPLETE, [0.5])
    with pytest.raises(AssertionError, match="under way"):
        sampler.tell(number, RUNNING)
    sampler.tell(number, COMPLETE, [0.5])
    with pytest.raises(AssertionError, match="told before"):
        sampler.tell(number, FAILED)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_grid_again_changes_nothing_of_what_is_left(make, name):
    sampler = make(name)
    trials = ask_all(sampler, 12)
    sampler.update(SMALL)
    assert sampler.n_trials == 26
    trials += ask_all(sampler)
    assert [trial.number for trial in trials] == list(range(26))
    assert set(configs(trials)) == set(SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_another_grid_in_the_middle(make, name):
    other = SMALL.only({"model": "C"}) + Option("model", ["D"]) * Option("width", [8, 16])
    sampler = make(name)
    trials = ask_all(sampler, 11)
    open_trial = sampler.ask()
    asked = {*configs(trials), open_trial.config}
    sampler.update(other)
    left = set(other) - asked
    assert sampler.n_trials == 12 + len(left)
    later = ask_all(sampler, 3)
    sampler.tell(open_trial.number, COMPLETE, [merit(open_trial.config)])
    later += ask_all(sampler)
    assert set(configs(later)) == left
    assert [trial.number for trial in later] == list(range(12, 12 + len(left)))


def test_the_grid_is_asked_for_in_its_order_and_forgets(make, tmp_path):
    sampler = make("grid")
    assert sampler.is_exhaustive
    assert sampler.history() == []
    assert configs(ask_all(sampler, 3)) == SMALL[:3]
    more = SMALL + Option("model", ["D"]) * Option("width", [8])
    sampler.update(more)
    assert configs(ask_all(sampler)) == more[3:]
    assert list(tmp_path.iterdir()) == []
    assert configs(ask_all(make("grid", SMALL + SMALL))) == list(SMALL)


@pytest.mark.parametrize("name", REMEMBERING)
def test_the_history_is_what_was_asked_and_told(make, name):
    sampler = make(name)
    assert not sampler.is_exhaustive
    assert sampler.history() == []
    asked = []
    states = [COMPLETE, PRUNED, FAILED, RUNNING, COMPLETE]
    for state in states * 3:
        trial = sampler.ask()
        if state is not RUNNING:
            sampler.tell(trial.number, state, [0.5] if state is not FAILED else [], "because")
        asked.append(Trial(trial.number, trial.config, state))
        assert make(name).history() == asked
    again = make(name)
    again.tell(3, COMPLETE, [0.7])
    asked[3] = Trial(3, asked[3].config, COMPLETE)
    assert again.history() == asked
    assert {*configs(asked), *configs(ask_all(again))} == set(SMALL)
    assert again.history() == asked


@pytest.mark.parametrize("name", REMEMBERING)
def test_a_pruned_trial_stays_pruned_with_several_objectives(make, name):
    if name == "cmaes":
        pytest.skip("for one objective")
    directions = ["maximize", "minimize"]
    sampler = make(name, directions=directions)
    for state in (PRUNED, FAILED, COMPLETE):
        sampler.tell(sampler.ask().number, state, [0.5, 0.5], "why")
    found = [trial.state for trial in make(name, directions=directions).history()]
    assert found == [PRUNED, FAILED, COMPLETE]
    assert len(set(configs(ask_all_pairs(make(name, directions=directions))))) == 23


def ask_all_pairs(sampler):
    trials = []
    while (trial := sampler.ask()) is not None:
        trials.append(trial)
        sampler.tell(trial.number, COMPLETE, [merit(trial.config), trial.config["width"]])
    return trials


@pytest.mark.parametrize("name", REMEMBERING)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_a_failure(make, tmp_path, name, value):
    sampler = make(name)
    sampler.tell(sampler.ask().number, COMPLETE, [value])
    sampler.tell(sampler.ask().number, PRUNED, [value])
    assert [trial.state for trial in make(name).history()] == [FAILED, PRUNED]
    failed, pruned = studies(tmp_path)["search"].trials
    assert failed.user_attrs["note"] == f"not finite: [{value}]"
    assert pruned.intermediate_values == {}
    assert len(ask_all(sampler)) == 24


def test_a_note_is_kept(make, tmp_path):
    sampler = make("random")
    sampler.tell(sampler.ask().number, PRUNED, [0.25], "worse than most")
    (trial,) = studies(tmp_path)["search"].trials
    assert trial.user_attrs["note"] == "worse than most"
    assert trial.intermediate_values == {0: 0.25}
    assert trial.state is optuna.trial.TrialState.PRUNED


def studies(folder):
    """Open the Optuna studies of a journal as Optuna alone would."""
    from ecg_mlflow.search.journal import open_journal
    from ecg_mlflow.search.quiet import quiet

    with quiet():
        storage = open_journal(folder / "search.log")
        names = [study.study_name for study in storage.get_all_studies()]
        return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


@pytest.mark.parametrize("name", ["random", "tpe", "qmc", "nsgaii"])
def test_an_interruption_changes_nothing_of_what_is_chosen(make, tmp_path, name):
    whole = ask_all(make(name, RANGES, n_trials=30, seed=3))
    (tmp_path / "search.log").unlink()
    pieces = []
    for n in (1, 4, 9, 2, 10, 1, 1, 2):
        pieces += ask_all(make(name, RANGES, n_trials=30, seed=3), n)
    assert pieces == whole
    (tmp_path / "search.log").unlink()
    assert ask_all(make(name, RANGES, n_trials=30, seed=4)) != whole


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_a_death_between_any_two_lines_changes_nothing_either(make, tmp_path, name):
    n = 15
    whole = ask_all(make(name, RANGES, n_trials=n, seed=3))
    lines = (tmp_path / "search.log").read_bytes().splitlines(keepends=True)
    begun = next(i for i, line in enumerate(lines) if b'"number":11' in line)
    for end in range(begun, len(lines)):
        (tmp_path / "search.log").write_bytes(b"".join(lines[:end]))
        sampler = make(name, RANGES, n_trials=n, seed=3)
        found = sampler.history()
        assert len(found) == sum(b'{"number":' in line for line in lines[:end])
        for trial in found:
            if trial.state is RUNNING:
                sampler.tell(trial.number, COMPLETE, [merit(trial.config)])
        assert configs([*found, *ask_all(sampler)]) == configs(whole)


def test_the_seed_decides_with_the_same_history(make, tmp_path):
    ask_all(make("tpe", RANGES, n_trials=30), 12)
    data = (tmp_path / "search.log").read_bytes()

    def following(seed):
        (tmp_path / "search.log").write_bytes(data)
        return make("tpe", RANGES, n_trials=30, seed=seed).ask().config

    assert following(0) == following(0) != following(1)


PROGRAM = """
import sys
from pathlib import Path
from test_samplers import RANGES, SMALL, ask_all, make_sampler
for grid in SMALL, RANGES:
    journal = Path(sys.argv[1]) / f"{len(grid.names)}.log"
    sampler = make_sampler(
        "tpe", grid, n_trials=24, directions=["maximize"], seed=3, journal=journal
    )
    print([trial.config.alias(as_string=True) for trial in ask_all(sampler)])
"""


def test_the_choice_does_not_depend_on_the_process(tmp_path):
    said = set()
    for hash_seed in "12":
        folder = tmp_path / hash_seed
        folder.mkdir()
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{Path(__file__).parent}:."}
        program = [sys.executable, "-c", PROGRAM, str(folder)]
        done = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
        said.add(done.stdout)
    assert len(said) == 1


def test_replayed_updates_give_the_whole_history(make, tmp_path):
    middle = SMALL.only({"model": "C"})
    last = middle * Option("lr", LogUniform(1e-4, 1e-1))
    sampler = make("tpe", n_trials=30)
    asked = ask_all(sampler, 12)
    under_way = sampler.ask()
    sampler.update(middle)
    asked += [under_way, *ask_all(sampler, 4)]
    sampler.update(last)
    asked += ask_all(sampler, 6)
    sampler.tell(under_way.number, COMPLETE, [merit(under_way.config)])

    again = make("tpe", n_trials=30)
    assert configs(again.history()) == configs(asked[:13])
    again.update(middle)
    assert configs(again.history()) == configs(asked[:17])
    again.update(last)
    assert configs(again.history()) == configs(asked)
    assert {trial.state for trial in again.history()} == {COMPLETE}
    assert list(studies(tmp_path)) == ["search", "search-1", "search-2"]
    assert [trial.number for trial in ask_all(again)] == list(range(23, 30))


def test_a_new_grid_knows_what_was_found_out_before(make, tmp_path):
    sampler = make("tpe")
    trials = ask_all(sampler, 14)
    late, never = sampler.ask(), sampler.ask()
    grid = SMALL.only({"width": ["8", "16", "32"]})
    sampler.update(grid)
    sampler.tell(late.number, PRUNED, [merit(late.config)])
    sampler.tell(never.number, FAILED)
    known = {trial.number for trial in [*trials, late] if trial.config in set(grid)}

    def copied():
        return sorted(trial.user_attrs["copy_of"] for trial in studies(tmp_path)["search-1"].trials)

    assert copied() == sorted(known)
    again = make("tpe")
    again.update(grid)
    assert copied() == sorted(known)


def test_uniform_draws_count_configurations_and_not_cubes(make, tmp_path):
    first = []
    for seed in range(40):
        (tmp_path / "search.log").unlink(missing_ok=True)
        first += configs(ask_all(make("tpe", seed=seed), 5))
    share = statistics.mean(config["model"] == "C" for config in first)
    assert 0.85 < share < 0.98  # 24 of 26; were cubes drawn, it would be 1 of 3


def test_what_was_asked_before_has_failed_for_optuna(make, tmp_path):
    ask_all(make("tpe"))
    trials = studies(tmp_path)["search"].trials
    refused = [trial for trial in trials if "duplicate_of" in trial.user_attrs]
    assert refused
    assert {trial.state for trial in refused} == {optuna.trial.TrialState.FAIL}
    assert sum(trial.state is optuna.trial.TrialState.COMPLETE for trial in trials) == 26


@pytest.mark.parametrize("name", REMEMBERING)
def test_optuna_is_quiet_and_its_settings_stay(make, name):
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    logger = logging.getLogger("optuna")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        ask_all(make(name, RANGES, n_trials=14))
        assert said == []
        assert logger.level == logging.INFO
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def away_from_best(config):
    return sum(abs(config[key] - best) for key, best in {"a": 3, "b": 7, "c": 1}.items())


FIVE_HUNDRED = (
    Option("a", list(range(10))) * Option("b", list(range(10))) * Option("c", list(range(5)))
)


def test_tpe_finds_the_best_of_500_sooner_than_chance(tmp_path):
    def n_needed(name, seed):
        sampler = make_sampler(
            name, FIVE_HUNDRED, n_trials=120, directions=["minimize"], seed=seed,
            journal=tmp_path / f"{name}-{seed}.log",
        )  # fmt: skip
        while (trial := sampler.ask()) is not None:
            away = away_from_best(trial.config)
            if away == 0:
                return trial.number
            sampler.tell(trial.number, COMPLETE, [away])
        return math.inf

    tpe, chance = (
        statistics.median(n_needed(name, seed) for seed in range(5)) for name in ("tpe", "random")
    )
    assert tpe < 70 < 120 < chance


def test_tpe_has_another_suggestion_where_its_first_was_tried(make, tmp_path):
    sampler = make("tpe", FIVE_HUNDRED, n_trials=50, directions=["minimize"])
    while (trial := sampler.ask()) is not None:
        sampler.tell(trial.number, COMPLETE, [away_from_best(trial.config)])
    trials = studies(tmp_path)["search"].trials
    assert sum("duplicate_of" in trial.user_attrs for trial in trials) > 10
    assert sum("fixed_params" in trial.system_attrs for trial in trials) == 10  # only the first


def test_names_of_samplers(make):
    assert known_samplers()[:3] == ["grid", "random", "tpe"]
    assert {"cmaes", "gp", "nsgaii", "nsgaiii", "qmc"} <= set(known_samplers())
    assert "bruteforce" not in known_samplers()
    for name in ("TPE", "TPESampler", "tpesampler", "NSGA-II", "NSGAIISampler", "Random", "Grid"):
        assert make(name).ask() is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GridSampler", "write sampler=grid"),
        ("bruteforce", "sampler=grid does"),
        ("PartialFixedSampler", "fix them"),
        ("BaseSampler", "what samplers are made of"),
        ("BaseGASampler", "what genetic samplers"),
        ("tpi", "there is no sampler 'tpi'.*random, tpe, .*perhaps tpe"),
        ("", "there is no sampler ''"),
    ],
)
def test_names_that_are_refused(make, name, message):
    with pytest.raises(SearchError, match=message):
        make(name)


@pytest.mark.skipif(importlib.util.find_spec("cmaes") is not None, reason="cmaes is installed")
def test_a_missing_package_is_known_before_anything_is_tried(make, tmp_path):
    with pytest.raises(SearchError, match=r"sampler=CmaEs needs .* pip install cmaes"):
        make("CmaEs")
    assert list(tmp_path.iterdir()) == []


def test_a_sampler_for_one_objective_refuses_two(make, tmp_path):
    pytest.importorskip("cmaes")
    with pytest.raises(SearchError, match=r"sampler=cmaes can't be used with 2 objective"):
        make("cmaes", directions=["maximize", "minimize"])
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_would_not_end(make):
    with pytest.raises(SearchError, match=r"option 'lr' is LogUniform\(.*trials=N"):
        make("tpe", RANGES)
    with pytest.raises(SearchError, match="never end"):
        make("tpe").update(RANGES)
    with pytest.raises(GridError, match=r"'lr' is LogUniform.*sampler=tpe"):
        make("grid", RANGES, n_trials=20)


@pytest.mark.parametrize(
    "other",
    [SMALL * Option("lr", [0.1, 0.2]), SMALL.only({"model": "C"}), Grid()],
    ids=["more", "less", "nothing"],
)
def test_a_journal_of_another_grid_is_refused(make, other):
    ask_all(make("random"), 3)
    with pytest.raises(SearchError, match=r"search\.log is of a search in another grid.*move it"):
        make("random", other)


def test_a_journal_of_other_values_of_the_same_names_is_refused(make):
    make("random", Option("lr", [KV(0.1, "high"), KV(0.01, "low")])).ask()
    with pytest.raises(SearchError, match=r"trial 0 .*values of options have changed"):
        make("random", Option("lr", [KV(0.3, "high"), KV(0.03, "low")]))


def test_a_journal_in_which_a_trial_is_missing_is_refused(make, tmp_path):
    ask_all(make("random"), 3)
    path = tmp_path / "search.log"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b'{"number":1}' not in line))
    with pytest.raises(SearchError, match=r"search\.log .* is damaged: trial 1 of 2 is missing"):
        make("random")


def test_a_journal_of_other_directions_is_refused(make):
    ask_all(make("random"), 1)
    with pytest.raises(
        SearchError, match=r"had to maximize its objectives, .* has to minimize, min"
    ):
        make("random", directions=["minimize", "minimize"])


@pytest.mark.parametrize("name", NAMES)
def test_a_grid_of_one_configuration(make, name):
    sampler = make(name, Grid())
    assert sampler.n_trials == 1
    assert dict(sampler.ask().config) == {}
    assert sampler.ask() is None
