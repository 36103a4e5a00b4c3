"""``ecg-mlflow errors``: a model's errors, record by record and group by group."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mlflow import MlflowClient

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records import Corpus
from ecg_mlflow.records.labels import read_groups, read_labels
from ecg_mlflow.records.named_sets import HEADERS
from ecg_mlflow.records.sources import load_groups
from ecg_mlflow.reports.figures import draw_ecg, subgroup_plot
from ecg_mlflow.reports.html import PAGE, Picture, Table, log_report, render
from ecg_mlflow.reports.importance import Viewer, open_viewer
from ecg_mlflow.reports.study_corpus import DataLocation, open_study_corpus
from ecg_mlflow.reports.study_results import ComparisonOptions, read_results
from ecg_mlflow.reports.winner import choose_run
from ecg_mlflow.stats.metrics import loss_terms
from ecg_mlflow.stats.predictions import Predictions, prediction_columns
from ecg_mlflow.stats.subgroups import Subgroup, subgroups
from ecg_mlflow.tracking.run_data import as_columns, csv_text
from ecg_mlflow.tracking.stored_study import StoredStudy
from ecg_mlflow.tracking.trusted_code import Consent

FOLDER = "errors"
#: Metrics of the groups.
METRICS = ("f1", "sensitivity", "specificity")
#: What to call a record of none of the classes.
NONE = "none"


def analyse_errors(
    client: MlflowClient,
    name: str,
    options: ComparisonOptions,
    location: DataLocation,
    *,
    run_id: str | None = None,
    n_worst: int = 12,
    groups_file: str | None = None,
    output: Path | None = None,
    trust_code: bool = False,
) -> str:
    """Log the error analysis of a study's winner, or of one of its runs, into that run.

    1. Sort the test records by the probability of their own class, the lowest first.
    2. Draw the worst errors as ECG strips, coloured by importance for the network.
    3. Compute the metrics for each group of records in the label file.

    ``trust_code`` lets the study's own functions be run, if its pipeline has some, although this
    machine has not run them before.

    Returns
    -------
    A summary for the terminal.

    Raises
    ------
    UntrustedCodeError
        If the study's own functions would run here, without consent.
    EcgMlflowError
        If the study, its recordings or the groups aren't found.
    """
    results = read_results(client, [name])
    options = results.complete(options)
    choice = choose_run(results, options, run_id)
    study, run, test = results.studies[0], choice.run, choice.run.test
    corpus = open_study_corpus(study.plan, study.request, location)
    worst = worst_errors(test, n_worst)
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as scratch:
        viewer = open_viewer(client, study, run, Path(scratch), Consent(trust_code))
    strips = {
        f"{rank:02d}_{test.records[row]}": _strip(corpus, test, rank, row, viewer)
        for rank, row in enumerate(worst.tolist(), start=1)
    }
    groups = _groups(_group_columns(study, location, groups_file), test, options)
    rows = [one.cells() for one in groups]
    picture = _group_picture(groups, test, options) if groups else None
    summary = f"{choice}: {_summary(test)}"
    page = render(
        "errors.html",
        title=f"Errors of {choice.configuration.name}, repetition {run.record.repetition}",
        summary=summary,
        strips=list(strips.values()),
        explained=viewer is not None,
        groups=Table(rows) if groups else None,
        groups_picture=picture,
    )
    files: dict[str, str | bytes] = {"records.csv": csv_text(_records_table(test)), PAGE: page}
    files |= {f"strips/{file}.png": strip.data for file, strip in strips.items()}
    if picture is not None:
        files |= {"groups.csv": csv_text(as_columns(rows)), "groups.png": picture.data}
    n_groups = Counter(one.column for one in groups)
    lines = [summary, *(f"  {_in_short(test, row)}" for row in worst.tolist())]
    lines += [f"by {column}: {n} groups" for column, n in n_groups.items()]
    page_at = log_report(client, run.record.run_id, FOLDER, files, output)
    return "\n".join([*lines, f"report: {page_at}"])


def worst_errors(predictions: Predictions, n: int) -> npt.NDArray[np.int64]:
    """Return the rows of the wrongly classified records, the most certain errors first."""
    order = np.argsort(-loss_terms(predictions), kind="stable")
    return np.asarray(order[~predictions.is_correct[order]][:n])


def wrong_class(predictions: Predictions, row: int) -> int:
    """Return the index of the predicted class or, of several, the one farthest from the truth."""
    if predictions.is_multilabel:
        return int(np.abs(predictions.probabilities[row] - predictions.targets[row]).argmax())
    return int(predictions.predicted[row])


def _summary(test: Predictions) -> str:
    positive = test.is_positive
    missed = int((positive & ~test.predicted_positive).sum())
    return (
        f"{int((~test.is_correct).sum())} of {len(test)} test records are wrong; {missed} of "
        f"{int(positive.sum())} with {test.positive} were missed, and "
        f"{int((~positive & test.predicted_positive).sum())} were falsely predicted as "
        f"{test.positive}"
    )


def _in_short(test: Predictions, row: int) -> str:
    place = wrong_class(test, row)
    return (
        f"{test.records[row]}: {test.labels[row] or NONE}, predicted "
        f"{test.predicted_labels[row] or NONE} with a probability of "
        f"{test.probabilities[row, place]:.2f}"
        + (f" of {test.classes[place]}" if test.is_multilabel else "")
    )


def _records_table(test: Predictions) -> dict[str, Any]:
    losses = loss_terms(test)
    order = np.argsort(-losses, kind="stable")
    test = test.take(order)
    return prediction_columns(test.records, test, more={"log_loss": losses[order]})


def _strip(
    corpus: Corpus, test: Predictions, rank: int, row: int, viewer: Viewer | None
) -> Picture:
    record = corpus.record(corpus.index(test.records[row]))
    place = wrong_class(test, row)
    shown = place if test.is_multilabel else test.place
    label, predicted = test.labels[row] or NONE, test.predicted_labels[row] or NONE
    figure = draw_ecg(
        record.signal,
        record.fs,
        record.leads,
        title=f"{record.id} · label {label} · predicted {predicted} · "
        f"p({test.classes[shown]}) = {test.probabilities[row, shown]:.2f} · "
        f"{len(record.signal) / record.fs:.1f} s at {record.fs:g} Hz",
        importance=None if viewer is None else viewer.importance(record, place),
    )
    return Picture.of(figure, f"{rank}. {record.id}, {label}")


def _groups(
    columns: Mapping[str, Mapping[str, str]], test: Predictions, options: ComparisonOptions
) -> list[Subgroup]:
    """Compute the metrics of each group of records, one column after the other."""
    found: list[Subgroup] = []
    for name, values in columns.items():
        cells = [values.get(record) for record in test.records]
        if any(cell is not None for cell in cells):
            found += subgroups(test, cells, name, METRICS, **options.bootstrap)
    return found


def _group_columns(
    study: StoredStudy, location: DataLocation, file: str | None
) -> dict[str, dict[str, str]]:
    if file is not None:
        return read_groups([Path(file)])
    data, labels = location.of(study.plan, study.request)
    if labels not in (None, HEADERS):
        # Which file the store names is not trusted: its columns are uploaded with the report.
        then = study.plan["corpus"]["labels_sha256"]
        if location.labels is None and read_labels(Path(labels)).sha256 != then:
            raise DataNotFoundError(
                f"{labels} is not the label file that study {study.run_id} was run with: its "
                "content is another. Name the one to take groups from, with labels or groups"
            )
        return read_groups([Path(labels)])
    if data == "cinc2017":  # its label file has no other column, and need not be downloaded again
        return {}
    try:
        return load_groups(data, labels)
    except DataNotFoundError:  # packed, and no longer there
        return {}


def _group_picture(
    groups: list[Subgroup], test: Predictions, options: ComparisonOptions
) -> Picture:
    metric = options.metric if options.metric in METRICS else METRICS[0]
    overall = Subgroup.of(test, "", "all records", METRICS, **options.bootstrap)
    figure = subgroup_plot(groups, metric, overall=overall, level=options.level)
    return Picture.of(figure, f"{metric} by groups of records")
