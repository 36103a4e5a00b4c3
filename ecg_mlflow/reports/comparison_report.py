"""The report of a comparison: table, pairs, pictures and one page with all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.reports.figures import (
    Curve,
    Score,
    interval_plot,
    ranking_plot,
    reliability_plot,
    size_plot,
)
from ecg_mlflow.reports.figures.calibration_curve import calibration_curve
from ecg_mlflow.reports.html import Paragraph, Picture, Section, Table, html_report
from ecg_mlflow.reports.options import Question
from ecg_mlflow.reports.report_files import ReportFiles
from ecg_mlflow.reports.study_results import Configuration, Results
from ecg_mlflow.stats.bootstrap import resample_weights
from ecg_mlflow.stats.calibration import calibrated, fit_temperature
from ecg_mlflow.stats.comparison import Comparison, Standing
from ecg_mlflow.stats.curves import precision_recall_band, roc_band
from ecg_mlflow.stats.intervals import Interval
from ecg_mlflow.stats.metrics import higher_is_better
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.tracking.leaderboard import as_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

FOLDER = "comparison"
#: Configurations whose curves are drawn, and points of a curve.
CURVES, POINTS = 4, 101
#: Resamples of the curves' bands: each is many numbers, and their width needs no more.
BAND_RESAMPLES = 500


def write_report(
    client: MlflowClient,
    results: Results,
    comparison: Comparison,
    question: Question,
    words: Sequence[str],
    output: Path | None,
) -> str:
    """Log the report into the first study's parent run; return where its page is.

    Raises
    ------
    TrackingError, StorageFullError
        If it can't be written.
    """
    files = ReportFiles(client, results.studies[0].run_id, FOLDER, output)
    rows = [_row(rank, one) for rank, one in enumerate(comparison.standings, start=1)]
    files.table("configurations.csv", as_columns(rows))
    files.table("pairs.csv", as_columns(_pair_rows(comparison)))
    sections = [
        Section("", [Paragraph(f"{line}.") for line in words]),
        Section("Configurations", [_page_table(comparison, rows)]),
        _pictures(results, comparison, question, files),
    ]
    title = "Comparison of " + " and ".join(study.name for study in results.studies)
    files.text("report.html", html_report(title, sections))
    return files.where("report.html")


def _row(rank: int, one: Standing) -> dict[str, object]:
    row: dict[str, object] = {"rank": rank, "configuration": one.name}
    for name, estimate in one.estimates.items():
        row[name] = estimate.mean
        row[f"{name}_sd"] = estimate.sd
        row[f"{name}_low"], row[f"{name}_high"] = _ends(estimate.over_records)
        over = estimate.over_repetitions
        row[f"{name}_repetitions_low"], row[f"{name}_repetitions_high"] = _ends(over)
    return row | {
        "runs": len(next(iter(one.estimates.values())).each),
        "p_value": one.p_value,
        "as_good_as_the_best": one.in_group,
        "parameters": one.parameters,
        "ms_per_record": one.ms_per_record,
    }


def _ends(interval: Interval | None) -> tuple[float, float]:
    return (np.nan, np.nan) if interval is None else (interval.low, interval.high)


def _pair_rows(comparison: Comparison) -> list[dict[str, object]]:
    names = [one.name for one in comparison.standings]
    rows = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            pair = comparison.pair(first, second)
            rows.append(
                {
                    "first": first,
                    "second": second,
                    f"{comparison.decisive}_difference": pair.difference,
                    "low": pair.interval.low,
                    "high": pair.interval.high,
                    "p_value": pair.p_value,
                }
            )
    return rows


def _page_table(comparison: Comparison, rows: Sequence[dict[str, object]]) -> Table:
    metric = comparison.decisive
    columns = [
        *("rank", "configuration", "runs", metric, f"{metric}_sd", f"{metric}_low"),
        *(f"{metric}_high", "p_value", "parameters", "ms_per_record"),
        *(name for name in comparison.metrics if name != metric),
    ]
    highlight = [i for i, one in enumerate(comparison.standings) if one.in_group]
    caption = "Marked: those that can't be told from the best. All figures: configurations.csv"
    return Table(rows, caption, columns, highlight)


def _pictures(
    results: Results, comparison: Comparison, question: Question, files: ReportFiles
) -> Section:
    metric, level = comparison.decisive, comparison.level
    scores = [_score(comparison, one) for one in comparison.standings]
    better = higher_is_better(metric)
    title = f"{metric} on {comparison.n_records} test records"
    figures: dict[str, tuple[Figure, str]] = {
        "intervals": (
            interval_plot(scores, metric, title=title, level=level, higher_is_better=better),
            f"{metric} of each configuration",
        ),
        "curves": (_curves(results, comparison, question), "ROC and precision-recall curves"),
        "calibration": (_calibration(results, comparison), "Calibration of a run of the best one"),
    }
    if any(one.parameters for one in comparison.standings):
        figures["size"] = (
            size_plot(scores, metric, title=title, level=level, higher_is_better=better),
            f"{metric} against the number of parameters",
        )
    pictures = []
    for name, (figure, caption) in figures.items():
        picture = Picture.of(figure, caption)
        files.binary(f"{name}.png", picture.data)
        pictures.append(picture)
    return Section("Pictures", pictures)


def _score(comparison: Comparison, one: Standing) -> Score:
    estimate = one.estimates[comparison.decisive]
    marks = [
        word
        for word, who in (("smallest", comparison.smallest), ("fastest", comparison.fastest))
        if who is one and len(comparison.group) > 1
    ]
    over = estimate.over_repetitions
    return Score(
        one.name,
        estimate.mean,
        (estimate.over_records.low, estimate.over_records.high),
        None if over is None else (over.low, over.high),
        estimate.each if len(estimate.each) > 1 else (),
        one.in_group,
        tuple(marks),
        None if one.parameters is None else round(one.parameters),
    )


def _curves(results: Results, comparison: Comparison, question: Question) -> Figure:
    grid = np.linspace(0, 1, POINTS)
    first = _tests(_named(results, comparison.leader))[0]
    weights = resample_weights(len(first), BAND_RESAMPLES, question.seed, first.groups)
    roc: list[Curve] = []
    recall: list[Curve] = []
    for one in comparison.standings[:CURVES]:
        tests = _tests(_named(results, one))
        for made, band_of, metric in (
            (roc, roc_band, "roc_auc"),
            (recall, precision_recall_band, "average_precision"),
        ):
            band = band_of(tests, weights, grid, level=question.level)
            area = one.estimates[metric].mean if metric in one.estimates else np.nan
            made.append(Curve(one.name, band.x, band.y, band.low, band.high, f"{area:.3f}"))
    return ranking_plot(roc, recall, float(first.is_positive.mean()), level=question.level)


def _calibration(results: Results, comparison: Comparison) -> Figure:
    """Draw the probabilities of the best configuration's first run, as they are and calibrated."""
    run = _named(results, comparison.leader).runs[0]
    assert run.test is not None
    drawn = [calibration_curve("as trained", run.test, comparison.level)]
    if run.validation is not None:
        temperature = fit_temperature(run.validation.targets, run.validation.probabilities)
        mended = calibrated(run.test.probabilities, temperature, run.test.activation)
        drawn.append(
            calibration_curve(
                "calibrated on validation records",
                replace(run.test, probabilities=mended),
                comparison.level,
            )
        )
    title = f"{comparison.leader.name}, repetition {run.record.repetition}"
    return reliability_plot(drawn, title=title, level=comparison.level)


def _tests(configuration: Configuration) -> list[Predictions]:
    return [run.test for run in configuration.runs if run.test is not None]


def _named(results: Results, one: Standing) -> Configuration:
    (found,) = (each for each in results.configurations if each.name == one.name)
    return found
