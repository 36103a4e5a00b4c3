"""The plan of a study: every run, in order, validated and costed before the first one starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ecg_mlflow.canonical import digest
from ecg_mlflow.data_plan import DataPlan, plan_data, try_batches, uncovered_labels
from ecg_mlflow.errors import EcgMlflowError, ResearchError
from ecg_mlflow.grids import ConfigAlias
from ecg_mlflow.records import BadRecord, Corpus, bad_records_error
from ecg_mlflow.research import Research
from ecg_mlflow.schedule import Schedule
from ecg_mlflow.settings import Rules, Settings
from ecg_mlflow.splits import TRAIN, Parts, Split, split_records

#: Goes into every identity; to be raised when a training means something else than before.
IDENTITY_VERSION = 1

#: Seconds on one CPU core: to start a run, for one window, and for one multiply-add of a forward
#: pass, in training. Fitted to nets of 4 k to 4 M parameters; right within a factor of about 2.
START_SECONDS, WINDOW_SECONDS, MULTIPLY_ADD_SECONDS = 4.0, 1e-4, 4.7e-11


@dataclass(frozen=True)
class Overrides:
    """What the command line says in place of the grid file; None keeps the file's word.

    Attributes
    ----------
    epochs, repetitions, test_every
        In place of the research's.
    configs
        ``"0,3,5-8"`` or ``"model=ResNet18 & layout=cna"``.
    limit
        Use at most this many records, evenly spread over the sorted ones.
    skip_bad_records
        Leave bad records out instead of refusing to start.
    """

    epochs: int | None = None
    repetitions: int | None = None
    test_every: Rules | None = None
    configs: str | None = None
    limit: int | None = None
    skip_bad_records: bool = False


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
    """

    index: int
    config: ConfigAlias
    settings: Settings
    data: DataPlan
    network: Network | None

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
        In order: repetitions outermost, so that a first pass over the grid ends early.
    bad
        Records that were left out.
    notes
        What the user should know before the study starts.
    """

    research: Research
    corpus: Corpus
    parts: Parts
    configs: tuple[ConfigPlan, ...]
    runs: tuple[PlannedRun, ...]
    bad: tuple[BadRecord, ...]
    notes: tuple[str, ...]

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
            "runs": [
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


def plan_study(research: Research, corpus: Corpus, overrides: Overrides) -> StudyPlan:
    """Plan every run and check all that can be checked without training.

    1. Apply the overrides; expand the grid; put every configuration's values in their places.
    2. Leave out, or refuse, bad records, those whose label no class covers among them.
    3. Divide the records; per distinct pair of pipelines, select, cut and make a first batch.
    4. Describe the models that can describe themselves.

    Raises
    ------
    ResearchError, BadRecordsError, SplitError, PipelineError, ModelError
        For what is wrong; the message names the configuration, side or records.
    """
    research = _override(research, overrides)
    configs, twins = research.grid.unique()
    notes = [
        f"configuration {twin.alias(as_string=True)} equals {kept.alias(as_string=True)} by value "
        "and runs once"
        for kept, twin in twins
    ]
    chosen = choose(configs, overrides.configs)
    settings = {index: research.settings(configs[index]) for index in chosen}
    rows = spread(len(corpus), overrides.limit)
    kept_rows, bad = _leave_out_bad(corpus, rows, settings.values(), overrides.skip_bad_records)
    assert isinstance(research.split, Split)
    parts = split_records(research.split, corpus.ids, corpus.labels, corpus.copies, kept_rows)
    plans = _plan_configs(corpus, parts, configs, settings)
    notes += dict.fromkeys(note for plan in plans for note in plan.data.notes)
    if corpus.copies:
        notes.append(
            "the same recording under several names: "
            + "; ".join(" = ".join(group) for group in corpus.copies[:10])
        )
    return StudyPlan(
        research,
        corpus,
        parts,
        tuple(plans),
        _runs(plans, research.repetitions, corpus, parts),
        tuple(bad),
        (*corpus.provenance.notes, *notes),
    )


def choose(configs: Sequence[ConfigAlias], which: str | None) -> list[int]:
    """Choose configurations by ``"0,3,5-8"`` or ``"model=ResNet18 & layout=cna"``.

    Raises
    ------
    ResearchError
        If the text can't be read or chooses nothing.
    """
    if which is None:
        return list(range(len(configs)))
    last = len(configs) - 1
    if re.fullmatch(r"\s*\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*\s*", which):
        chosen: list[int] = []
        for piece in which.split(","):
            first, _, end = piece.partition("-")
            chosen += range(int(first), int(end or first) + 1)
        if not chosen or max(chosen) > last:
            raise ResearchError(f"configs={which!r}: configurations are numbered 0 to {last}")
        return sorted(set(chosen))
    terms = [term.partition("=") for term in which.split("&")]
    wanted = {name.strip(): alias.strip() for name, _, alias in terms}
    options: dict[str, list[str]] = {}
    for config in configs:
        for name, alias in config.alias().items():
            options.setdefault(name, [])
            if alias not in options[name]:
                options[name].append(alias)
    wrong = [name for name, alias in wanted.items() if alias not in options.get(name, [])]
    if wrong:
        listed = "; ".join(f"{name}: {', '.join(aliases)}" for name, aliases in options.items())
        raise ResearchError(
            f"configs={which!r} must be numbers (0,3,5-8) or option=alias joined by ' & '. The "
            f"options are {listed}"
        )
    chosen = [i for i, config in enumerate(configs) if wanted.items() <= config.alias().items()]
    if not chosen:
        raise ResearchError(f"configs={which!r} fits none of the {len(configs)} configurations")
    return chosen


def spread(n_records: int, limit: int | None) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Choose at most `limit` of the records, evenly spread."""
    if limit is None or limit >= n_records:
        return np.arange(n_records, dtype=np.int64)
    return np.arange(limit, dtype=np.int64) * n_records // limit


