"""``ecg-mlflow compare``: which configurations are significantly better than others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.records.splits import TEST
from ecg_mlflow.reports.figures import interval_plot, ranking_plot, reliability_plot, size_plot
from ecg_mlflow.reports.html import PAGE, Picture, Table, log_report, render
from ecg_mlflow.reports.study_results import ComparisonOptions, Results, read_results
from ecg_mlflow.reports.text_tables import aligned
from ecg_mlflow.stats.bootstrap import resample_weights
from ecg_mlflow.stats.calibration import fit_temperature, reliability, with_temperature
from ecg_mlflow.stats.comparison import Comparison, Standing
from ecg_mlflow.stats.curves import Curve, ranking_curves
from ecg_mlflow.tracking.run_data import as_columns, csv_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

FOLDER = "comparison"
#: Rows of the printed table, and configurations whose curves are drawn.
SHOWN, CURVES = 30, 4
#: Resamples of the curves' bands: each is many numbers, and their width needs no more.
BAND_RESAMPLES = 500


def compare_studies(
    client: MlflowClient,
    names: Sequence[str],
    options: ComparisonOptions,
    output: Path | None = None,
) -> str:
    """Compare all configurations of some studies; log the report, and return the printed table.

    Parameters
    ----------
    client
        The store.
    names
        Studies; the report goes to the first one's parent run.
    options
        Of the comparison.
    output
        A folder that gets a copy.

    Raises
    ------
    TrackingError
        If a study isn't found, or has nothing to compare.
    PredictionsError
        If the metric isn't one of these predictions'.
    """
    results = read_results(client, names)
    options = results.complete(options)
    comparison = results.compare(TEST, options)
    conclusions = render("conclusions.txt", comparison=comparison).splitlines()
    notes = (*comparison.notes, *results.notes)
    metric = comparison.decisive
    rows = [_row(rank, one) for rank, one in enumerate(comparison.standings, start=1)]
    shown = [
        *("rank", "configuration", "runs", metric, f"{metric}_sd", f"{metric}_low"),
        *(f"{metric}_high", "p_value", "parameters", "ms_per_record"),
        *(name for name in comparison.metrics if name != metric),
    ]
    pictures = _pictures(results, comparison, options)
    page = render(
        "comparison.html",
        title="Comparison of " + " and ".join(study.name for study in results.studies),
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
    location = log_report(client, results.studies[0].run_id, FOLDER, files, output)
    more = len(rows) - SHOWN
    return "\n".join(
        [
            *aligned(_table(comparison)),
            *([f"... and {more} more, in the report"] if more > 0 else []),
            "",
            *(f"{line}." for line in conclusions),
            *(f"Note: {note}." for note in notes),
            f"report: {location}",
        ]
    )


def _table(comparison: Comparison) -> list[list[str]]:
    """Write the configurations as rows; a star marks the group of the best."""
    metric = comparison.decisive
    head = ["", "configuration", "runs", metric, "sd", f"{comparison.level:.0%} over records"]
    rows = [[*head, "p", "parameters", "ms/record"]]
    for one in comparison.standings[:SHOWN]:
        estimate = one.estimates[metric]
        interval = estimate.over_records
        rows.append(
            [
                "*" if one.in_group else "",
                one.name,
                str(len(estimate.each)),
                f"{estimate.mean:.4f}",
                f"{estimate.sd:.4f}" if np.isfinite(estimate.sd) else "-",
                f"{interval.low:.4f} to {interval.high:.4f}",
                f"{one.p_value:.3f}",
                "-" if one.parameters is None else f"{one.parameters:,.0f}",
                "-" if one.ms_per_record is None else f"{one.ms_per_record:.2f}",
            ]
        )
    return rows


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
    pairs = comparison.pairs
    return [
        {
            "first": first.name,
            "second": second.name,
            f"{comparison.decisive}_difference": float(pairs.differences[i, j]),
            **vars(pairs.interval(i, j)),
            "p_value": float(pairs.p_values[i, j]),
        }
        for (i, first), (j, second) in combinations(enumerate(comparison.standings), 2)
    ]


def _pictures(
    results: Results, comparison: Comparison, options: ComparisonOptions
) -> dict[str, Picture]:
    """Draw the figures, by the names of their files."""
    metric = comparison.decisive
    title = f"{metric} on {comparison.n_records} test records"
    calibration = "Calibration of a run of the best configuration"
    figures = {
        "intervals": (interval_plot(comparison, title=title), f"{metric} of each configuration"),
        "curves": (_curves(comparison, options), "ROC and precision-recall curves"),
        "calibration": (_calibration(results, comparison), calibration),
    }
    if any(one.parameters for one in comparison.standings):
        caption = f"{metric} against the number of parameters"
        figures["size"] = (size_plot(comparison, title=title), caption)
    return {name: Picture.of(*figure) for name, figure in figures.items()}


def _curves(comparison: Comparison, options: ComparisonOptions) -> Figure:
    first = comparison.leader.repetitions[0]
    weights = resample_weights(len(first), BAND_RESAMPLES, options.seed, first.groups)
    drawn: dict[str, list[tuple[str, Curve, str]]] = {"roc_auc": [], "average_precision": []}
    for one in comparison.standings[:CURVES]:
        curves = ranking_curves(one.repetitions, weights, options.level)
        for name, curve in zip(drawn, curves, strict=True):
            area = one.estimates[name].mean if name in one.estimates else np.nan
            drawn[name].append((one.name, curve, f"{area:.3f}"))
    roc, recall = drawn.values()
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
