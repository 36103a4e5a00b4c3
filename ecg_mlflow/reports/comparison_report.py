"""The report of a comparison: tables, figures and one page with all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.reports.figures import interval_plot, ranking_plot, reliability_plot, size_plot
from ecg_mlflow.reports.html import Picture, Table, render
from ecg_mlflow.reports.options import ComparisonOptions
from ecg_mlflow.reports.report_files import PAGE, log_report
from ecg_mlflow.reports.study_results import Results
from ecg_mlflow.stats.bootstrap import resample_weights
from ecg_mlflow.stats.calibration import fit_temperature, reliability, with_temperature
from ecg_mlflow.stats.comparison import Comparison, Standing
from ecg_mlflow.stats.curves import precision_recall_curve, roc_curve
from ecg_mlflow.tracking.leaderboard import as_columns
from ecg_mlflow.tracking.run_log import csv_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

FOLDER = "comparison"
#: Configurations whose curves are drawn.
CURVES = 4
#: Resamples of the curves' bands: each is many numbers, and their width needs no more.
BAND_RESAMPLES = 500


def write_report(
    client: MlflowClient,
    results: Results,
    comparison: Comparison,
    options: ComparisonOptions,
    conclusions: Sequence[str],
    notes: Sequence[str],
    output: Path | None,
) -> str:
    """Log the report into the first study's parent run; return where its page is.

    Raises
    ------
    TrackingError, StorageFullError
        If it can't be written.
    """
    rows = [_row(rank, one) for rank, one in enumerate(comparison.standings, start=1)]
    pictures = {
        name: Picture.of(figure, caption)
        for name, figure, caption in _figures(results, comparison, options)
    }
    title = "Comparison of " + " and ".join(study.name for study in results.studies)
    metric = comparison.decisive
    shown = [
        *("rank", "configuration", "runs", metric, f"{metric}_sd", f"{metric}_low"),
        *(f"{metric}_high", "p_value", "parameters", "ms_per_record"),
        *(name for name in comparison.metrics if name != metric),
    ]
    page = render(
        "comparison.html",
        title=title,
        conclusions=conclusions,
        notes=notes,
        configurations=Table(rows, shown, [one.in_group for one in comparison.standings]),
        pictures=list(pictures.values()),
    )
    files: dict[str, str | bytes] = {
        "configurations.csv": csv_text(as_columns(rows)),
        "pairs.csv": csv_text(as_columns(_pair_rows(comparison))),
        **{f"{name}.png": picture.data for name, picture in pictures.items()},
        PAGE: page,
    }
    return log_report(client, results.studies[0].run_id, FOLDER, files, output)


def _row(rank: int, one: Standing) -> dict[str, object]:
    row: dict[str, object] = {"rank": rank, "configuration": one.name}
    for name, estimate in one.estimates.items():
        row |= {
            name: estimate.mean,
            f"{name}_sd": estimate.sd,
            f"{name}_low": estimate.over_records.low,
            f"{name}_high": estimate.over_records.high,
            f"{name}_repetitions_low": estimate.over_repetitions.low,
            f"{name}_repetitions_high": estimate.over_repetitions.high,
        }
    return row | {
        "runs": len(next(iter(one.estimates.values())).each),
        "p_value": one.p_value,
        "as_good_as_the_best": one.in_group,
        "parameters": one.parameters,
        "ms_per_record": one.ms_per_record,
    }


def _pair_rows(comparison: Comparison) -> list[dict[str, object]]:
    pairs, rows = comparison.pairs, []
    for (i, first), (j, second) in combinations(enumerate(comparison.standings), 2):
        interval = pairs.interval(i, j)
        rows.append(
            {
                "first": first.name,
                "second": second.name,
                f"{comparison.decisive}_difference": float(pairs.differences[i, j]),
                "low": interval.low,
                "high": interval.high,
                "p_value": float(pairs.p_values[i, j]),
            }
        )
    return rows


def _figures(
    results: Results, comparison: Comparison, options: ComparisonOptions
) -> Iterator[tuple[str, Figure, str]]:
    """Yield name, figure and caption."""
    metric = comparison.decisive
    title = f"{metric} on {comparison.n_records} test records"
    yield "intervals", interval_plot(comparison, title=title), f"{metric} of each configuration"
    yield "curves", _curves(comparison, options), "ROC and precision-recall curves"
    caption = "Calibration of a run of the best configuration"
    yield "calibration", _calibration(results, comparison), caption
    if any(one.parameters for one in comparison.standings):
        caption = f"{metric} against the number of parameters"
        yield "size", size_plot(comparison, title=title), caption


def _curves(comparison: Comparison, options: ComparisonOptions) -> Figure:
    first = comparison.leader.repetitions[0]
    weights = resample_weights(len(first), BAND_RESAMPLES, options.seed, first.groups)
    kinds = ((roc_curve, "roc_auc"), (precision_recall_curve, "average_precision"))
    roc, recall = (
        [
            (
                one.name,
                curve_of(one.repetitions, weights, level=options.level),
                f"{one.estimates[area].mean if area in one.estimates else np.nan:.3f}",
            )
            for one in comparison.standings[:CURVES]
        ]
        for curve_of, area in kinds
    )
    return ranking_plot(roc, recall, float(first.is_positive.mean()), level=options.level)


def _calibration(results: Results, comparison: Comparison) -> Figure:
    """Draw the probabilities of the best configuration's first run, as they are and calibrated."""
    leader, level = comparison.leader.name, comparison.level
    run = results.configuration(leader).runs[0]
    drawn = {"as trained": reliability(run.test, level=level)}
    if run.validation is not None:
        calibrated = with_temperature(run.test, fit_temperature(run.validation))
        drawn["calibrated on validation records"] = reliability(calibrated, level=level)
    title = f"{leader}, repetition {run.record.repetition}"
    return reliability_plot(drawn, title=title, level=level)
