"""Metrics of record-level predictions, pooled over all records.

F1 is always of pooled counts, never a mean of per-batch values. A metric that these records don't
define (the ROC AUC of one class, the F1 of a class that neither occurs nor is predicted) is left
out rather than given a number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: The four classes of the 2017 Challenge: normal, AF, other rhythm, noisy.
CINC2017_CLASSES = frozenset({"N", "A", "O", "~"})


def classification_metrics(
    targets: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.floating[Any]],
    classes: Sequence[str],
    positive: str,
) -> dict[str, float]:
    """Compute all metrics of one evaluation.

    Parameters
    ----------
    targets
        ``(n_records,)`` index of the true class.
    probabilities
        ``(n_records, n_classes)``, rows that add up to 1.
    classes
        Names of the classes.
    positive
        The class whose F1, sensitivity, specificity, ROC AUC and average precision are meant where
        no class is named.

    Returns
    -------
    dict
        ``f1``, ``sensitivity``, ``specificity``, ``precision``, ``roc_auc``,
        ``average_precision`` of the positive class against the rest; ``f1_<class>`` and
        ``f1_macro``; ``accuracy``; ``log_loss``; ``cinc2017`` where the classes are those of the
        Challenge.
    """
    matrix = confusion_matrix(targets, probabilities.argmax(axis=1), len(classes))
    f1 = class_f1(matrix)
    place = list(classes).index(positive)
    hits, support, predicted = matrix[place, place], matrix[place].sum(), matrix[:, place].sum()
    others = matrix.sum() - support
    found: dict[str, float] = {
        "accuracy": _ratio(np.trace(matrix), matrix.sum()),
        "f1": float(f1[place]),
        "f1_macro": float(f1.mean()),
        "sensitivity": _ratio(hits, support),
        "specificity": _ratio(others - (predicted - hits), others),
        "precision": _ratio(hits, predicted),
        "log_loss": log_loss(targets, probabilities),
    }
    for name, value in zip(classes, f1, strict=True):
        found[f"f1_{class_suffix(name)}"] = float(value)
    if 0 < support < matrix.sum():
        from sklearn.metrics import average_precision_score, roc_auc_score

        is_positive, score = targets == place, probabilities[:, place]
        found["roc_auc"] = float(roc_auc_score(is_positive, score))
        found["average_precision"] = float(average_precision_score(is_positive, score))
    if frozenset(classes) == CINC2017_CLASSES:
        found["cinc2017"] = cinc2017_score(matrix, classes)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def confusion_matrix(
    targets: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], n_classes: int
) -> npt.NDArray[np.int64]:
    """Count records by true class (row) and predicted class (column)."""
    cells = np.bincount(targets * n_classes + predictions, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)


def class_f1(matrix: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return each class's F1, ``2 * diagonal / (row sum + column sum)``; NaN where that is 0/0."""
    with np.errstate(invalid="ignore"):
        f1 = 2 * np.diag(matrix) / (matrix.sum(axis=0) + matrix.sum(axis=1))
    return np.asarray(f1, dtype=np.float64)


def cinc2017_score(matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> float:
    """Return the Challenge's score: the mean F1 of N, A and O over the full 4x4 matrix.

    Source: Clifford et al., CinC 2017, doi:10.22489/CinC.2017.065-469, table 2.
    """
    f1 = dict(zip(classes, class_f1(matrix), strict=True))
    return float(np.mean([f1[name] for name in ("N", "A", "O")]))


def log_loss(targets: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating[Any]]) -> float:
    """Return the mean negative log-probability of the true classes, in nats."""
    given = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(np.maximum(given, np.finfo(np.float64).tiny)).mean())


def class_suffix(class_name: str) -> str:
    """Spell a class for a metric's name, where MLflow allows few signs: ``~`` is ``noisy``."""
    return "noisy" if class_name == "~" else re.sub(r"[^\w\-. ]", "_", class_name)


def _ratio(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else float("nan")
