"""MLflow: one parent run per study, one child run per configuration and repetition.

Everything goes through an explicit client and run id, never through MLflow's active run. The
driver owns a `Study`, each worker a `RunLog` for the child that the driver opened. Nothing here
knows of Keras, signals or processes: it takes plain values, arrays and file paths.
"""

from ecg_mlflow.tracking.buffer import Chunk, MetricBuffer, metric_name
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.datasets import DatasetInfo, log_datasets
from ecg_mlflow.tracking.leaderboard import Result, leaderboard_rows
from ecg_mlflow.tracking.ledger import LedgerEntry
from ecg_mlflow.tracking.models import (
    NetworkInfo,
    log_model,
    log_saved,
    pinned_requirements,
)
from ecg_mlflow.tracking.patience import Patience
from ecg_mlflow.tracking.plots import class_counts, confusion_matrix, learning_curve
from ecg_mlflow.tracking.run_log import RunLog, log_tags
from ecg_mlflow.tracking.runs import EndStatus
from ecg_mlflow.tracking.stored_models import fetch_network
from ecg_mlflow.tracking.study import Study

__all__ = [
    "Chunk",
    "DatasetInfo",
    "EndStatus",
    "LedgerEntry",
    "MetricBuffer",
    "NetworkInfo",
    "Patience",
    "Result",
    "RunLog",
    "Study",
    "class_counts",
    "confusion_matrix",
    "connect",
    "fetch_network",
    "leaderboard_rows",
    "learning_curve",
    "log_datasets",
    "log_model",
    "log_saved",
    "log_tags",
    "metric_name",
    "pinned_requirements",
]
