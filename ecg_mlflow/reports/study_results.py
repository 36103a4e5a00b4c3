"""Predictions of finished studies, in the form in which configurations are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from mlflow import MlflowClient

from ecg_mlflow.errors import PredictionsError, TrackingError
from ecg_mlflow.records.splits import TEST, VALIDATION
from ecg_mlflow.stats.comparison import Candidate, Comparison, compare
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.stats.scores import objective_of
from ecg_mlflow.tracking.artifacts import read_tables
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.stored_study import StoredStudy, read_study

#: The weights that a study with validation records chose, and those that one without ends with:
#: there, "best" was chosen by the test records.
BEST, LAST = "best", "last"
#: Metrics of every comparison, beside the one that decides.
METRICS = (
    *("f1", "roc_auc", "average_precision", "sensitivity", "specificity", "accuracy"),
    *("log_loss", "cinc2017"),
)


@dataclass(frozen=True)
class ComparisonOptions:
    """Options of a comparison.

    Attributes
    ----------
    metric
        The one that decides; empty for what "best" has meant in the study.
    level
        Confidence of intervals and tests.
    resamples, seed
        Of the bootstrap.
    rule
        Which configuration wins; see `ecg_mlflow.stats.comparison.winner`.
    """

    metric: str = "f1"
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0
    rule: str = "lower_bound"

    @property
    def bootstrap(self) -> dict[str, Any]:
        """The arguments of everything that resamples records."""
        return {"level": self.level, "n_resamples": self.resamples, "seed": self.seed}


@dataclass(frozen=True)
class TrainedRun:
    """One finished run that was scored on the test records.

    Attributes
    ----------
    record
        The run as the store has it.
    weights
        Which of its weights are compared: ``best`` or ``last``.
    test, validation
        Their predictions, by the records' names; None where there are no validation records.
    """

    record: StoredRun
    weights: str
    test: Predictions
    validation: Predictions | None

    def predictions(self, side: str) -> Predictions:
        """Return its predictions of the test or of the validation records, which there are."""
        found = self.validation if side == VALIDATION else self.test
        assert found is not None
        return found


@dataclass(frozen=True)
class Configuration:
    """The finished repetitions of one configuration.

    Attributes
    ----------
    name
        Its options by their aliases, after its study's name where several are compared.
    runs
        In the order of their repetitions.
    """

    name: str
    runs: tuple[TrainedRun, ...]

    def candidate(self, side: str) -> Candidate:
        """Return its predictions of one side's records."""
        predictions = tuple(run.predictions(side) for run in self.runs)
        costs = (self._median(name) for name in ("trainable_parameters", "system/ms_per_record"))
        return Candidate(self.name, predictions, *costs)

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

    def complete(self, options: ComparisonOptions) -> ComparisonOptions:
        """Fill in what "best" has meant in these studies where no metric was asked for."""
        usual = objective_of(self.configurations[0].runs[0].test.is_multilabel)
        return replace(options, metric=options.metric or usual)

    def compare(self, side: str, options: ComparisonOptions) -> Comparison:
        """Compare the configurations by their predictions of one side's records.

        Raises
        ------
        PredictionsError
            If the metric isn't one of these predictions'.
        """
        known = [one.candidate(side) for one in self.configurations]
        # One model may leave a metric undefined (precision, if it finds no positive record).
        defined = {name for one in known for each in one.repetitions for name in each.metrics}
        if options.metric not in defined:
            raise PredictionsError(
                f"metric={options.metric!r} is none of these predictions' metrics: "
                f"{', '.join(sorted(defined))}"
            )
        metrics = [name for name in METRICS if name in defined]
        return compare(known, metrics, options.metric, **options.bootstrap)

    def configuration(self, name: str) -> Configuration:
        """Return the one of that name."""
        return next(one for one in self.configurations if one.name == name)


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
    found = [_configurations(client, study, len(studies) > 1, notes) for study in studies]
    kept = _same_test_records([each for each in found if each], notes)
    if not kept:
        raise TrackingError(
            "nothing to compare: no finished run of "
            + ", ".join(f"{study.name} ({study.run_id})" for study in studies)
            + " has predictions of test records; has the study ended?"
        )
    validated = all(run.validation is not None for one in kept for run in one.runs)
    return Results(studies, tuple(kept), VALIDATION if validated else TEST, tuple(notes))


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
    if study.n_lost:
        notes.append(
            f"{study.n_lost} runs that {study.name} had taken over from other studies are not in "
            "the store any more, and do not count"
        )
    validation = f"predictions/{VALIDATION}_best.csv"
    files = {run_id: (f"predictions/{name}.csv", validation) for run_id, name in weights.items()}
    wanted = [(run.artifact_uri, file) for run in study.finished for file in files[run.run_id]]
    tables = read_tables(client, wanted)
    groups: dict[tuple[tuple[str, str], ...], list[TrainedRun]] = {}
    for child in study.finished:
        runs = groups.setdefault(tuple(child.options.items()), [])
        test, validated = (
            _predictions(tables[child.artifact_uri, file], child) for file in files[child.run_id]
        )
        if test is not None:
            runs.append(TrainedRun(child, weights[child.run_id], test, validated))
    found = []
    for options, runs in groups.items():
        name = ", ".join(f"{key} {value}" for key, value in options) or "(no options)"
        runs.sort(key=lambda run: run.record.repetition)
        if runs:
            found.append(Configuration(f"{study.name}: {name}" if several else name, tuple(runs)))
    if len(found) < len(groups):
        notes.append(
            f"{len(groups) - len(found)} configurations of {study.name} have no predictions of the "
            "test records: a search scores the ones that it ends with"
        )
    return found


def _predictions(table: Mapping[str, Sequence[Any]] | None, child: StoredRun) -> Predictions | None:
    if table is None:
        return None
    multilabel = child.params.get("multilabel") == "True"
    return Predictions.from_columns(table, child.params["positive"], multilabel=multilabel).sorted()


def _same_test_records(
    studies: Sequence[Sequence[Configuration]], notes: list[str]
) -> list[Configuration]:
    """Keep the configurations that were tested on what most of the first study was tested on."""
    if not studies:
        return []

    def digest(run: TrainedRun) -> str:
        return run.record.datasets.get(TEST, "")

    ((wanted, _),) = Counter(digest(one.runs[0]) for one in studies[0]).most_common(1)
    kept = []
    for one in chain.from_iterable(studies):
        other = {digest(run) for run in one.runs} - {wanted}
        if other:
            notes.append(
                f"{one.name} is not compared: its test records are other ones (digest "
                f"{', '.join(sorted(digest[:8] for digest in other))}, not {wanted[:8]})"
            )
        else:
            kept.append(one)
    return kept
