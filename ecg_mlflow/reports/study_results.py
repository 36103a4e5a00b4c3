"""Predictions of finished studies, in the form in which configurations are compared."""

from __future__ import annotations

from collections import Counter
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
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.stored_study import StoredStudy, read_study

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

    record: StoredRun
    weights: str
    test: Predictions | None
    validation: Predictions | None

    @property
    def is_multilabel(self) -> bool:
        """Whether its records may be of several classes."""
        return is_multilabel_run(self.record)


def is_multilabel_run(child: StoredRun) -> bool:
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
    study: StoredStudy
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

    studies: tuple[StoredStudy, ...]
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
    client: MlflowClient, study: StoredStudy, several: bool, notes: list[str]
) -> list[Configuration]:
    weights = {
        child.run_id: BEST if VALIDATION in child.datasets else LAST for child in study.finished
    }
    if study.finished and BEST not in weights.values():
        notes.append(
            f"{study.name} has no validation records: the weights of the last iteration are "
            "compared, because its best ones were chosen by the test records, as a winner would be"
        )
    validation = f"predictions/{VALIDATION}_best.csv"
    files = {run_id: (f"predictions/{name}.csv", validation) for run_id, name in weights.items()}
    wanted = [(run.artifact_uri, file) for run in study.finished for file in files[run.run_id]]
    tables = read_tables(client, wanted)
    groups: dict[tuple[tuple[str, str], ...], list[TrainedRun]] = {}
    for child in study.finished:
        test, validated = (
            _predictions(tables[child.artifact_uri, file], child) for file in files[child.run_id]
        )
        run = TrainedRun(child, weights[child.run_id], test, validated)
        groups.setdefault(tuple(child.options.items()), []).append(run)
    found = []
    for options, runs in groups.items():
        name = ", ".join(f"{key} {value}" for key, value in options) or "(no options)"
        if several:
            name = f"{study.name}: {name}"
        scored = sorted((one for one in runs if one.test), key=lambda one: one.record.repetition)
        if scored:
            found.append(Configuration(name, dict(options), study, tuple(scored)))
    if len(found) < len(groups):
        notes.append(
            f"{len(groups) - len(found)} configurations of {study.name} have no predictions of the "
            "test records: a search scores the ones that it ends with"
        )
    return found


def _predictions(table: Mapping[str, Sequence[Any]] | None, child: StoredRun) -> Predictions | None:
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
    digests = Counter(
        one.runs[0].record.datasets.get("test", "")
        for one in configurations
        if one.study is configurations[0].study
    )
    if not digests:
        return []
    ((wanted, _),) = digests.most_common(1)
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
