"""Compares searches of a grid with training all of it.

    python benchmarks/search.py --folder FOLDER

1. The 576 configurations of the grid below are trained, each once: the exhaustive study.
2. Five studies search the same grid with ``sampler=tpe`` and ``pruner=asha``, a seed each. They are
   started by the command line, and reuse nothing.
3. Other ways to search are replayed with the curves of the exhaustive study in place of training.
   Two runs train at once there too, and an epoch takes the same time for each of them. On a CPU a
   configuration has the same curve in every study, so this is what would have happened; that the
   curves are the same is checked.

What counts is the number of iterations, those of runs that were given up included, and how far the
best configuration of a search is from the best one of all. All studies stay in FOLDER: a second
call trains only what is missing. `README.md` beside this file says how to read the figures.

This file is also the grid file of its studies.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import os
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ecg_mlflow import C, Grid, Optimizer, Option, Pipeline, Research, ResNet, Split
from ecg_mlflow.records import load_corpus
from ecg_mlflow.search.objective import Objective
from ecg_mlflow.search.optuna_sampler import quiet
from ecg_mlflow.search.pruners import make_pruner
from ecg_mlflow.search.space import Space
from ecg_mlflow.study.plan import PlannedRun, StudyPlan
from ecg_mlflow.study.planning import plan_study
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.resume import KnownRuns
from ecg_mlflow.study.search_config import SearchConfig
from ecg_mlflow.study.trial_scheduler import TrialScheduler
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.stored_study import read_children

DATA = "demo:1000"
EPOCHS = 9
METRIC = "validation_roc_auc"
OBJECTIVE = Objective(METRIC, maximize=True)
#: Configurations that a search may try. Successive halving trains most of them for one epoch, so
#: that twice as many cost about as much as an eighth of all.
TRIALS = 200
SEEDS = 5
REPLAYS = 20
WORKERS = 2

# --- The grid file -------------------------------------------------------------------------------

#: Four depths, each with filters of its own: pairs, not a product.
sizes = Option.product(
    Option("blocks", [[1] * 3, [1] * 4, [1] * 5, [1] * 6]),
    Option("filters", [[4, 8, 8], [4, 8, 8, 16], [4, 4, 8, 8, 16], [4, 4, 8, 8, 16, 16]]),
)
#: A learning rate means something else to each optimizer: a sum.
rates = Option("optimizer", ["adam"]) * Option(
    "learning_rate", [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
) + Option("optimizer", ["sgd"]) * Option("learning_rate", [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1])
grid = (
    sizes
    * Option("layout", ["cna", "can", "nac", "cnacna"])
    * Option("input_filters", [4, 8, 12])
    * rates
)
#: At 100 Hz, so that 270 iterations take two seconds.
root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO", "O": "NO"}).resample_signals(100)
research = Research(
    grid=grid,
    model=ResNet,
    model_arguments={"dropout": 0.0},
    train=root.center_flip().random_split_signals(800, {"A": 3, "NO": 1}),
    test=root.center_flip().split_signals(800, step=800),
    classes=["A", "NO"],
    batch_size=16,
    epochs=EPOCHS,
    test_every="1 epoch",
    split=Split((0.5, 0.25, 0.25), stratified=True, seed=0),
    optimizer=Optimizer(C("optimizer"), learning_rate=C("learning_rate")),
)

# --- Studies -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """A study that has been run.

    Attributes
    ----------
    run
        Its parent run.
    curves
        By a run's identity, the objective at the evaluations that it has come to.
    n_iterations
        Of all runs together.
    n_pruned
        How many were given up.
    """

    run: Run
    curves: dict[str, list[float]]
    n_iterations: int
    n_pruned: int

    @property
    def minutes(self) -> float:
        """From its begin to its end."""
        return float(self.run.info.end_time - self.run.info.start_time) / 60_000


def study(client: MlflowClient, name: str, *options: str) -> Finished:
    """Run a study, go on with it, or find it finished; return what it has come to."""
    run = find_study(client, name)
    if run is None or run.info.status != "FINISHED":
        command = [sys.executable, "-m", "ecg_mlflow", "run"]
        if run is not None:
            command += ["--resume", run.info.run_id]
        else:
            command += [__file__, "--data", DATA, "--experiment", name, "--no-reuse"]
            command += ["--objective", METRIC, *options]
        subprocess.run(
            [*command, "--workers", str(WORKERS)],
            env={**os.environ, "MLFLOW_TRACKING_URI": client.tracking_uri},
            check=True,
        )
        run = find_study(client, name)
        assert run is not None
    entries = read_children(client, run.info.experiment_id, run.info.run_id)
    return Finished(
        run,
        {entry.identity: curve(client, entry) for entry in entries},
        sum(len(client.get_metric_history(entry.run_id, "loss")) for entry in entries),
        sum(entry.is_pruned for entry in entries),
    )


def find_study(client: MlflowClient, name: str) -> Run | None:
    """Return the last parent run of an experiment, if there is one."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return None
    runs = client.search_runs([experiment.experiment_id], max_results=5000)
    parents = [run for run in runs if MLFLOW_PARENT_RUN_ID not in run.data.tags]
    return max(parents, key=lambda run: run.info.start_time, default=None)


