"""Searches whose processes are killed at random moments run nothing twice and lose nothing.

The grid is a small version of the reference one: a sum of two pairs and a product. What the killed
searches leave in the store is compared, value by value, with an undisturbed study of the whole
grid.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
from chaos import SEED, Fault, Lab, assert_clean, differences
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from studies import numpy_grid

from ecg_mlflow.executors.processes import ProcessExecutor
from ecg_mlflow.study.child_runs import ChildRuns
from ecg_mlflow.study.search_history import TRIAL_END_TAG, TrialEnd, read_history
from ecg_mlflow.study.trial_scheduler import TrialScheduler
from ecg_mlflow.study.trials import OpenTrial
from ecg_mlflow.study.worker.main import score
from ecg_mlflow.study.worker.training_run import TrainingRun
from ecg_mlflow.tracking.runs import REASON_TAG
from ecg_mlflow.tracking.stored_run import ATTEMPT_TAG, IDENTITY_TAG, PRUNED_TAG, StoredRun
from ecg_mlflow.tracking.study_run import Study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
nightly = pytest.mark.nightly

GRID = numpy_grid(
    before="""
classic = (
    Option.product(Option("hidden", [5, 6]), Option("momentum", [0.6, 0.7]))
    * Option("dropout", [0.25])
    * Option("learning_rate", [0.01])
)
custom = (
    Option("hidden", [2, 3, 4])
    * Option("momentum", [0.5, 0.9])
    * Option("dropout", [0.25])
    * Option("learning_rate", [0.003, 0.01])
)
""",
    grid="classic + custom",
    train="root.random_split_signals(128, 2).apply(unhurried)",
    epochs="9",
    test_every="'3 epochs'",
    optimizer="Optimizer('sgd', learning_rate=C('learning_rate'))",
    split="Split((0.5, 0.25, 0.25), stratified=True, seed=0)",
)
N_CONFIGS = 14
#: Of a run: ten records in batches of five.
N_ITERATIONS = 18
#: Has other values in all runs, so that there is always a best one.
OBJECTIVE = "validation_log_loss"
ALWAYS = ("--workers", "2", "--objective", OBJECTIVE)

#: Deaths of the driver, one session after the other: where the sampler has chosen, or was told what
#: the store doesn't know, where the store knows of a run and the driver doesn't, or the other way
#: round.
DEATHS = {
    "grid": (
        Fault("driver", Study.create_child, 3, after=True),
        Fault("driver", Study.finish_child, 2),
        Fault("driver", Study.create_child, 4),
    ),
    "random": (
        Fault("driver", TrialScheduler.trial_tags, 3),
        Fault("driver", TrialEnd.tags, 4),
        Fault("driver", MlflowClient.create_run, 3, after=True),
    ),
    "tpe": (
        Fault("driver", TrialScheduler.trial_tags, 2),
        # With those before them ten trials have ended, so that TPE begins, and some are left.
        Fault("driver", TrialEnd.tags, 8),
    ),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory, beats):
    """The runs of an undisturbed study of the whole grid, by identity."""
    found = Lab(tmp_path_factory, beats, GRID).undisturbed()
    assert len(found) == N_CONFIGS
    for one in found.values():
        assert [step for step, _ in one["metric loss"]] == list(range(N_ITERATIONS))
        assert [step for step, _ in one[f"metric {OBJECTIVE}"]] == [5, 11, 17]
        assert [step for step, _ in one["metric test_f1"]] == [N_ITERATIONS - 1]
        assert all(one[f"artifact predictions/{name}.csv"] for name in ("last", "best"))
        assert len(one["datasets"]) == 3
    finals = [one[f"metric {OBJECTIVE}"][-1][1] for one in found.values()]
    assert len(set(finals)) == N_CONFIGS, "the objective leaves no doubt who is better"
    return found


@pytest.fixture
def lab(tmp_path_factory, beats):
    with Lab(tmp_path_factory, beats, GRID) as lab:
        yield lab


@dataclass
class Search:
    """A search whose driver is killed and that is gone on with, and what must hold all the time."""

    lab: Lab
    options: tuple[str, ...]
    parent: str | None = None
    n_deaths: int = 0
    #: Of children that were given up and ended: attempts and number of losses.
    ended: dict[str, tuple[str, int]] = field(default_factory=dict)

    def go(self, *faults):
        """Begin the search, or go on with it."""
        if self.parent is None:
            return self.lab.run(*ALWAYS, *self.options, faults=faults)
        return self.lab.run("--resume", self.parent, faults=faults)

    def die(self, *faults, after_s=0.0):
        """Have a session that ends with a fault, or without one some time after it has begun."""
        driver = self.go(*faults)
        if not faults:
            driver.wait_for(lambda: driver.parent and self.lab.is_training(driver.parent))
            time.sleep(after_s)
            driver.kill()
        assert driver.end() == -signal.SIGKILL, driver.said
        assert {fault.name for fault in faults} <= self.lab.happened()
        assert "Traceback" not in driver.said, driver.said
        self.n_deaths += 1
        self.parent = self.parent or driver.parent
        self.lab.wait_until_all_have_ended()  # its workers
        self.check()

    def finish(self):
        """Have a last session, and return its children."""
        self.lab.finish(self.parent)
        self.check()
        assert self.lab.status(self.parent) == "FINISHED"
        assert_clean(self.lab)
        return self.lab.children(self.parent)

    def check(self):
        """Check what holds after each session."""
        children = self.lab.children(self.parent)
        counts = Counter(run.data.tags[IDENTITY_TAG] for run in children)
        assert set(counts.values()) <= {1}, "an identity has two children"
        for run in children:
            if run.info.status != "KILLED" or PRUNED_TAG not in run.data.tags:
                assert run.info.run_id not in self.ended, "it was given up, and is gone on with"
                continue
            losses = self.lab.client.get_metric_history(run.info.run_id, "loss")
            now = run.data.tags[ATTEMPT_TAG], len(losses)
            assert self.ended.setdefault(run.info.run_id, now) == now, "it was gone on with"


@pytest.mark.parametrize(
    ("sampler", "is_long"),
    [
        ("tpe", False),
        pytest.param("tpe", True, marks=nightly),
        pytest.param("random", True, marks=nightly),
        pytest.param("grid", True, marks=nightly),
    ],
)
def test_no_configuration_is_run_twice_or_lost(lab, expected, sampler, is_long):
    chance = random.Random(f"{SEED} {sampler}")
    search = Search(lab, ("--sampler", sampler))
    first, *others = DEATHS[sampler]
    search.die(first)
    if sampler == "grid":
        assert lab.call("reap")[0] == 0
    else:
        number, after = chance.randint(1, 3), chance.random() < 0.5  # of the trials that end
        search.die(Fault("driver", ChildRuns.store_end, number, after=after))
    for death in others:
        search.die(death)
    if is_long:
        lab.environment["UNHURRIED_S"] = "0.01"
        search.die(after_s=chance.uniform(0, 2))
    children = search.finish()

    assert [run.info.status for run in children] == ["FINISHED"] * N_CONFIGS
    assert {run.data.tags[IDENTITY_TAG] for run in children} == set(expected)
    # The plain grid selects nothing.
    ranked = sorted(children, key=lambda run: run.data.metrics[OBJECTIVE])
    finalists = children if sampler == "grid" else ranked[:3]
    assert_same_but_for_tests(lab, children, finalists, expected)
    if sampler != "grid":
        told = ends(children)
        assert [one.state.name for one in told.values()] == ["COMPLETE"] * N_CONFIGS
        values = {int(run.data.params["config"]): run.data.metrics[OBJECTIVE] for run in children}
        assert {number: one.values[0] for number, one in told.items()} == values
        journal = f"search/{search.parent}.journal"
        path = lab.client.download_artifacts(search.parent, journal, str(lab.folder))
        storage = JournalStorage(JournalFileBackend(path))
        (study,) = storage.get_all_studies()
        exported = storage.get_all_trials(study._study_id)
        assert {one.user_attrs["number"]: one.value for one in exported} == values


@nightly
@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_what_was_pruned_stays_so_and_the_test_records_are_scored_once(lab, expected, sampler):
    # A run takes two seconds, in which it hears that it is given up.
    lab.environment["UNHURRIED_S"] = "0.01"
    search = Search(lab, ("--sampler", sampler, "--pruner", "asha:eta=2,min_epochs=3"))
    # Two workers die where they give up a run, before and after; the driver, where it has decided
    # to give one up and nobody knows, and where the store knows and the worker does not.
    search.die(
        Fault("worker", TrainingRun.withdraw),
        Fault("worker", TrainingRun.withdraw, after=True),
        Fault("driver", Study.finish_child, 5),
    )
    search.die(Fault("driver", OpenTrial.withdraw, after=True))
    search.die(Fault("driver", ProcessExecutor.send))
    # Who comes by ends the dead study's runs, with `reap` or with a study that comes to nothing.
    status, said = lab.call(*{"grid": ["reap"], "tpe": ["run", "no_such_grid.py"]}[sampler])
    assert (status, search.parent in said) == ({"grid": 0, "tpe": 1}[sampler], True)
    assert not lab.running()
    # While the finalists are scored.
    search.die(Fault("worker", score), Fault("driver", TrialScheduler.scored, 1))
    search.die(
        Fault("worker", score, after=True), Fault("driver", TrialScheduler.scored, 1, after=True)
    )
    children = search.finish()

    assert len(children) == N_CONFIGS
    pruned = [run for run in children if run.info.status == "KILLED"]
    finished = [run for run in children if run.info.status == "FINISHED"]
    assert len(finished) + len(pruned) == N_CONFIGS
    assert len(pruned) >= 4
    for run in pruned:
        assert run.data.tags[PRUNED_TAG]
        assert run.data.tags[REASON_TAG]
        assert_prefix(lab.portrait(run), expected[run.data.tags[IDENTITY_TAG]])
    # A run may come to its end before it hears that it is given up.
    candidates = [run for run in finished if PRUNED_TAG not in run.data.tags]
    if sampler == "tpe":
        told = {number: one.state.name for number, one in ends(children).items()}
        assert sorted(told) == sorted(int(run.data.params["config"]) for run in children)
        assert {told[int(run.data.params["config"])] for run in pruned} == {"PRUNED"}
        # ... or while the driver dies that has just given it up.
        n_not_tagged = len(candidates)
        candidates = [r for r in candidates if told[int(r.data.params["config"])] == "COMPLETE"]
        assert n_not_tagged - len(candidates) <= search.n_deaths
        assert set(told.values()) == {"COMPLETE", "PRUNED"}
    best = sorted(candidates, key=lambda run: run.data.metrics[OBJECTIVE])[:3]
    assert_same_but_for_tests(lab, finished, best, expected)


@nightly
def test_further_repetitions_go_to_the_same_configurations(lab, expected):
    search = Search(lab, ("--adaptive", "--reps", "3", "--configs", "2-10"))
    search.die(Fault("driver", Study.finish_child, 7))
    search.die(Fault("driver", Study.finish_child, 3, after=True))  # the first gate
    search.die(Fault("driver", Study.create_child, 2))
    children = search.finish()

    assert {run.info.status for run in children} == {"FINISHED"}
    values = {}
    for run in children:
        params = run.data.params
        values.setdefault(params["config"], {})[int(params["repetition"])] = run.data.metrics
        losses = lab.client.get_metric_history(run.info.run_id, "loss")
        assert sorted(one.step for one in losses) == list(range(N_ITERATIONS))
    assert len(values) == 9
    # The best third of those that have as many repetitions: three of nine, then one of three.
    by_first = sorted(values, key=lambda one: values[one][0][OBJECTIVE])
    assert {one for one, found in values.items() if len(found) >= 2} == set(by_first[:3])
    by_two = sorted(by_first[:3], key=lambda one: sum(values[one][i][OBJECTIVE] for i in (0, 1)))
    (most,) = (one for one, found in values.items() if len(found) == 3)
    assert most == by_two[0]
    scored = [run for run in children if "test_f1" in run.data.metrics]
    assert [run.data.params["config"] for run in scored] == [most] * 3
    first = [run for run in children if run.data.params["repetition"] == "0"]
    assert_same_but_for_tests(lab, first, [run for run in first if run in scored], expected)


# --- What must be there in the end -------------------------------------------------------------


def assert_same_but_for_tests(lab, runs, finalists, expected):
    """Check finished runs, and that of them the finalists were tested once and no others."""
    problems = []
    for run in runs:
        mine, theirs = lab.portrait(run), expected[run.data.tags[IDENTITY_TAG]]
        tests = {name for name in theirs if name.startswith("metric test_")}
        tests.add("artifact predictions/best.csv")
        found = {name: mine[name] for name in tests & mine.keys()}
        assert found == ({name: theirs[name] for name in tests} if run in finalists else {})
        found = differences(without_tests(mine), without_tests(theirs))
        problems += [f"{run.info.run_name} ({run.info.run_id}): {one}" for one in found]
    assert not problems, "\n".join(problems)


def without_tests(one):
    """Leave out what only tested runs have, and a configuration's number in its search."""
    kept = {
        name: value
        for name, value in one.items()
        if not name.startswith(("metric test_", "artifact predictions/"))
        and name not in ("param config", "artifact plots/confusion_matrix_test.png")
    }
    configuration = json.loads(one["artifact configuration.json"])
    return {**kept, "artifact configuration.json": configuration | {"config": 0}}


def assert_prefix(mine, whole):
    """Check that all metrics of a run are the beginning of another's."""
    assert 0 < len(mine["metric loss"]) < N_ITERATIONS
    for name, value in mine.items():
        if name.startswith("metric "):
            assert not name.startswith("metric test_")
            assert value == whole[name][: len(value)], name
        assert not name.startswith("model ")


def ends(children):
    """Return what the sampler was told, by number."""
    history = read_history(map(StoredRun.from_mlflow, children))
    assert [end.n_asked for end in history.ends] == sorted(end.n_asked for end in history.ends)
    assert len(history.ends) == sum(TRIAL_END_TAG in run.data.tags for run in children)
    return {end.number: end for end in history.ends}
