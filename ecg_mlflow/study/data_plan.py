"""What a configuration's pipelines make of the corpus: which records, labels and windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PipelineError, ResearchError
from ecg_mlflow.pipeline import (
    BatchSource,
    Selection,
    Stages,
    WindowMaker,
    class_targets,
    output_leads,
    prepare,
    select,
)
from ecg_mlflow.pipeline.actions.base import Action, resampled_length
from ecg_mlflow.pipeline.actions.every_batch import RandomResampleSignals
from ecg_mlflow.pipeline.actions.records import ResampleSignals
from ecg_mlflow.pipeline.spec import check_deterministic, stages_to_json
from ecg_mlflow.records import BadRecord, Corpus
from ecg_mlflow.records.label_sets import count_labels, split_label
from ecg_mlflow.records.splits import TRAIN, Parts
from ecg_mlflow.study.research import Settings, located_errors


@dataclass(frozen=True)
class DataPlan:
    """The records and windows of one configuration.

    Attributes
    ----------
    sides
        The records of each part that its pipeline keeps: train, test and, if any, validation.
    input_shape
        ``(length, n_leads)`` of a window.
    windows_per_epoch
        Of training, about: resampling by chance may change it.
    test_pipeline
        The test pipeline as a model would keep it; None where no model can, as a note says.
    notes
        What the user should know.
    """

    sides: Mapping[str, Selection]
    input_shape: tuple[int, int]
    windows_per_epoch: int
    test_pipeline: list[dict[str, Any]] | None
    notes: tuple[str, ...]


def uncovered_labels(
    corpus: Corpus, rows: npt.NDArray[np.int64], settings: Settings
) -> list[BadRecord]:
    """List the records whose final label is none of the classes, in training or testing."""
    reasons = {
        label: reason for label in set(corpus.labels) if (reason := _uncovered(label, settings))
    }
    return [
        BadRecord(corpus.ids[row], str(corpus.source), reasons[corpus.labels[row]])
        for row in rows
        if corpus.labels[row] in reasons
    ]


def _uncovered(label: str, settings: Settings) -> str | None:
    for stages in (settings.train, settings.test):
        final = stages.label(label)
        if final is None:
            continue
        found = split_label(final)
        renamed = f" (from {label!r})" if final != label else ""
        if len(found) > 1 and not settings.multilabel:
            return (
                f"several labels: {final!r}{renamed}, where each record is of one class. Say "
                "multilabel=True, or select_labels or rename_labels so that one remains"
            )
        allowed = {*settings.classes, *([""] if settings.multilabel else [])}
        if unknown := [one for one in found if one not in allowed]:
            return (
                f"a label that no class covers: {unknown[0]!r}{renamed}; classes are "
                f"{list(settings.classes)}. Rename it, drop it, or add the class"
                + ("; select_labels(classes) passes over the others" if settings.multilabel else "")
            )
    return None


def plan_data(corpus: Corpus, parts: Parts, settings: Settings) -> DataPlan:
    """Select the records of each part and check that they can be cut, batched and scored.

    Raises
    ------
    ResearchError
        If a part lacks a class, a label has no number of windows, or training and testing make
        different shapes.
    """
    sides, shapes = {}, {}
    for name, rows in parts.items():
        with located_errors(f"the {name} records"):
            sides[name] = select(corpus, settings.stages(name), rows.tolist())
            shapes[name] = _check_side(corpus, settings, name, sides[name])
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ResearchError(
            f"one model can't take the windows (length, leads) of all sides: {listed}. Give the "
            "train and test pipelines the same length and leads"
        )
    notes = [*_notes(corpus, settings, sides)]
    kept = None
    try:
        check_deterministic(settings.test)
        kept = stages_to_json(settings.test)
    except PipelineError as error:
        notes.append(f"the study runs, but its models can't be promoted: {error}")
    n_windows = _count_windows(corpus, settings.train, sides[TRAIN])
    return DataPlan(sides, shapes[TRAIN], n_windows, kept, tuple(notes))


def _check_side(
    corpus: Corpus, settings: Settings, name: str, selection: Selection
) -> tuple[int, int]:
    """Check one side; return the shape of its windows."""
    stages = settings.stages(name)
    counts = count_labels(selection.labels)
    missing = [label for label in settings.classes if not counts[label]]
    if missing:
        raise PipelineError(
            f"no record has the label {', '.join(map(repr, missing))}, so that class can't be "
            f"{'learnt' if name == TRAIN else 'scored'}; there are {dict(counts)}. Take more "
            "records, another split (Split(0.8, stratified=True)), or fewer classes"
        )
    for label in set(selection.labels):
        stages.split.value(label)
    _check_window(corpus, stages, selection)
    return int(stages.split.length), len(output_leads(corpus, stages, selection.rows))


def _check_window(corpus: Corpus, stages: Stages, selection: Selection) -> None:
    """Refuse windows longer than all records: they would be zeros for the greater part.

    Where a frequency is drawn by chance, the lengths are not known.
    """
    if any(isinstance(action, RandomResampleSignals) for action in stages.every):
        return
    lengths = _lengths(corpus, selection, (*stages.once, *stages.every))
    longest = int(np.argmax(lengths))
    if stages.split.length > lengths[longest]:
        raise PipelineError(
            f"{stages.split}: the window of {stages.split.length} samples is longer than every "
            f"record; the longest, {corpus.ids[selection.rows[longest]]}, has {lengths[longest]} "
            "samples there. Take a shorter window, or another sampling frequency"
        )


def _count_windows(corpus: Corpus, stages: Stages, selection: Selection) -> int:
    lengths = _lengths(corpus, selection, stages.once)
    return sum(map(stages.split.count, lengths, selection.labels))


def _lengths(corpus: Corpus, selection: Selection, actions: Sequence[Action]) -> list[int]:
    """Return how many samples each record has after those of the actions that resample."""
    rates = [action.fs for action in actions if isinstance(action, ResampleSignals)]
    lengths = []
    for row in selection.rows:
        n_samples, fs = int(corpus.n_samples[row]), float(corpus.fs[row])
        for rate in rates:
            n_samples, fs = resampled_length(n_samples, fs, rate), rate
        lengths.append(n_samples)
    return lengths


def _notes(corpus: Corpus, settings: Settings, sides: Mapping[str, Selection]) -> Iterable[str]:
    for name, selection in sides.items():
        stages = settings.stages(name)
        found = {float(corpus.fs[row]) for row in selection.rows}
        for action in stages.once:
            found = {action.output_fs(fs) for fs in found}
        if len(found) > 1 and not stages.resamples:
            yield (
                f"{name} windows of {stages.split.length} samples span different times: the "
                f"records have {', '.join(f'{fs:g}' for fs in sorted(found))} Hz. "
                "resample_signals(fs) would make them equal."
            )
    n_train = len(sides[TRAIN].rows)
    rest = n_train % settings.batch_size
    if n_train < settings.batch_size and not settings.drop_last:
        yield (
            f"batch_size={settings.batch_size} is more than the {n_train} training records: each "
            "epoch is a single step with all of them."
        )
    if settings.drop_last and rest:
        yield (
            f"drop_last leaves {rest} of {n_train} training records out of each epoch, other ones "
            "each time."
        )


def batch_sources(
    corpus: Corpus, settings: Settings, sides: Mapping[str, Selection]
) -> dict[str, BatchSource]:
    """Make each side's source of batches; what runs once per record runs here, or is found."""
    sources = {}
    for name, selection in sides.items():
        stages, training = settings.stages(name), name == TRAIN
        prepared = prepare(corpus, stages, selection.rows)
        sources[name] = BatchSource(
            WindowMaker(stages, prepared, selection.rows, selection.labels, training=training),
            selection.rows,
            class_targets(selection.labels, settings.classes),
            settings.batch_size,
            drop_last=settings.drop_last and training,
        )
    return sources


def try_batches(corpus: Corpus, settings: Settings, data: DataPlan) -> None:
    """Make a first batch of each side, so that a step that fails does so before any run starts.

    Raises
    ------
    ResearchError
        If a batch can't be made: an action fails, or makes other shapes, NaN or infinite values.
    """
    for name, source in batch_sources(corpus, settings, data.sides).items():
        with located_errors(f"the {name} pipeline"):
            next(source.epoch(settings.seed, 0, 0, shuffle=False))
