"""MLflow's model evaluator ``ecg``: metrics with intervals and plots, of anybody's predictions.

``mlflow.models.evaluate(..., evaluators="ecg")`` finds it by the entry point
``mlflow.model_evaluator``. MLflow imports this module early: statistics come with an evaluation.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models.evaluation.base import EvaluationArtifact, EvaluationResult, ModelEvaluator

from ecg_mlflow.errors import PredictionsError, few
from ecg_mlflow.integrations.evaluator_table import (
    EvaluatorConfig,
    predicted_table,
    read_predictions,
)
from ecg_mlflow.stats.predictions import Predictions, prediction_columns

_logger = logging.getLogger(__name__)

#: Folder of the run's artifacts.
FOLDER = "ecg"
#: Resamples of the curves' bands: each is many numbers, and their width needs no more.
BAND_RESAMPLES = 500


class EcgEvaluator(ModelEvaluator):
    """Evaluates a table of records, or a model on it.

    `ecg_mlflow.integrations.evaluator_table.EvaluatorConfig` lists what ``evaluator_config`` may
    say. It has to say something, the positive class at least: where no evaluator is named, MLflow
    asks all of them, and this one then does nothing.
    """

    @classmethod
    def can_evaluate(cls, *, model_type: str | None, **_: Any) -> bool:
        """Say whether it is for models of this type: for classifiers."""
        return model_type == "classifier"

    def evaluate(
        self,
        *,
        dataset: Any,
        run_id: str,
        evaluator_config: Mapping[str, Any] | None,
        model: Any = None,
        predictions: str | None = None,
        model_id: str | None = None,
        **_: Any,
    ) -> EvaluationResult | None:
        """Compute all metrics, log them with tables and figures, and return them.

        Parameters
        ----------
        dataset, run_id, evaluator_config, model, predictions, model_id
            From MLflow: what to evaluate, and the run that gets the results.

        Raises
        ------
        PredictionsError
            If the table, or the model's output, can't be evaluated, or a promoted model was trained
            on recordings of it; nothing was logged then.
        """
        given = dict(evaluator_config or {})
        if not given.keys() & vars(EvaluatorConfig()).keys():
            _logger.warning(
                "the ecg evaluator was told nothing, and does nothing: say which class is "
                "positive, as in evaluator_config={'positive': 'A'}"
            )
            return None
        config = EvaluatorConfig.read(given)
        _refuse_seen(dataset, model)
        found = _read_or_predict(dataset, model, predictions, config)
        metrics = metrics_with_intervals(found, config)
        files = _files(found, metrics, config)
        prefix = config.metric_prefix
        named = {f"{prefix}{name}": value for name, value in metrics.items()}
        client = MlflowClient()
        if model_id is None:  # otherwise MLflow logs what is returned here, linked to the model
            now = time.time_ns() // 1_000_000
            client.log_batch(run_id, [Metric(name, value, now, 0) for name, value in named.items()])
        artifacts = _log(client, run_id, {f"{prefix}{name}": files[name] for name in files})
        return EvaluationResult(named, artifacts, run_id)  # type: ignore[no-untyped-call]


def _refuse_seen(dataset: Any, model: Any) -> None:
    """Raise a `PredictionsError` if a promoted model was trained on recordings of a table."""
    from ecg_mlflow.serving.classifier import RawEcgClassifier

    try:
        classifier = model.unwrap_python_model()
    except (AttributeError, MlflowException):  # another kind of model, or none
        return
    table = dataset.features_data
    if isinstance(classifier, RawEcgClassifier) and (seen := classifier.seen(table)):
        raise PredictionsError(
            f"{len(seen)} of {len(table)} recordings can't test this model, which was trained on "
            f"them or had its threshold chosen by them: {few(seen, 10)}. Leave them out"
        )


def _read_or_predict(
    dataset: Any, model: Any, column: str | None, config: EvaluatorConfig
) -> Predictions:
    """Read the table that is to be evaluated, or let the model predict it."""
    data, labels = dataset.features_data, dataset.labels_data
    if model is None:
        is_table = isinstance(data, pd.DataFrame)
        table = data.reset_index(drop=True) if is_table else pd.DataFrame(index=range(len(labels)))
        return read_predictions(table, labels, dataset.predictions_data, config)
    table = predicted_table(model.predict(data.copy()), config)
    if isinstance(data, pd.DataFrame):
        # The input rather than the output names the records and patients.
        for name in {config.record or "record", config.patient or "patient"} & {*data.columns}:
            table[name] = data[name].to_numpy()
    if column is None and "prediction" in table.columns:
        column = "prediction"
    return read_predictions(table, labels, None if column is None else table[column], config)


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

    found: dict[str, float] = {}
    intervals = metric_intervals(
        predictions,
        predictions.metrics,
        level=config.level,
        n_resamples=config.resamples,
        seed=config.seed,
    )
    for name, one in intervals.items():
        value = predictions.metrics[name]
        found |= {name: value, f"{name}_low": one.low, f"{name}_high": one.high}
    found["calibration_error"] = reliability(predictions).error
    found["records"] = float(len(predictions))
    found["positive_records"] = float(predictions.is_positive.sum())
    if predictions.threshold is not None:
        found["threshold"] = predictions.threshold
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _files(
    predictions: Predictions, metrics: Mapping[str, float], config: EvaluatorConfig
) -> dict[str, bytes]:
    """Return tables of predictions and metrics, and figures, by the names of their files.

    Curves need records that are positive, and others.
    """
    from ecg_mlflow.reports.figures import png, ranking_plot, reliability_plot
    from ecg_mlflow.reports.figures.training_plots import confusion_plot
    from ecg_mlflow.stats.bootstrap import resample_weights
    from ecg_mlflow.stats.calibration import reliability
    from ecg_mlflow.stats.curves import Curve, ranking_curves
    from ecg_mlflow.tracking.run_data import csv_text

    names = [name for name in metrics if not name.endswith(("_low", "_high"))]
    table = {"metric": names, "value": [metrics[name] for name in names]} | {
        end: [metrics.get(f"{name}_{end}") for name in names] for end in ("low", "high")
    }
    positive, level = predictions.positive, config.level
    drawn = {f"probability of {positive}": reliability(predictions, level=level)}
    figures = {
        "confusion_matrix": confusion_plot(predictions),
        "calibration": reliability_plot(drawn, level=level, title="calibration"),
    }
    share = float(predictions.is_positive.mean())
    if 0 < share < 1:
        n_resamples = min(config.resamples, BAND_RESAMPLES)
        weights = resample_weights(len(predictions), n_resamples, config.seed, predictions.groups)

        roc, precision_recall = ranking_curves([predictions], weights, level)

        def named(curve: Curve, area: str) -> list[tuple[str, Curve, str]]:
            bounds = [metrics.get(f"{area}{end}", np.nan) for end in ("", "_low", "_high")]
            return [("", curve, "{:.3f} [{:.3f}, {:.3f}]".format(*bounds))]

        figures["curves"] = ranking_plot(
            named(roc, "roc_auc"),
            named(precision_recall, "average_precision"),
            share,
            title=f"{positive} against the rest",
            level=level,
        )
    tables = {
        "predictions": prediction_columns(predictions.records, predictions),
        "metrics": table,
    }
    return {
        **{f"{name}.csv": csv_text(columns).encode() for name, columns in tables.items()},
        **{f"{name}.png": png(figure) for name, figure in figures.items()},
    }


def _log(
    client: MlflowClient, run_id: str, files: Mapping[str, bytes]
) -> dict[str, EvaluationArtifact]:
    """Write files into the run, and return them as MLflow's artifacts by name."""
    from mlflow.models.evaluation.artifacts import CsvEvaluationArtifact, ImageEvaluationArtifact

    uri = client.get_run(run_id).info.artifact_uri
    found: dict[str, EvaluationArtifact] = {}
    with tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder:
        for name, data in files.items():
            file = Path(folder, name)
            file.write_bytes(data)
            client.log_artifact(run_id, str(file), FOLDER)
            kind = CsvEvaluationArtifact if file.suffix == ".csv" else ImageEvaluationArtifact
            artifact = kind(uri=f"{uri}/{FOLDER}/{name}")
            # As MLflow's own evaluators do: `EvaluationResult.save` wants the content.
            artifact._load(str(file))  # type: ignore[no-untyped-call]
            found[file.stem] = artifact
    return found
