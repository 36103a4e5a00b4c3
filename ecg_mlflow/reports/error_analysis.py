"""``ecg-mlflow errors``: where a model goes wrong, record by record and group by group."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records.labels import read_groups
from ecg_mlflow.records.locating import HEADERS, located
from ecg_mlflow.records.sources import load_groups
from ecg_mlflow.reports.figures import Subgroup, draw_strip, strip_title, subgroup_plot
from ecg_mlflow.reports.html import Paragraph, Picture, Section, Table, html_report
from ecg_mlflow.reports.importance import open_viewer
from ecg_mlflow.reports.options import Question
from ecg_mlflow.reports.report_files import ReportFiles
from ecg_mlflow.reports.study_corpus import Place, open_study_corpus
from ecg_mlflow.reports.study_results import TrainedRun, read_results
from ecg_mlflow.reports.winner import choose_run
from ecg_mlflow.stats.predictions import Predictions, prediction_columns
from ecg_mlflow.stats.subgroups import SubgroupRow, subgroup_table
from ecg_mlflow.stats.weighted import loss_terms
from ecg_mlflow.tracking.leaderboard import as_columns
from ecg_mlflow.tracking.stored_study import StoredStudy

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ecg_mlflow.records import Corpus

FOLDER = "errors"
#: Metrics of the groups.
METRICS = ("f1", "sensitivity", "specificity")
#: What to call a record of none of the classes.
NONE = "none"


def analyse_errors(
    client: MlflowClient,
    name: str,
    question: Question,
    place: Place,
    *,
    run_id: str | None = None,
    n_worst: int = 12,
    groups: str | None = None,
    output: Path | None = None,
) -> str:
    """Log the error analysis of a study's winner, or of one of its runs, into that run.

    1. Sort the test records by the probability that their own class was given, worst first.
    2. Draw the worst errors as ECG strips, with what the network looked at.
    3. Compute the metrics for each group that the label file tells of.

    Returns
    -------
    A summary for the terminal.

    Raises
    ------
    EcgMlflowError
        If the study, its recordings or the groups aren't found.
    """
    results = read_results(client, [name])
    question = question.about(results.usual_metric)
    choice = choose_run(results, question, run_id)
    study, run = results.studies[0], choice.run
    assert run.test is not None
    corpus = open_study_corpus(study.plan, study.request, place)
    worst = worst_errors(run.test, n_worst)
    files = ReportFiles(client, run.record.run_id, FOLDER, output)
    files.table("records.csv", _records_table(run.test))
    sections = [Section("", [Paragraph(_summary(run.test, str(choice)))])]
    sections.append(_strips(client, study, run, corpus, worst, files))
    tables = _groups(study, place, groups, run.test, question)
    sections += _group_sections(tables, run.test, question, files)
    title = f"Errors of {choice.configuration.name}, repetition {run.record.repetition}"
    files.text("report.html", html_report(title, sections))
    lines = [_summary(run.test, str(choice))]
    truly, said = run.test.labels, run.test.predicted_labels
    lines += [
        f"  {run.test.records[row]}: {truly[row] or NONE}, said {said[row] or NONE} with a "
        f"probability of {run.test.probabilities[row, place]:.2f}"
        + (f" of {run.test.classes[place]}" if run.test.is_multilabel else "")
        for row, place in ((int(row), wrong_class(run.test, int(row))) for row in worst)
    ]
    lines += [f"by {column}: {len(rows)} groups" for column, rows in tables.items()]
    return "\n".join([*lines, f"report: {files.where('report.html')}"])


def severity(predictions: Predictions) -> npt.NDArray[np.float64]:
    """Return ``(n_records,)`` how unlikely the truth about each record was called, in nats."""
    return loss_terms(predictions)


def wrong_class(predictions: Predictions, row: int) -> int:
    """Return the index of the class that was said or, of several, the most wrongly judged one."""
    if predictions.is_multilabel:
        return int(np.abs(predictions.probabilities[row] - predictions.targets[row]).argmax())
    return int(predictions.predicted[row])


def worst_errors(predictions: Predictions, n: int) -> npt.NDArray[np.int64]:
    """Return the rows of the wrongly classified records, the most certain errors first."""
    order = np.argsort(-severity(predictions), kind="stable")
    return np.asarray(order[~predictions.is_right[order]][:n])


def _summary(test: Predictions, choice: str) -> str:
    wrong = ~test.is_right
    missed = int((~test.said_positive & test.is_positive).sum())
    return (
        f"{choice}: {int(wrong.sum())} of {len(test)} test records are wrong; {missed} of "
        f"{int(test.is_positive.sum())} with {test.positive} were missed, and "
        f"{int((~test.is_positive & test.said_positive).sum())} were called "
        f"{test.positive} without being it"
    )


def _records_table(test: Predictions) -> dict[str, Any]:
    losses = severity(test)
    order = np.argsort(-losses, kind="stable")
    truly, predicted = test.labels, test.predicted_labels
    return prediction_columns(
        [test.records[row] for row in order],
        [truly[row] for row in order],
        [predicted[row] for row in order],
        test.probabilities[order],
        test.classes,
        more={"log_loss": losses[order]},
    )


def _strips(
    client: MlflowClient,
    study: StoredStudy,
    run: TrainedRun,
    corpus: Corpus,
    worst: npt.NDArray[np.int64],
    files: ReportFiles,
) -> Section:
    """Draw the worst errors; each picture is a file of its own, too."""
    test = run.test
    assert test is not None
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as folder:
        viewer = open_viewer(client, study, run, Path(folder))
    looked = (
        "The colour of the paper says how much each moment counted for the class that was said "
        "(gradient times input); seconds after the last whole window were not looked at."
        if viewer is not None
        else "What the network looked at is not shown: its pipeline draws by chance."
    )
    pictures: list[Paragraph | Table | Picture] = [Paragraph(looked)]
    truly, called = test.labels, test.predicted_labels
    for rank, row in enumerate(worst, start=1):
        record = corpus.record(corpus.index(test.records[row]))
        place = wrong_class(test, int(row))
        shown = place if test.is_multilabel else test.place
        figure = draw_strip(
            record.signal,
            record.fs,
            record.leads,
            title=strip_title(
                record.id,
                truly[row] or NONE,
                called[row] or NONE,
                test.classes[shown],
                float(test.probabilities[row, shown]),
                len(record.signal),
                record.fs,
            ),
            importance=None if viewer is None else viewer.importance(record, place),
        )
        caption = f"{rank}. {record.id}, {truly[row] or NONE}"
        picture = Picture.of(figure, caption)
        pictures.append(picture)
        files.binary(f"strips/{rank:02d}_{record.id}.png", picture.data)
    if not len(worst):
        pictures = [Paragraph("No test record is classified wrongly.")]
    return Section("Worst errors", pictures)


def _groups(
    study: StoredStudy,
    place: Place,
    groups: str | None,
    test: Predictions,
    question: Question,
) -> dict[str, list[SubgroupRow]]:
    """Compute the metrics of each group of records, by column."""
    columns = _group_columns(study, place, groups)
    found = {}
    for name, values in columns.items():
        cells = [values.get(record) for record in test.records]
        if any(cell is not None for cell in cells):
            found[name] = subgroup_table(
                test,
                cells,
                name,
                METRICS,
                level=question.level,
                n_resamples=question.resamples,
                seed=question.seed,
            )
    return found


def _group_columns(
    study: StoredStudy, place: Place, groups: str | None
) -> dict[str, dict[str, str]]:
    if groups is not None:
        return read_groups([Path(located(groups, place.folders))])
    data, labels = place.located(study.plan, study.request)
    if labels not in (None, HEADERS):
        return read_groups([Path(labels)])
    if data == "cinc2017":  # its label file says nothing else, and need not be downloaded again
        return {}
    try:
        return load_groups(data, labels)
    except DataNotFoundError:  # packed, and no longer there
        return {}


def _group_sections(
    tables: Mapping[str, Sequence[SubgroupRow]],
    test: Predictions,
    question: Question,
    files: ReportFiles,
) -> list[Section]:
    if not tables:
        return []
    flat = [row for rows in tables.values() for row in rows]
    files.table("groups.csv", as_columns([row.cells() for row in flat]))
    metric = question.metric if question.metric in METRICS else METRICS[0]
    overall = Subgroup(
        "", "all records", len(test), int(test.is_positive.sum()), test.metrics.get(metric, np.nan)
    )
    figure = subgroup_plot(
        [_subgroup(row, metric) for row in flat], metric, overall=overall, level=question.level
    )
    picture = Picture.of(figure, f"{metric} by groups of records")
    files.binary("groups.png", picture.data)
    return [Section("Groups of records", [picture, Table([row.cells() for row in flat])])]


def _subgroup(row: SubgroupRow, metric: str) -> Subgroup:
    interval = row.intervals[metric]
    return Subgroup(
        row.column,
        row.group,
        row.n_records,
        row.n_positive,
        row.metrics[metric],
        None if np.isnan(interval.low) else (interval.low, interval.high),
    )