def curve(client: MlflowClient, entry: StoredRun) -> list[float]:
    history = client.get_metric_history(entry.run_id, METRIC)
    return [one.value for one in sorted(history, key=lambda one: one.step)]


def winner(client: MlflowClient, finished: Finished) -> dict[str, str]:
    """Return the first row of a study's leaderboard."""
    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(finished.run.info.run_id, "leaderboard.csv", folder)
        with open(path, newline="") as table:
            return next(csv.DictReader(table))


# --- Replays -------------------------------------------------------------------------------------


class Search(Protocol):
    """A way to search, which is told what training would have shown."""

    def start(self) -> tuple[Any, str] | None:
        """Return a run to be trained and the digest of its configuration."""

    def reached(self, run: Any, epoch: int, value: float) -> bool:
        """Take note of a value, and say whether the run goes on after it."""


class Ours:
    """This package's sampler, pruner and scheduler."""

    def __init__(self, plan: StudyPlan, sampler: str, pruner: str, seed: int) -> None:
        search = SearchConfig(
            sampler, seed=seed, objectives=(OBJECTIVE,), pruner=make_pruner(pruner)
        )
        chosen = search.make_sampler(Grid(plan.research.grid))
        self.scheduler = TrialScheduler(
            replace(plan, search=search), chosen, KnownRuns(), MlflowClient()
        )
        self.waiting = deque(self.scheduler.open())

    def start(self) -> tuple[PlannedRun, str] | None:
        self.waiting.extend([] if self.waiting else self.scheduler.next_runs())
        if not self.waiting:
            return None
        run = self.waiting.popleft().run
        self.scheduler.handed_out(run, "")
        return run, run.config.config.digest

    def reached(self, run: PlannedRun, epoch: int, value: float) -> bool:
        iteration = epoch * run.config.iterations_per_epoch - 1
        self.scheduler.tested(run, [(iteration, {METRIC: value})])
        if self.scheduler.withdrawals():  # nothing else can be given up by this
            return False
        if epoch == EPOCHS:
            self.scheduler.finished(run, {METRIC: value})
        return epoch < EPOCHS


