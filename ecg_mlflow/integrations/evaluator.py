"""MLflow's model evaluator ``ecg``: metrics with intervals and plots, of anybody's predictions.

``mlflow.models.evaluate(..., evaluators="ecg")`` finds it by the entry point
``mlflow.model_evaluator``.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.models.evaluation.base import EvaluationArtifact, EvaluationResult, ModelEvaluator

from ecg_mlflow.integrations.evaluator_report import figures_of, metrics_with_intervals, tables_of
from ecg_mlflow.integrations.evaluator_table import (
    EvaluatorConfig,
    predicted_table,
    read_predictions,
)
from ecg_mlflow.stats.predictions import Predictions

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure


_logger = logging.getLogger(__name__)

#: Folder of the run's artifacts.
FOLDER = "ecg"


class EcgEvaluator(ModelEvaluator):
    """Evaluates a table of records, or a model on it.

    `ecg_mlflow.integrations.evaluator_table.EvaluatorConfig` lists what ``evaluator_config`` may
    say. It has to say something, the positive class at least: where no evaluator is named, MLflow
    asks all of them, and this one then does nothing.
    """

    @classmethod
    def can_evaluate(
        cls, *, model_type: str | None, evaluator_config: Mapping[str, Any] | None, **_: Any
    ) -> bool:
        """Say whether it is for models of this type: for classifiers."""
        return model_type == "classifier"

    def evaluate(
        self,
        *,
        model_type: str,
        dataset: Any,
        run_id: str,
        evaluator_config: Mapping[str, Any] | None,
        model: Any = None,
        extra_metrics: Sequence[Any] | None = None,
        custom_artifacts: Sequence[Any] | None = None,
        predictions: str | None = None,
        model_id: str | None = None,
        **_: Any,
    ) -> EvaluationResult | None:
        """Compute all metrics, log them with tables and figures, and return them.

        Parameters
        ----------
        model_type, dataset, run_id, evaluator_config, model, predictions, model_id
            From MLflow: what to evaluate, and the run that gets the results.
        extra_metrics, custom_artifacts
            Left to MLflow's own evaluators.

        Raises
        ------
        PredictionsError
            If the table, or the model's output, can't be evaluated; nothing was logged then.
        """
        given = dict(evaluator_config or {})
        if not any(field.name in given for field in fields(EvaluatorConfig)):
            _logger.warning(
                "the ecg evaluator was told nothing, and does nothing: say which class is "
                "positive, as in evaluator_config={'positive': 'A'}"
            )
            return None
        config = EvaluatorConfig.read(given)
        found = _read_or_predict(dataset, model, predictions, config)
        metrics = metrics_with_intervals(found, config)
        tables, figures = tables_of(found, metrics), figures_of(found, metrics, config)
        prefix = config.metric_prefix
        named = {f"{prefix}{name}": value for name, value in metrics.items()}
        client = MlflowClient()
        if model_id is None:  # otherwise MLflow logs what is returned here, linked to the model
            now = time.time_ns() // 1_000_000
            client.log_batch(run_id, [Metric(name, value, now, 0) for name, value in named.items()])
        artifacts = _log(client, run_id, tables, figures, prefix)
        return EvaluationResult(named, artifacts, run_id)  # type: ignore[no-untyped-call]


def _read_or_predict(
    dataset: Any, model: Any, column: str | None, config: EvaluatorConfig
) -> Predictions:
    """Read the table that is to be evaluated, or let the model predict it."""
    import pandas as pd

    data = dataset.features_data
    if model is None:
        table = data.reset_index(drop=True) if isinstance(data, pd.DataFrame) else pd.DataFrame()
        table = table if len(table.columns) else pd.DataFrame(index=range(len(dataset.labels_data)))
        return read_predictions(table, dataset.labels_data, dataset.predictions_data, config)
    table = predicted_table(model.predict(data.copy()), config)
    if isinstance(data, pd.DataFrame):
        # The input rather than the output names the records and patients.
        for name in {config.record or "record", config.patient or "patient"} & {*data.columns}:
            table[name] = data[name].to_numpy()
    if column is None and "prediction" in table.columns:
        column = "prediction"
    predicted = None if column is None else table[column].to_numpy()
    return read_predictions(table, dataset.labels_data, predicted, config)


def _log(
    client: MlflowClient,
    run_id: str,
    tables: Mapping[str, Mapping[str, Sequence[object] | npt.NDArray[Any]]],
    figures: Mapping[str, Figure],
    prefix: str,
) -> dict[str, EvaluationArtifact]:
    """Write tables and figures into the run, and return them as MLflow's artifacts by name."""
    from mlflow.models.evaluation.artifacts import CsvEvaluationArtifact, ImageEvaluationArtifact

    from ecg_mlflow.reports.figures import png
    from ecg_mlflow.tracking.run_log import csv_text

    uri = client.get_run(run_id).info.artifact_uri
    found: dict[str, EvaluationArtifact] = {}
    with tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder:
        files = {f"{prefix}{name}.csv": csv_text(one).encode() for name, one in tables.items()}
        files |= {f"{prefix}{name}.png": png(one) for name, one in figures.items()}
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
