"""The table of answers that a model returns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ecg_mlflow.serving.engine import Answer
from ecg_mlflow.serving.manifest import Manifest
from ecg_mlflow.stats.calibration import calibrated
from ecg_mlflow.stats.metrics import predicted_classes
from ecg_mlflow.stats.multilabel import predicted_labels
from ecg_mlflow.stats.predictions import PROBABILITY
from ecg_mlflow.stats.scores import label_texts

CALIBRATED = "calibrated_{}"
WINDOW_PROBABILITIES = "window_probabilities"

#: MLflow's scoring server sets it. Its JSON writes NaN for NaN, which no other language reads.
_SERVING_VARIABLE = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"


def answer_table(manifest: Manifest, answers: Sequence[Answer], windows: bool) -> pd.DataFrame:
    """Lay answers out as the table that `RawEcgClassifier.predict` returns."""
    shape = (len(answers), len(manifest.classes))
    probabilities = np.array([one.probabilities for one in answers]).reshape(shape)
    known = np.isfinite(probabilities).all(axis=1)
    labels: list[str | None] = [None] * len(answers)
    smooth = np.full(shape, np.nan)
    if known.any():
        given = probabilities[known]
        smooth[known] = calibrated(given, manifest.temperature, manifest.activation)
        decide: Any = predicted_labels if manifest.multilabel else predicted_classes
        said = label_texts(decide(given, manifest.place, manifest.threshold), manifest.classes)
        for row, text in zip(np.flatnonzero(known), said, strict=True):
            labels[row] = text
    table = {
        "record": pd.Series([one.record for one in answers], dtype=object),
        "prediction": pd.Series(labels, dtype=object),
        **_columns(PROBABILITY, manifest.classes, probabilities),
        **_columns(CALIBRATED, manifest.classes, smooth),
        "windows": pd.Series([len(one.windows) for one in answers], dtype=np.int64),
        "status": pd.Series([one.status for one in answers], dtype=object),
    }
    if windows:
        lists = [one.windows.astype(np.float64).tolist() for one in answers]
        table[WINDOW_PROBABILITIES] = pd.Series(lists, dtype=object)
    return pd.DataFrame(table)


def _columns(name: str, classes: Sequence[str], values: Any) -> dict[str, pd.Series[Any]]:
    """Name the columns of ``(n_records, n_classes)``; what isn't known has no number in JSON."""
    columns = {name.format(one): pd.Series(values[:, i]) for i, one in enumerate(classes)}
    if os.environ.get(_SERVING_VARIABLE, "").lower() == "true":
        columns = {
            key: column.astype(object).where(column.notna(), None)
            for key, column in columns.items()
        }
    return columns
