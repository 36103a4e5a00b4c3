"""From a research and a corpus to the plan of a study, validated before the first run starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import EcgMlflowError, ModelError, ResearchError
from ecg_mlflow.grids import C, ConfigAlias, Grid
from ecg_mlflow.grids.canonical import Known, digest
from ecg_mlflow.grids.selection import choose
from ecg_mlflow.records import BadRecord, Corpus, bad_records_error
from ecg_mlflow.records.grouping import patients_note
from ecg_mlflow.records.splits import Parts, Split, split_records, spread
from ecg_mlflow.search.space import Space
from ecg_mlflow.study.data_plan import DataPlan, plan_data, try_batches, uncovered_labels
from ecg_mlflow.study.plan import ConfigPlan, Network, PlannedRun, StudyPlan
from ecg_mlflow.study.request import Overrides
from ecg_mlflow.study.research import Research, config_name
from ecg_mlflow.study.settings import Settings
from ecg_mlflow.study.step_factory import step_factory

#: Groups of copies that a note lists.
SHOWN_COPIES = 10


def plan_study(
    research: Research, corpus: Corpus, overrides: Overrides, *, sampled: bool = False
) -> StudyPlan:
    """Plan every run and check all that can be checked without training.

    1. Apply the overrides; expand the grid; put every configuration's values in their places.
    2. Leave out, or refuse, bad records, those whose label no class covers among them.
    3. Divide the records; per distinct pair of pipelines, select, cut and make a first batch.
    4. Describe the models that can describe themselves.

    Parameters
    ----------
    research, corpus, overrides
        What, on which records, and what the command line says in place of the research.
    sampled
        Configurations will be chosen while the study runs: plan examples of them, among which
        every value of every option occurs.

    Raises
    ------
    ResearchError, BadRecordsError, SplitError, PipelineError, ModelError
        For what is wrong; the message names the configuration, side or records.
    """
    research = _override(research, overrides)
    configs, notes = _examples(research, overrides) if sampled else _all_configs(research)
    chosen = choose(configs, overrides.configs)
    settings = {index: research.settings(configs[index]) for index in chosen}
    rows = spread(len(corpus), overrides.limit)
    kept_rows, bad = _leave_out_bad(
        corpus, rows, settings.values(), bool(overrides.skip_bad_records)
    )
    assert isinstance(research.split, Split)
    parts = split_records(
        research.split,
        corpus.ids,
        corpus.labels,
        corpus.copies,
        kept_rows,
        patients=corpus.patients,
    )
    planner = ConfigPlanner(research, corpus, parts)
    plans = [planner.plan(index, configs[index], one) for index, one in settings.items()]
    notes += dict.fromkeys(note for plan in plans for note in plan.data.notes)
    if (whose := patients_note(parts, corpus.patients)) is not None:
        notes.append(whose)
    if corpus.copies:
        listed = "; ".join(" = ".join(group) for group in corpus.copies[:SHOWN_COPIES])
        more = len(corpus.copies) - SHOWN_COPIES
        notes.append(
            f"the same recording under several names: {listed}"
            + (f" and {more} more such groups" if more > 0 else "")
        )
    return StudyPlan(
        research,
        corpus,
        parts,
        tuple(plans),
        tuple(
            run for repetition in zip(*map(planner.runs, plans), strict=True) for run in repetition
        ),
        tuple(bad),
        (*corpus.provenance.notes, *notes),
        planner,
        sampled,
    )


def _all_configs(research: Research) -> tuple[list[ConfigAlias], list[str]]:
    """List the configurations, and say which are the same."""
    assert isinstance(research.grid, Grid)
    configs, twins = research.grid.unique()
    return configs, [
        f"configuration {config_name(twin)} equals {config_name(kept)} by value and runs once"
        for kept, twin in twins
    ]


def _examples(research: Research, overrides: Overrides) -> tuple[list[ConfigAlias], list[str]]:
    """List configurations among which every value of every option occurs."""
    assert isinstance(research.grid, Grid)
    if overrides.configs is not None:
        raise ResearchError(
            f"configs={overrides.configs!r} chooses from a list of configurations, and a sampler "
            "chooses itself: leave configs out, or narrow the grid in the grid file"
        )
    return Space(research.grid).examples(), []


def _override(research: Research, overrides: Overrides) -> Research:
    changes = {
        name: value
        for name in ("epochs", "repetitions", "test_every")
        if (value := getattr(overrides, name)) is not None
    }
    for name in changes:
        if isinstance(given := getattr(research, name), C):
            raise ResearchError(
                f"{name}={changes[name]!r} can't take the place of {given!r}: the grid file makes "
                "it an option; choose configurations with configs instead"
            )
    if overrides.limit is not None and overrides.limit < 2:
        raise ResearchError(f"limit={overrides.limit} must leave at least 2 records")
    return replace(research, **changes)


def _leave_out_bad(
    corpus: Corpus,
    rows: npt.NDArray[np.int64],
    settings: Iterable[Settings],
    skip: bool,
) -> tuple[npt.NDArray[np.int64], list[BadRecord]]:
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
        try:
            if key not in self._planned:
                self._planned[key] = plan_data(self._corpus, self._parts, one)
                try_batches(self._corpus, one, self._planned[key])
            data = self._planned[key]
            network = describe_network(one, data.input_shape)
        except EcgMlflowError as error:
            raise ResearchError(f"configuration {config_name(config)}: {error}") from error
        stream = digest([key, one.seed, step_factory(one)], known=self._known)
        return ConfigPlan(index, config, one, data, network, stream)

    def runs(self, config: ConfigPlan) -> tuple[PlannedRun, ...]:
        """Plan the repetitions of a configuration."""
        decided = [config.settings, step_factory(config.settings)]
        of_config = digest(decided, known=self._known)
        return tuple(
            PlannedRun(config, repetition, digest([self._shared, of_config, repetition]))
            for repetition in range(self._research.repetitions)
        )


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
