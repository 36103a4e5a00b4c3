"""From a research and a corpus to the plan of a study, validated before the first run starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ecg_mlflow.canonical import digest
from ecg_mlflow.choosing import choose, spread
from ecg_mlflow.data_plan import DataPlan, plan_data, try_batches, uncovered_labels
from ecg_mlflow.errors import EcgMlflowError, ModelError, ResearchError
from ecg_mlflow.grids import C, ConfigAlias
from ecg_mlflow.plan import ConfigPlan, Network, PlannedRun, StudyPlan
from ecg_mlflow.records import BadRecord, Corpus, bad_records_error
from ecg_mlflow.research import Research, config_name
from ecg_mlflow.settings import Rules, Settings
from ecg_mlflow.splits import Parts, Split, split_records

#: Goes into every identity; to be raised when a training means something else than before.
IDENTITY_VERSION = 1

#: Groups of copies that a note lists.
SHOWN_COPIES = 10


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
        f"configuration {config_name(twin)} equals {config_name(kept)} by value and runs once"
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
        _runs(plans, research.repetitions, corpus, parts),
        tuple(bad),
        (*corpus.provenance.notes, *notes),
    )


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
            raise ResearchError(f"configuration {config_name(configs[index])}: {error}") from error
        stream = digest([key, one.seed])
        plans.append(ConfigPlan(index, configs[index], one, planned[key], network, stream))
    return plans


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
