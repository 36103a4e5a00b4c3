"""Metrics, tables and figures of one model's predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_mlflow.integrations.evaluator_table import EvaluatorConfig
from ecg_mlflow.stats.predictions import Predictions, prediction_columns

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from ecg_mlflow.stats.curves import Curve

#: Resamples of the curves' bands: each is many numbers, and their width needs no more.
BAND_RESAMPLES = 500


def metrics_with_intervals(predictions: Predictions, config: EvaluatorConfig) -> dict[str, float]:
    """Return all metrics, each with the bounds of its bootstrap interval over records.

    Returns
    -------
    dict
        ``f1``, ``f1_low``, ``f1_high`` and so on; ``calibration_error``; ``records`` and
        ``positive_records``, and ``threshold`` where there is one. What these records don't define
        is left out.
    """
    from ecg_mlflow.stats.calibration import reliability
    from ecg_mlflow.stats.intervals import metric_intervals

    intervals = metric_intervals(
        predictions,
        predictions.metrics,
        level=config.level,
        n_resamples=config.resamples,
        seed=config.seed,
    )
    found: dict[str, float] = {}
    for name, one in intervals.items():
        value = predictions.metrics[name]
        found |= {name: value, f"{name}_low": one.low, f"{name}_high": one.high}
    found["calibration_error"] = reliability(predictions).error
    found["records"] = float(len(predictions))
    found["positive_records"] = float(predictions.is_positive.sum())
    if predictions.threshold is not None:
        found["threshold"] = predictions.threshold
    return {name: value for name, value in found.items() if np.isfinite(value)}


def tables_of(
    predictions: Predictions, metrics: Mapping[str, float]
) -> dict[str, Mapping[str, Sequence[object] | npt.NDArray[Any]]]:
    """Return the predictions, with the class that each record was given, and the metrics."""
    columns = prediction_columns(predictions.records, predictions)
    names = [name for name in metrics if not name.endswith(("_low", "_high"))]
    bounds = {end: [metrics.get(f"{name}_{end}") for name in names] for end in ("low", "high")}
    values = [metrics[name] for name in names]
    return {"predictions": columns, "metrics": {"metric": names, "value": values, **bounds}}


def figures_of(
    predictions: Predictions, metrics: Mapping[str, float], config: EvaluatorConfig
) -> dict[str, Figure]:
    """Draw confusion matrix and calibration, and the curves of records of both kinds."""
    from ecg_mlflow.reports.figures import ranking_plot, reliability_plot
    from ecg_mlflow.reports.figures.training_plots import confusion_plot
    from ecg_mlflow.stats.bootstrap import resample_weights
    from ecg_mlflow.stats.calibration import reliability
    from ecg_mlflow.stats.curves import precision_recall_curve, roc_curve

    level = config.level
    drawn = {f"probability of {predictions.positive}": reliability(predictions, level=level)}
    found = {
        "confusion_matrix": confusion_plot(predictions),
        "calibration": reliability_plot(drawn, level=level, title="calibration"),
    }
    if 0 < predictions.is_positive.sum() < len(predictions):
        n = min(config.resamples, BAND_RESAMPLES)
        weights = resample_weights(len(predictions), n, config.seed, groups=predictions.groups)
        roc = roc_curve([predictions], weights, level=level)
        precision_recall = precision_recall_curve([predictions], weights, level=level)
        found["curves"] = ranking_plot(
            [_named(roc, metrics, "roc_auc")],
            [_named(precision_recall, metrics, "average_precision")],
            float(predictions.is_positive.mean()),
            title=f"{predictions.positive} against the rest",
            level=level,
        )
    return found


def _named(curve: Curve, metrics: Mapping[str, float], area: str) -> tuple[str, Curve, str]:
    bounds = [metrics.get(f"{area}{end}", np.nan) for end in ("", "_low", "_high")]
    return "", curve, "{:.3f} [{:.3f}, {:.3f}]".format(*bounds)