def _override(research: Research, overrides: Overrides) -> Research:
    changes = {
        name: value
        for name in ("epochs", "repetitions", "test_every")
        if (value := getattr(overrides, name)) is not None
    }
    if overrides.limit is not None and overrides.limit < 2:
        raise ResearchError(f"limit={overrides.limit} must leave at least 2 records")
    return replace(research, **changes)


def _leave_out_bad(
    corpus: Corpus,
    rows: np.ndarray[Any, np.dtype[np.int64]],
    settings: Any,
    skip: bool,
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], list[BadRecord]]:
    bad = list(corpus.bad)
    seen: set[str] = set()
    label_stages: set[str] = set()
    for one in settings:
        key = digest([one.train.labels, one.test.labels, one.classes])
        if key in label_stages:
            continue
        label_stages.add(key)
        found = uncovered_labels(corpus, rows, one)
        bad += [record for record in found if record.id not in seen]
        seen |= {record.id for record in found}
    if bad and not skip:
        raise bad_records_error(bad)
    return np.array([row for row in rows if corpus.ids[row] not in seen], dtype=np.int64), bad


def _plan_configs(
    corpus: Corpus,
    parts: Parts,
    configs: Sequence[ConfigAlias],
    settings: Mapping[int, Settings],
) -> list[ConfigPlan]:
    """Plan each configuration; those that share pipelines share their data's plan."""
    planned: dict[str, DataPlan] = {}
    plans = []
    for index, one in settings.items():
        key = digest([one.train, one.test, one.classes, one.batch_size, one.drop_last])
        try:
            if key not in planned:
                planned[key] = plan_data(corpus, parts, one)
                try_batches(corpus, one, planned[key])
            network = describe_network(one, planned[key].input_shape)
        except EcgMlflowError as error:
            name = configs[index].alias(as_string=True) or "(without options)"
            raise ResearchError(f"configuration {name}: {error}") from error
        plans.append(ConfigPlan(index, configs[index], one, planned[key], network))
    return plans


def describe_network(settings: Settings, input_shape: tuple[int, int]) -> Network | None:
    """Describe a model without building it, where its builder can."""
    describe = getattr(settings.builder, "describe", None)
    if describe is None:
        return None
    spec = describe(input_shape, len(settings.classes), **settings.arguments)
    return Network(spec.trainable_parameters(), spec.multiply_adds())


def _runs(
    plans: Sequence[ConfigPlan], repetitions: int, corpus: Corpus, parts: Parts
) -> tuple[PlannedRun, ...]:
    shared = digest([IDENTITY_VERSION, corpus.digest, dict(parts.items())])
    by_config = [digest(plan.settings) for plan in plans]
    return tuple(
        PlannedRun(plan, repetition, digest([shared, of_config, repetition]))
        for repetition in range(repetitions)
        for plan, of_config in zip(plans, by_config, strict=True)
    )