class PlainOptuna:
    """Optuna as its manual shows it, define-by-run, with rungs at the same epochs as ours."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.study = optuna.create_study(
            direction="minimize" if OBJECTIVE.direction == "minimize" else "maximize",
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        )

    def start(self) -> tuple[optuna.Trial, str]:
        trial = self.study.ask()
        return trial, self.space.suggest(trial).digest

    def reached(self, run: optuna.Trial, epoch: int, value: float) -> bool:
        run.report(value, epoch)
        if epoch == EPOCHS:
            self.study.tell(run, value)
        elif run.should_prune():
            self.study.tell(run, state=optuna.trial.TrialState.PRUNED)
            return False
        return epoch < EPOCHS


def replay(search: Search, curves: Mapping[str, Sequence[float]], budget: float) -> float:
    """Let a way to search use up a budget of epochs; return the best value that it ends with."""
    best = float("nan")
    order = count()
    under_way: list[tuple[int, int, Any, str, int]] = []

    def begin(now: int) -> None:
        while len(under_way) < WORKERS and (started := search.start()) is not None:
            run, config = started
            heapq.heappush(under_way, (now + 1, next(order), run, config, 1))

    begin(0)
    for _ in range(int(budget)):
        if not under_way:
            break
        now, _, run, config, epoch = heapq.heappop(under_way)
        value = curves[config][epoch - 1]
        if search.reached(run, epoch, value):
            heapq.heappush(under_way, (now + 1, next(order), run, config, epoch + 1))
        elif epoch == EPOCHS:
            best = value if best != best else better(best, value)
        begin(now)
    return best


# --- Figures -------------------------------------------------------------------------------------


def better(*values: float) -> float:
    return max(values, key=OBJECTIVE.merit)


def gap(value: float, best: float) -> float:
    """Return how much worse a value is than the best one, in per cent of the best one."""
    return 100 * abs(value - best) / best


def spread(values: Iterable[float], form: str = ".2f") -> str:
    """Write a median and a range."""
    known = sorted(values)
    return f"{statistics.median(known):{form}} ({known[0]:{form}} to {known[-1]:{form}})"


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def describe_space(values: Sequence[float]) -> str:
    """Say how hard it is to come near the best configuration by chance."""
    best = better(*values)
    near = {share: sum(gap(value, best) <= share for value in values) for share in (1, 2, 5)}
    return (
        f"{len(values)} configurations: best {METRIC} {best:.4f}, median "
        f"{statistics.median(values):.4f}; "
        + ", ".join(f"{n} within {share} %" for share, n in near.items())
        + " of the best"
    )


def compare(client: MlflowClient, trials: int, seeds: int, replays: int) -> None:
    """Run what is missing, and print the table."""
    corpus = load_corpus(DATA)
    plan = plan_study(research, corpus, StudyRequest())
    whole = study(client, "exhaustive")
    missing = {run.identity for run in plan.runs} ^ whole.curves.keys()
    if missing or {len(one) for one in whole.curves.values()} != {EPOCHS}:
        sys.exit("the exhaustive study in this folder failed, or is of another grid: name another")
    found = [
        study(
            client,
            f"tpe, asha, {METRIC}, trials={trials}, seed={seed}",
            *("--sampler", "tpe", "--pruner", "asha", "--trials", str(trials)),
            *("--search-seed", str(seed)),
        )
        for seed in range(seeds)
    ]
    last = [one[-1] for one in whole.curves.values()]
    best, order = better(*last), sorted(last, key=OBJECTIVE.merit, reverse=True)
    print(describe_space(last))
    print(f"{whole.n_iterations} iterations in {whole.minutes:.0f} min\n")
    print(row("seed", METRIC, "gap %", "rank of all", "iterations %", "trials", "pruned", "min"))
    print(row(*["---"] * 8))
    gaps, shares = [], []
    for seed, one in enumerate(found):
        value = float(winner(client, one)[METRIC])
        gaps.append(gap(value, best))
        shares.append(100 * one.n_iterations / whole.n_iterations)
        cells = (f"{value:.4f}", f"{gaps[-1]:.2f}", order.index(value) + 1, f"{shares[-1]:.1f}")
        print(row(seed, *cells, len(one.curves), one.n_pruned, f"{one.minutes:.1f}"))
    print(f"\n{check_curves(whole, found)}")
    share = statistics.median(shares)
    budget = share / 100 * EPOCHS * len(plan.runs)
    print(f"replays with {share:.1f} % of the iterations, {replays} seeds:\n")
    print(row("way to search", "gap %", "within 1 %", "iterations %"))
    print(row(*["---"] * 4))
    within = sum(one <= 1 for one in gaps)
    print(row("tpe, asha, trained", spread(gaps), f"{within} of {seeds}", spread(shares, ".1f")))
    curves = {run.config.config.digest: whole.curves[run.identity] for run in plan.runs}
    with quiet():
        for name, make in ways(plan).items():
            values = [replay(make(seed), curves, budget) for seed in range(replays)]
            gaps = [gap(value, best) for value in values]
            within = sum(one <= 1 for one in gaps)
            print(row(name, spread(gaps), f"{within} of {replays}", f"{share:.1f}"), flush=True)


def ways(plan: StudyPlan) -> dict[str, Callable[[int], Search]]:
    """Return the ways to search that are replayed."""
    space = Space(Grid(plan.research.grid))
    return {
        "tpe, asha": lambda seed: Ours(plan, "tpe", "asha", seed),
        "random, asha": lambda seed: Ours(plan, "random", "asha", seed),
        "tpe, no pruner": lambda seed: Ours(plan, "tpe", "none", seed),
        "random, no pruner": lambda seed: Ours(plan, "random", "none", seed),
        "plain Optuna": lambda seed: PlainOptuna(space, seed),
    }


def check_curves(whole: Finished, found: Sequence[Finished]) -> str:
    """Say how many runs of the searches have the values that the exhaustive study has."""
    pairs = [(whole.curves[key], one) for each in found for key, one in each.curves.items()]
    same = sum(theirs == ours[: len(theirs)] for ours, theirs in pairs)
    return f"{same} of {len(pairs)} runs have the very values that the exhaustive study has"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where the studies are kept")
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"of a search ({TRIALS})")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"searches ({SEEDS})")
    parser.add_argument("--replays", type=int, default=REPLAYS, help=f"of each way ({REPLAYS})")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    client = connect(f"sqlite:///{given.folder.resolve() / 'search.db'}")
    compare(client, given.trials, given.seeds, given.replays)


if __name__ == "__main__":
    main()
