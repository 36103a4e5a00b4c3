"""What counts as one independent observation: a record, or all records of a patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ecg_mlflow.stats.predictions import Predictions


def shared_groups(predictions: Sequence[Predictions]) -> npt.NDArray[np.int64] | None:
    """Return the groups of records that are drawn together: those of the first model with any."""
    return next((one.groups for one in predictions if one.groups is not None), None)


def degrees_of_freedom(predictions: Sequence[Predictions]) -> int:
    """Return of how many records (or groups) standard errors are estimated, less one.

    Those of the rarer of positive and other records: the metrics hang on them.
    """
    first, groups = predictions[0], shared_groups(predictions)
    unit = np.arange(len(first)) if groups is None else groups
    sides = (unit[first.is_positive], unit[~first.is_positive])
    return max(min(len(np.unique(side)) for side in sides) - 1, 1)
