"""Trial schedulers over grids without records: configurations that only pretend to be trained."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from stored_runs import stored_run

from ecg_mlflow.errors import ResearchError
from ecg_mlflow.grids import ConfigAlias, Grid
from ecg_mlflow.search.objective import Objective
from ecg_mlflow.search.sampler import GridSampler
from ecg_mlflow.study.plan import PlannedRun
from ecg_mlflow.study.resume import KnownRuns
from ecg_mlflow.study.search_config import SearchConfig
from ecg_mlflow.study.search_history import TrialEnd, trial_tags
from ecg_mlflow.study.trial_scheduler import TrialScheduler
from ecg_mlflow.training.schedule import Schedule

F1 = Objective("f1", maximize=True)
DESIGN = {"objectives": (F1,)}
ITERATIONS_PER_EPOCH = 10


@dataclass(frozen=True)
class Config:
    """What a scheduler needs of a configuration's plan."""

    index: int
    config: ConfigAlias
    epochs: int = 9
    seconds: float = 1.0
    test_every: str = "epoch"
    iterations_per_epoch: int = ITERATIONS_PER_EPOCH
    repetitions: int = 1

    @property
    def runs(self):
        name = self.config.alias(as_string=True)
        return tuple(PlannedRun(self, r, f"{name} r{r}") for r in range(self.repetitions))

    @property
    def settings(self):
        return SimpleNamespace(epochs=self.epochs)

    @property
    def n_iterations(self):
        return self.epochs * self.iterations_per_epoch

    @property
    def tests(self):
        return Schedule.parse((self.test_every, "last"), self.iterations_per_epoch)


class Planner:
    """Plans whatever comes, but for what it is told to refuse."""

    def __init__(self, refused=(), **config):
        self.refused, self.config = refused, config

    def plan(self, index, config):
        if config.alias(as_string=True) in self.refused:
            raise ResearchError("it can't be")
        return Config(index, config, **self.config)


class Table:
    """A scheduler, and a hand that plays the dispatcher's part.

    Keeps what the sampler was told of each trial, and what it was asked and told in order.
    """

    def __init__(
        self,
        grid,
        *,
        exhaustive=False,
        repetitions=1,
        known_runs=None,
        sampler=None,
        chosen=None,
        refused=(),
        update_grid=None,
        update_every="last",
        test_every="epoch",
        tests=lambda run_id: (),
        **search,
    ):
        grid = grid if isinstance(grid, Grid) else Grid(grid)
        planner = Planner(refused, repetitions=repetitions, test_every=test_every)
        configs = [Config(i, one, **planner.config) for i, one in enumerate(grid.unique()[0])]
        plan = SimpleNamespace(
            configs=[one for i, one in enumerate(configs) if chosen is None or i in chosen],
            planner=planner,
            search=SearchConfig("grid" if exhaustive else "one by one", **DESIGN | search),
            research=SimpleNamespace(
                repetitions=repetitions, update_grid=update_grid, update_every=update_every
            ),
        )
        self.told, self.events = {}, []
        self.scheduler = TrialScheduler(
            plan,
            self._recorded(sampler or GridSampler(grid)),
            known_runs or KnownRuns(),
            SimpleNamespace(get_metric_history=lambda run_id, metric: tests(run_id)),
        )
        self.open = self.scheduler.open

    def _recorded(self, sampler):
        ask, tell = sampler.ask, sampler.tell

        def record_ask():
            if (trial := ask()) is not None:
                self.events.append(f"ask {trial.number}")
            return trial

        def record_tell(number, state, values=(), note=""):
            assert number not in self.told
            tell(number, state, values, note)
            self.told[number] = (state.value, list(values), note)
            self.events.append(f"tell {number} {state.value} {[*values]}")

        sampler.ask, sampler.tell = record_ask, record_tell
        return sampler

    def next_keys(self):
        """Return the keys of the next runs, which are then in a worker's hand."""
        return [self.hand_out(one.run.key) for one in self.scheduler.next_runs()]

    def hand_out(self, key):
        self.scheduler.handed_out(self.run(key), f"run {key}")
        return key

    def run(self, key):
        """Return a run by its key."""
        number, repetition = key.split("-r")
        return self.scheduler.trials[int(number)].runs[int(repetition)]

    def test(self, key, epoch, f1):
        """Let a run be evaluated after an epoch."""
        self.scheduler.tested(self.run(key), [(epoch * ITERATIONS_PER_EPOCH - 1, {"f1": f1})])

    def finish(self, key, f1, **metrics):
        self.scheduler.finished(self.run(key), {"f1": f1, **metrics})

    def fail(self, key):
        self.scheduler.failed(self.run(key))

    def given_up(self):
        """Return the keys of the runs given up since the last call."""
        return [run.key for run, _ in self.scheduler.withdrawals()]


def evaluation(iteration, value):
    """Return an evaluation as the store has it."""
    return SimpleNamespace(step=iteration, value=value)


def entry(identity, status="FINISHED", **more):
    """Return a run as the store has it."""
    return stored_run(f"run of {identity}", status, identity=identity, **more)


def asked(number, config):
    """Return the tags of a child of a search."""
    return trial_tags(PlannedRun(Config(number, config), 0, ""), 0)


def told(number, config, state, values=(), *, n_asked, order):
    """Return the tags of a child whose trial has ended."""
    return asked(number, config) | TrialEnd(number, n_asked, order, state, values).tags()
