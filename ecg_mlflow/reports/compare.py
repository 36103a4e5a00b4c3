"""``ecg-mlflow compare``: which configurations are significantly better than others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.records.splits import TEST
from ecg_mlflow.reports.comparison_report import write_report
from ecg_mlflow.reports.options import ComparisonOptions
from ecg_mlflow.reports.study_results import Results, read_results
from ecg_mlflow.reports.text_tables import aligned
from ecg_mlflow.stats.comparison import Comparison, compare

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Metrics of every comparison, beside the one that decides.
METRICS = (
    *("f1", "roc_auc", "average_precision", "sensitivity", "specificity", "accuracy"),
    *("log_loss", "cinc2017"),
)
#: Rows of the printed table.
SHOWN = 30


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
    options = options.with_metric(results.usual_metric)
    comparison = compare_side(results, TEST, options)
    conclusions, notes = conclusions_of(comparison), (*comparison.notes, *results.notes)
    location = write_report(client, results, comparison, options, conclusions, notes, output)
    more = len(comparison.standings) - SHOWN
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


def compare_side(results: Results, side: str, options: ComparisonOptions) -> Comparison:
    """Compare the configurations by their predictions of one side's records.

    Raises
    ------
    PredictionsError
        If the metric isn't one of these predictions'.
    """
    known = [one.candidate(side) for one in results.configurations]
    # One model may leave a metric undefined (precision, if it finds no positive record).
    defined = {name for one in known for each in one.repetitions for name in each.metrics}
    if options.metric not in defined:
        raise PredictionsError(
            f"metric={options.metric!r} is none of these predictions' metrics: "
            f"{', '.join(sorted(defined))}"
        )
    metrics = [name for name in METRICS if name in defined]
    return compare(known, metrics, options.metric, **options.bootstrap)


def conclusions_of(comparison: Comparison) -> list[str]:
    """Say what the comparison means, in sentences without full stops."""
    group, metric = comparison.group, comparison.decisive
    where = f"in {metric} on {comparison.n_records} test records, at {comparison.level:.0%}"
    if len(comparison.standings) == 1:
        lines = ["There is one configuration, and nothing to compare it with"]
    elif len(group) == 1:
        lines = [f"{group[0].name} is significantly better than every other configuration {where}"]
    else:
        lines = [
            f"{len(group)} of {len(comparison.standings)} configurations (marked) are not "
            f"significantly different from the best {where}"
        ]
        named = {"smallest": comparison.smallest, "fastest": comparison.fastest}
        lines += [f"The {word} of them is {one.name}" for word, one in named.items() if one]
    return [*lines, "p is of the difference from the first one, corrected for all pairs"]


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
