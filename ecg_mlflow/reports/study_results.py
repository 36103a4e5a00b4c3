"""Predictions of finished studies, in the form in which configurations are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.records.splits import VALIDATION
from ecg_mlflow.stats.comparison import Candidate
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.stats.scores import objective_of
from ecg_mlflow.tracking.artifacts import read_tables
from ecg_mlflow.tracking.stored_study import ChildRecord, StudyRecord, read_study

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: The weights that a study with validation records chose, and those that one without ends with:
#: there, "best" was chosen by the test records.
BEST, LAST = "best", "last"


@dataclass(frozen=True)
class TrainedRun:
    """One finished run.

    Attributes
    ----------
    record
        The run as the store has it.
    weights
        Which of its weights are compared: ``best`` or ``last``.
    test, validation
        Their predictions, by the records' names; None where the run has none.
    """

    record: ChildRecord
    weights: str
    test: Predictions | None
    validation: Predictions | None

    @property
    def is_multilabel(self) -> bool:
        """Whether its records may be of several classes."""
        return is_multilabel_run(self.record)


def is_multilabel_run(child: ChildRecord) -> bool:
    """Tell whether a run's records may be of several classes."""
    return child.params.get("multilabel") == "True"


@dataclass(frozen=True)
class Configuration:
    """The finished repetitions of one configuration.

    Attributes
    ----------
    name
        Its options by their aliases, after its study's name where several are compared.
    options
        The aliases.
    study
        Its study.
    runs
        In the order of their repetitions.
    """

    name: str
    options: Mapping[str, str]
    study: StudyRecord
    runs: tuple[TrainedRun, ...]

    @property
    def tests(self) -> list[Predictions]:
        """Predictions of the test records by each run that has some."""
        return [run.test for run in self.runs if run.test is not None]

    def candidate(self, side: str) -> Candidate | None:
        """Return its predictions of one side's records; None if a run has none of them."""
        found = [run.validation if side == VALIDATION else run.test for run in self.runs]
        predictions = tuple(one for one in found if one is not None)
        if len(predictions) < len(found):
            return None
        return Candidate(
            self.name,
            predictions,
            self._median("trainable_parameters"),
            self._median("system/ms_per_record"),
        )

    def _median(self, metric: str) -> float | None:
        found = [run.record.metrics[metric] for run in self.runs if metric in run.record.metrics]
        return float(np.median(found)) if found else None


@dataclass(frozen=True)
class Results:
    """Configurations whose test records are the same, ready to be compared.

    Attributes
    ----------
    studies
        Those that were asked for.
    configurations
        Of all of them, those with predictions of the test records.
    side
        By which records a winner may be chosen without a correction for it: ``validation``, or
        ``test`` where a study has no others.
    notes
        What was left out, and why.
    """

    studies: tuple[StudyRecord, ...]
    configurations: tuple[Configuration, ...]
    side: str
    notes: tuple[str, ...]

    @property
    def usual_metric(self) -> str:
        """What "best" has meant in these studies."""
        return objective_of(self.configurations[0].runs[0].is_multilabel)


def read_results(client: MlflowClient, names: Sequence[str]) -> Results:
    """Read finished studies.

    Parameters
    ----------
    client
        The store.
    names
        Their parent runs, by id or by name.

    Raises
    ------
    TrackingError
        If there is no such study, or nothing in it to compare.
    """
    studies = tuple(read_study(client, name) for name in names)
    notes: list[str] = []
    configurations = [
        one for study in studies for one in _configurations(client, study, len(studies) > 1, notes)
    ]
    kept = _same_test_records(configurations, notes)
    if not kept:
        raise TrackingError(
            "nothing to compare: no finished run of "
            + ", ".join(f"{study.name} ({study.run_id})" for study in studies)
            + " has predictions of test records; has the study ended?"
        )
    validated = all(run.validation is not None for one in kept for run in one.runs)
    return Results(studies, tuple(kept), VALIDATION if validated else "test", tuple(notes))


def _configurations(
    client: MlflowClient, study: StudyRecord, several: bool, notes: list[str]
) -> list[Configuration]:
    validated = [VALIDATION in child.datasets for child in study.children]
    if study.children and not any(validated):
        notes.append(
            f"{study.name} has no validation records: the weights of the last iteration are "
            "compared, because its best ones were chosen by the test records, as a winner would be"
        )
    weights = [BEST if one else LAST for one in validated]
    wanted = [
        (child.run_id, f"predictions/{name}.csv")
        for child, name in zip(study.children, weights, strict=True)
    ]
    wanted += [(child.run_id, f"predictions/{VALIDATION}_best.csv") for child in study.children]
    tables = read_tables(client, wanted)
    runs = [
        TrainedRun(child, name, _predictions(tables[test], child), _predictions(tables[val], child))
        for child, name, test, val in zip(
            study.children,
            weights,
            wanted[: len(weights)],
            wanted[len(weights) :],
            strict=True,
        )
    ]
    groups: dict[tuple[tuple[str, str], ...], list[TrainedRun]] = {}
    for run in runs:
        groups.setdefault(tuple(run.record.options.items()), []).append(run)
    found, unscored = [], 0
    for options, members in groups.items():
        scored = [run for run in members if run.test is not None]
        if not scored:
            unscored += 1
            continue
        name = ", ".join(f"{key} {value}" for key, value in options) or "(no options)"
        found.append(
            Configuration(
                f"{study.name}: {name}" if several else name,
                dict(options),
                study,
                tuple(sorted(scored, key=lambda run: run.record.repetition)),
            )
        )
    if unscored:
        notes.append(
            f"{unscored} configurations of {study.name} have no predictions of the test records: "
            "a search scores the ones that it ends with"
        )
    return found


def _predictions(
    table: Mapping[str, Sequence[Any]] | None, child: ChildRecord
) -> Predictions | None:
    if table is None:
        return None
    found = Predictions.from_columns(
        table, child.params["positive"], multilabel=is_multilabel_run(child)
    )
    return found.sorted()


def _same_test_records(
    configurations: Sequence[Configuration], notes: list[str]
) -> list[Configuration]:
    """Keep the configurations that were tested on what most of the first study was tested on."""
    digests: dict[str, int] = {}
    for one in configurations:
        if one.study is configurations[0].study:
            digest = one.runs[0].record.datasets.get("test", "")
            digests[digest] = digests.get(digest, 0) + 1
    if not digests:
        return []
    wanted = max(digests, key=lambda digest: digests[digest])
    kept = []
    for one in configurations:
        other = {run.record.datasets.get("test", "") for run in one.runs} - {wanted}
        if other:
            notes.append(
                f"{one.name} is not compared: its test records are other ones (digest "
                f"{', '.join(sorted(digest[:8] for digest in other))}, not {wanted[:8]})"
            )
        else:
            kept.append(one)
    return kept
