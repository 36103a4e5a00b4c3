"""Metrics of an evaluation, whether its records are of one class each or of several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.records.label_sets import join_labels, split_label
from ecg_mlflow.stats.metrics import classification_metrics, predicted_classes
from ecg_mlflow.stats.multilabel import multilabel_metrics, predicted_labels

#: ``(n_records,)`` indices of classes, or ``(n_records, n_classes)`` bool where a record may be of
#: several.
Targets = npt.NDArray[np.int64] | npt.NDArray[np.bool_]


def is_multilabel(targets: npt.NDArray[Any]) -> bool:
    """Say whether targets are of records that may be of several classes."""
    return targets.ndim == 2


def objective_of(multilabel: bool) -> str:
    """Name the metric that "best" means: F1 of the positive class, or the mean over all classes."""
    return "f1_macro" if multilabel else "f1"


def all_metrics(
    targets: Targets,
    probabilities: npt.NDArray[np.floating[Any]],
    classes: Sequence[str],
    positive: str,
    threshold: float | None = None,
) -> dict[str, float]:
    """Compute all metrics; see `classification_metrics` and `multilabel_metrics`."""
    compute: Any = multilabel_metrics if is_multilabel(targets) else classification_metrics
    found: dict[str, float] = compute(targets, probabilities, classes, positive, threshold)
    return found


def said(
    targets: Targets,
    probabilities: npt.NDArray[np.floating[Any]],
    place: int,
    threshold: float | None = None,
) -> Targets:
    """Return what the records are said to be, in the form of their `targets`."""
    decide: Any = predicted_labels if is_multilabel(targets) else predicted_classes
    found: Targets = decide(probabilities, place, threshold)
    return found


def label_texts(targets: Targets, classes: Sequence[str]) -> list[str]:
    """Spell targets out: names of classes, ``AF,RBBB`` for several, the empty text for none."""
    if not is_multilabel(targets):
        return [classes[i] for i in targets]
    return [join_labels(compress(classes, row)) for row in targets]


def read_targets(labels: Sequence[str], classes: Sequence[str], *, multilabel: bool) -> Targets:
    """Read what `label_texts` has written.

    Raises
    ------
    KeyError
        With the label that is none of the classes.
    """
    place = {name: i for i, name in enumerate(classes)}
    if not multilabel:
        return np.array([place[label] for label in labels], dtype=np.int64)
    targets = np.zeros((len(labels), len(classes)), np.bool_)
    for row, label in enumerate(labels):
        for one in split_label(label):
            if one:
                targets[row, place[one]] = True
    return targets
