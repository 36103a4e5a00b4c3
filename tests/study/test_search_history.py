"""A search is resumed from its runs alone, as if its driver had not died."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from boards import Table, asked, entry, evaluation, told

from ecg_mlflow.errors import SearchError
from ecg_mlflow.grids import KV, Grid, LogUniform, Option
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.search.pruners import SuccessiveHalving
from ecg_mlflow.search.sampler import TrialState
from ecg_mlflow.search.samplers import make_sampler
from ecg_mlflow.study.plan import PlannedRun
from ecg_mlflow.study.resume import KnownRuns, ResumeAction
from ecg_mlflow.study.search_history import (
    TRIAL_END_TAG,
    TRIAL_TAG,
    TrialEnd,
    known_identities,
    read_history,
)

GRID = Option("layout", ["c", "cn", "cna"]) * Option("lr", LogUniform(1e-4, 1e-1)) + Option(
    "layout", ["ca"]
) * Option("depth", [1, 2, 3, 4]) * Option("pool", ["mean", "max"])
LATER = Option("layout", ["ca"]) * Option("depth", list(range(2, 20))) * Option("pool", ["max"])
ASHA = SuccessiveHalving(eta=2, min_epochs=1)
N_TRIALS = 26
N_WORKERS, N_UNDER_WAY = 3, 5


needs_cmaes = pytest.mark.skipif(not find_spec("cmaes"), reason="no cmaes")


def chance(identity, what):
    """Return what comes of a run: a number between 0 and 1."""
    return int(digest([identity, what])[:6], 16) / 16**6


class DeathError(Exception):
    """The driver is killed."""


class Search:
    """A search whose only memory are its child runs."""

    def __init__(self, sampler, reused, deaths, **table):
        self.sampler, self.reused, self.table_options = sampler, reused, table
        self.children: dict[str, dict] = {}
        self.deaths = sorted(deaths, reverse=True)
        self.n_events = self.n_sessions = 0

    def run(self):
        """Return the options of all trials, after as many sessions as it takes."""
        while True:
            self.n_sessions += 1
            try:
                return self.session()
            except DeathError:
                continue

    def moment(self):
        """Die here, if it is time to."""
        self.n_events += 1
        if self.deaths and self.n_events >= self.deaths[-1]:
            self.deaths.pop()
            raise DeathError

    def session(self):
        entries = [entry(identity, **one) for identity, one in self.children.items()]
        known_runs = KnownRuns(entries, Reusable(self.reused))
        sampler = make_sampler(
            self.sampler,
            GRID,
            n_trials=N_TRIALS,
            directions=["maximize"],
            seed=5,
            known=read_history(entries).options,
        )
        self.table = Table(
            GRID.only({"layout": "ca"}),  # examples, as a plan has them
            known_runs=known_runs,
            sampler=sampler,
            tests=lambda run_id: [evaluation(9, chance(run_id.removeprefix("run of "), "test"))],
            **self.table_options,
        )
        decisions = self.table.open()
        self.carry_out()
        # Those that had a worker have one again.
        decisions.sort(key=lambda one: one.action is ResumeAction.START)
        waiting = [
            one.run
            for one in decisions
            if one.action in (ResumeAction.START, ResumeAction.CONTINUE)
        ]
        running: list[PlannedRun] = []
        while True:
            while len(waiting) + len(running) < N_UNDER_WAY:
                if not (decisions := self.table.scheduler.next_runs()):
                    break
                self.moment()
                waiting += [one.run for one in decisions if one.action is ResumeAction.START]
            while waiting and len(running) < N_WORKERS:
                self.start(waiting.pop(0))
                running.append(self.started)
                self.moment()
            if not running:
                return {n: one.options() for n, one in self.table.scheduler.trials.items()}
            run = min(running, key=lambda one: chance(one.identity, "end"))
            running.remove(run)
            self.end(run)
            running = [one for one in running if not self.children[one.identity]["is_pruned"]]

    def start(self, run):
        new = {
            "status": "RUNNING",
            "tags": self.table.scheduler.trial_tags(run),
            "is_pruned": False,
        }
        self.children.setdefault(run.identity, new)
        self.started = run
        self.table.scheduler.handed_out(run, f"run of {run.identity}")

    def end(self, run):
        """Let a run be evaluated once, and come to its end or be given up."""
        child, scheduler = self.children[run.identity], self.table.scheduler
        scheduler.tested(run, [(9, {"f1": chance(run.identity, "test")})])
        self.moment()
        self.carry_out()
        if child["is_pruned"]:
            return
        if chance(run.identity, "fails") < 0.1:
            child["status"] = "FAILED"
            scheduler.failed(run)
        else:
            metrics = {"f1": chance(run.identity, "test")}
            child |= {"status": "FINISHED", "metrics": metrics, "ended_ms": self.n_events}
            self.moment()
            scheduler.finished(run, metrics)
        self.carry_out()

    def carry_out(self):
        for run_ids, end in self.table.scheduler.ends():
            child = self.children[run_ids[0].removeprefix("run of ")]
            child["tags"] = child["tags"] | end.tags()
            self.moment()
        for run, _ in self.table.scheduler.withdrawals():
            self.children[run.identity] |= {"status": "KILLED", "is_pruned": True}


class Reusable:
    """Finished runs of other studies: those of a share of all identities."""

    def __init__(self, share):
        self.share = share

    def get(self, identity):
        if chance(identity, "reused") >= self.share:
            return None
        return entry(identity, metrics={"f1": chance(identity, "test")})


@pytest.mark.parametrize(
    ("sampler", "reused", "pruner", "changes"),
    [
        ("tpe", 0, None, False),
        ("tpe", 0.4, ASHA, False),
        ("tpe", 0.4, ASHA, True),
        ("random", 0.4, None, True),
        ("qmc", 0.4, ASHA, False),
        ("nsgaii", 0, None, True),
        pytest.param("cmaes", 0.4, ASHA, True, marks=needs_cmaes),
    ],
)
def test_deaths_change_nothing_of_what_is_chosen(sampler, reused, pruner, changes):
    def make(deaths=()):
        def update(results):
            return LATER if changes and len(results) == 15 else None

        options = {"pruner": pruner, "update_grid": update, "update_every": "%5"}
        return Search(sampler, reused, deaths, **options)

    whole = make()
    expected = whole.run()
    assert len(expected) == N_TRIALS
    for first in (0, 3, 8):
        search = make(range(first, 10_000, 11 + first))
        assert search.run() == expected
        assert search.n_sessions > 3
        assert search.children.keys() == whole.children.keys()


# --- What is stored ------------------------------------------------------------------------------


def configs():
    return list(Grid(Option("layout", ["c", "ca"])))


def test_what_is_written_is_read_again():
    first, second = configs()
    entries = [
        entry("a", tags=told(0, first, TrialState.PRUNED, [float("nan")], n_asked=3, order=1)),
        entry("b", tags=told(1, second, TrialState.COMPLETE, [0.25, 2], n_asked=3, order=0)),
        entry("c"),
    ]
    history = read_history(entries)
    assert history.options == {0: {"layout": "c"}, 1: {"layout": "ca"}}
    assert [(end.number, end.state) for end in history.ends] == [
        (1, TrialState.COMPLETE),
        (0, TrialState.PRUNED),
    ]
    assert history.ends[0].values == [0.25, 2.0]
    assert history.n_asked == 3


def test_a_tag_that_was_cut_counts_as_missing_and_a_long_reason_is_no_danger():
    (first, _) = configs()
    tags = asked(0, first)
    assert read_history([entry("a", tags={TRIAL_TAG: tags[TRIAL_TAG][:-5] + "..."})]).options == {}
    end = TrialEnd(0, 1, 0, TrialState.FAILED, note="x" * 100_000)
    assert len(end.tags()[TRIAL_END_TAG]) < 5000
    assert read_history([entry("a", tags=end.tags())]).ends[0].note == "x" * 1000


def plan(grid, update_grid=None):
    return SimpleNamespace(
        research=SimpleNamespace(grid=Grid(grid), update_grid=update_grid),
        planner=SimpleNamespace(plan=plan_by_values),
    )


def plan_by_values(number, config):
    """Plan two runs, whose identities are the values, whatever they are called."""
    return SimpleNamespace(identities=[f"{dict(config)} r{r}" for r in range(2)])


def known_of(plan, grid):
    """Return what is known of the plan where a grid's first repetitions are stored."""
    trials = {number: one.alias() for number, one in enumerate(Grid(grid))}
    return known_identities(plan, trials, {f"{dict(one)} r0" for one in Grid(grid)})


def test_a_search_is_resumed_in_a_grid_that_has_its_trials():
    grid = Option("lr", [KV(0.1, "high"), KV(0.01, "low")])
    known = known_of(plan(grid), grid)
    assert known == {f"{{'lr': {lr}}} r{r}" for lr in (0.1, 0.01) for r in (0, 1)}
    assert known_identities(plan(grid), {}, {"a"}) == set()
    trials = {0: {"lr": "high"}}
    assert len(known_identities(plan(grid), trials, {"a"})) == 2, "none of its runs has a child"


def test_a_search_is_not_resumed_where_its_options_are_gone_or_mean_something_else():
    grid = Option("lr", [KV(0.1, "high"), KV(0.01, "low")])
    less, other = Option("lr", [KV(0.1, "high")]), Option("lr", [KV(0.1, "high"), KV(0.03, "low")])
    with pytest.raises(SearchError, match=r"trial 1 .*'lr': 'low'.* not in the grid any more"):
        known_of(plan(less), grid)
    assert known_of(plan(less, update_grid=len), grid)
    with pytest.raises(SearchError, match=r"trial 1 .*values of options have changed"):
        known_of(plan(other), grid)
