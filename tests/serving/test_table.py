"""Probabilities as a table: labels, calibrated numbers, and what is not known."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.serving.engine import Answer
from ecg_mlflow.serving.table import answer_table


def answers(*probabilities: float) -> list[Answer]:
    nothing = np.empty((0, 2), np.float32)
    return [
        Answer(str(p), "error: bad" if np.isnan(p) else "ok", nothing, np.array([p, 1 - p]))
        for p in probabilities
    ]


def test_threshold_and_temperature_are_the_models_own(make_manifest):
    manifest = make_manifest(threshold=0.3, temperature=2.0)
    found = answer_table(manifest, answers(0.2, 0.3, np.nan, 0.8), windows=False)
    assert found["prediction"].tolist() == ["NO", "A", None, "A"]
    # softmax(log(p) / 2) of two classes: sqrt(p) / (sqrt(p) + sqrt(1 - p)).
    assert found["calibrated_A"][[0, 3]].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert found["p_A"][[0, 3]].tolist() == [0.2, 0.8]
    plain = answer_table(make_manifest(), answers(0.4, 0.6), windows=False)
    assert plain["prediction"].tolist() == ["NO", "A"]
    np.testing.assert_allclose(plain["calibrated_A"], plain["p_A"])


def test_numbers_that_are_not_there(make_manifest, monkeypatch):
    found = answer_table(make_manifest(), answers(np.nan, 0.5), windows=False)
    assert found["p_A"].dtype == np.float64
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    found = answer_table(make_manifest(), answers(np.nan, 0.5), windows=False)
    assert found["p_A"].tolist() == [None, 0.5]
    assert answer_table(make_manifest(), [], windows=True).columns[-1] == "window_probabilities"
