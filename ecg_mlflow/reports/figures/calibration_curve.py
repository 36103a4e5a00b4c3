"""How well probabilities are calibrated, in the form in which it is drawn."""

from __future__ import annotations

import numpy as np

from ecg_mlflow.reports.figures import Reliability
from ecg_mlflow.stats.calibration import calibration_error, reliability
from ecg_mlflow.stats.predictions import Predictions

#: Bars of the histogram of probabilities: of equal width, where the points are of equal counts.
BARS = 20


def calibration_curve(name: str, predictions: Predictions, level: float = 0.95) -> Reliability:
    """Return the reliability of the positive class's probability, with its calibration error."""
    table = reliability(predictions, level=level)
    counts, edges = np.histogram(predictions.scores, bins=BARS, range=(0, 1))
    return Reliability(
        name,
        table.probability,
        table.observed,
        table.low,
        table.high,
        counts,
        edges,
        f"expected calibration error {calibration_error(predictions):.3f}",
    )
