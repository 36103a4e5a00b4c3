"""The plan of a study as plain values: its configurations, its runs in order, what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ecg_mlflow.grids import ConfigAlias
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.records import BadRecord, Corpus
from ecg_mlflow.records.splits import TRAIN, Parts
from ecg_mlflow.study.data_plan import DataPlan
from ecg_mlflow.study.research import Research
from ecg_mlflow.study.settings import Settings
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
    stream
        Digest of what the training batches depend on: configurations with an equal one can be
        trained together on one stream of batches.
    """

    index: int
    config: ConfigAlias
    settings: Settings
    data: DataPlan
    network: Network | None
    stream: str = ""

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


class Planner(Protocol):
    """Plans configurations one by one; see `ecg_mlflow.study.planning.ConfigPlanner`."""

    def plan(self, index: int, config: ConfigAlias) -> ConfigPlan:
        """Plan a configuration."""

    def runs(self, config: ConfigPlan) -> tuple[PlannedRun, ...]:
        """Plan its repetitions."""


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
    runs
        Those of `configs`, repetitions outermost, so that a first pass over the grid ends early.
    bad
        Records that were left out.
    notes
        What the user should know before the study starts.
    planner
        Plans configurations that come later.
    sampled
        A sampler chooses configurations: those here are examples.
    """

    research: Research
    corpus: Corpus
    parts: Parts
    configs: tuple[ConfigPlan, ...]
    runs: tuple[PlannedRun, ...]
    bad: tuple[BadRecord, ...]
    notes: tuple[str, ...]
    planner: Planner
    sampled: bool = False

    @property
    def digest(self) -> str:
        """Hash of the ordered runs."""
        return digest([run.identity for run in self.runs])

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
            "examples" if self.sampled else "runs": [
                {
                    "key": run.key,
                    "identity": run.identity,
                    "config": run.config.config.alias(),
                    "repetition": run.repetition,
                    "iterations": run.config.n_iterations,
                    "trainable_parameters": (
                        run.config.network.parameters if run.config.network else None
                    ),
                }
                for run in self.runs
            ],
        }
