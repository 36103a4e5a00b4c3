"""The plan of a study: its configurations, its runs in order, what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ecg_mlflow.errors import EcgMlflowError, ModelError
from ecg_mlflow.grids import ConfigAlias, Grid
from ecg_mlflow.grids.canonical import Known, digest
from ecg_mlflow.records import BadRecord, Corpus
from ecg_mlflow.records.splits import TRAIN, Parts
from ecg_mlflow.search.space import Space
from ecg_mlflow.study.data_plan import DataPlan, plan_data, try_batches
from ecg_mlflow.study.research import Research, Settings, config_name, located_errors
from ecg_mlflow.study.search_config import SearchConfig
from ecg_mlflow.study.step_factory import step_factory
from ecg_mlflow.training.schedule import Schedule

#: Seconds on one CPU core: to start a run, for one window, and for one multiply-add of a forward
#: pass, in training. Fitted to nets of 4 k to 4 M parameters; right within a factor of about 2.
START_SECONDS, WINDOW_SECONDS, MULTIPLY_ADD_SECONDS = 4.0, 1e-4, 4.7e-11


@dataclass(frozen=True)
class Network:
    """What a plan knows of a model: trainable parameters and multiply-adds of one window."""

    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class ConfigPlan:
    """One configuration, ready to run.

    Attributes
    ----------
    index
        Its place in the grid, counted without repeated configurations.
    config
        Its options.
    settings
        What follows from them.
    data
        Records and windows.
    network
        None until a model without a description of its own has been built once.
    identities
        What each of its runs, one a repetition, is recognised by.
    stream
        Digest of what the training batches depend on: configurations with an equal one can be
        trained together on one stream of batches.
    """

    index: int
    config: ConfigAlias
    settings: Settings
    data: DataPlan
    network: Network | None
    identities: tuple[str, ...]
    stream: str

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """Its repetitions."""
        numbered = enumerate(self.identities)
        return tuple(PlannedRun(self, repetition, identity) for repetition, identity in numbered)

    @property
    def iterations_per_epoch(self) -> int:
        """Number of training batches of an epoch."""
        n, size = len(self.data.sides[TRAIN].rows), self.settings.batch_size
        return n // size if self.settings.drop_last else -(-n // size)

    @property
    def n_iterations(self) -> int:
        """Number of training batches of a run."""
        return self.iterations_per_epoch * self.settings.epochs

    @property
    def tests(self) -> Schedule:
        """When a run is evaluated; its end is always among them."""
        given = self.settings.test_every
        rules = [given] if isinstance(given, str | int) else list(given)
        return Schedule.parse([*rules, "last"], iterations_per_epoch=self.iterations_per_epoch)

    @property
    def name(self) -> str:
        """A short name for tables: the model and what else varies."""
        aliases = dict(self.config.alias())
        aliases.pop("model", None)
        return " ".join([self.settings.model_name, *aliases.values()])

    @property
    def seconds(self) -> float:
        """Estimated time of one run on one CPU core."""
        adds = self.network.multiply_adds if self.network else 0
        per_window = WINDOW_SECONDS + MULTIPLY_ADD_SECONDS * adds
        return START_SECONDS + per_window * self.data.windows_per_epoch * self.settings.epochs


@dataclass(frozen=True)
class PlannedRun:
    """One training: a configuration and a repetition."""

    config: ConfigPlan
    repetition: int
    identity: str

    @property
    def key(self) -> str:
        """Name of the run within its study."""
        return f"{self.config.index:02d}-r{self.repetition}"


class ConfigPlanner:
    """Plans configurations one by one; those that share pipelines share their data's plan.

    Parameters
    ----------
    research, corpus, parts
        What holds for all of them.
    """

    def __init__(self, research: Research, corpus: Corpus, parts: Parts) -> None:
        self._research = research
        self._corpus = corpus
        self._parts = parts
        self._planned: dict[str, DataPlan] = {}
        self._known: Known = {}
        self._shared = digest([corpus.digest, dict(parts.items())])

    def plan(self, index: int, config: ConfigAlias, settings: Settings | None = None) -> ConfigPlan:
        """Plan a configuration.

        Parameters
        ----------
        index
            Its place in the study.
        config
            Its options.
        settings
            What follows from them, where that is known already.

        Raises
        ------
        ResearchError
            If something is wrong with it; the message names it.
        """
        one = settings or self._research.settings(config)
        shared = [one.train, one.test, one.classes, one.batch_size, one.drop_last]
        key = digest(shared, known=self._known)
        with located_errors(f"configuration {config_name(config)}"):
            if key not in self._planned:
                self._planned[key] = plan_data(self._corpus, self._parts, one)
                try_batches(self._corpus, one, self._planned[key])
            data = self._planned[key]
            network = describe_network(one, data.input_shape)
        stream = digest([key, one.seed, step_factory(one)], known=self._known)
        of_config = digest([one, step_factory(one)], known=self._known)
        repetitions = range(self._research.repetitions)
        identities = tuple(digest([self._shared, of_config, number]) for number in repetitions)
        return ConfigPlan(index, config, one, data, network, identities, stream)


def describe_network(settings: Settings, input_shape: tuple[int, int]) -> Network | None:
    """Describe a model without building it, where its builder can.

    Raises
    ------
    ModelError
        If it refuses the arguments.
    """
    describe = getattr(settings.builder, "describe", None)
    if describe is None:
        return None
    try:
        spec = describe(input_shape, len(settings.classes), **settings.arguments)
    except EcgMlflowError:
        raise
    except (TypeError, ValueError) as error:
        raise ModelError(f"{settings.model_name} refuses its arguments: {error}") from error
    return Network(spec.trainable_parameters(), spec.multiply_adds())


@dataclass(frozen=True)
class StudyPlan:
    """A whole study.

    Attributes
    ----------
    research
        With the overrides applied.
    corpus, parts
        The records and their division.
    configs
        Without repeated ones.
    bad
        Records that were left out.
    notes
        What the user should know before the study starts.
    planner
        Plans configurations that come later.
    search
        How the study chooses among its configurations.
    """

    research: Research
    corpus: Corpus
    parts: Parts
    configs: tuple[ConfigPlan, ...]
    bad: tuple[BadRecord, ...]
    notes: tuple[str, ...]
    planner: ConfigPlanner
    search: SearchConfig

    @cached_property
    def runs(self) -> tuple[PlannedRun, ...]:
        """Those of `configs`, repetitions outermost, so that a first pass over them ends early."""
        by_repetition = zip(*(config.runs for config in self.configs), strict=True)
        return tuple(run for runs in by_repetition for run in runs)

    @property
    def digest(self) -> str:
        """Hash of the ordered runs."""
        return digest([run.identity for run in self.runs])

    @property
    def n_configs(self) -> int | str:
        """How many configurations there are to choose from."""
        if not self.search.is_sampled:
            return len(self.configs)
        assert isinstance(self.research.grid, Grid)
        n = Space(self.research.grid).n_configs
        return "unlimited" if n is None else n

    @property
    def holds_test_back(self) -> bool:
        """Whether runs leave the test records alone until the study is over."""
        return self.search.selects and len(self.parts.validation) > 0

    @property
    def seconds(self) -> float:
        """Estimated time of all runs, one after the other on one core."""
        return sum(run.config.seconds for run in self.runs)

    def describe(self) -> dict[str, Any]:
        """Return the plan as plain data, for an artifact."""
        ids = self.corpus.ids
        return {
            "digest": self.digest,
            "corpus": {"digest": self.corpus.digest, "source": self.corpus.source},
            "labels_sha256": self.corpus.labels_sha256,
            "split": {name: [ids[row] for row in rows] for name, rows in self.parts.items()},
            "left_out": [vars(record) for record in self.bad],
            "notes": list(self.notes),
            "examples" if self.search.is_sampled else "runs": [
                {
                    "key": run.key,
                    "identity": run.identity,
                    "config": run.config.config.alias(),
                    "repetition": run.repetition,
                    "iterations": run.config.n_iterations,
                    "trainable_parameters": getattr(run.config.network, "parameters", None),
                }
                for run in self.runs
            ],
        }
