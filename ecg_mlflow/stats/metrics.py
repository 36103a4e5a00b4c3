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
#: Metrics of which less is better.
_LOWER_IS_BETTER = frozenset({"log_loss", "brier", "calibration_error"})


def classification_metrics(
    targets: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.floating[Any]],
    classes: Sequence[str],
    positive: str,
    threshold: float | None = None,
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
    threshold
        See `predicted_classes`.

    Returns
    -------
    dict
        ``f1``, ``sensitivity``, ``specificity``, ``precision``, ``roc_auc``,
        ``average_precision`` and ``brier`` of the positive class against the rest; ``f1_<class>``
        and ``f1_macro``; ``accuracy``; ``log_loss``; ``cinc2017`` where the classes are those of
        the Challenge.
    """
    place = list(classes).index(positive)
    is_positive, score = targets == place, probabilities[:, place]
    predicted_as = predicted_classes(probabilities, place, threshold)
    matrix = confusion_matrix(targets, predicted_as, len(classes))
    found = {name: float(value) for name, value in count_metrics(matrix, classes, positive).items()}
    found["log_loss"] = log_loss(targets, probabilities)
    found["brier"] = float(brier_terms(is_positive, score).mean())
    if 0 < is_positive.sum() < len(targets):
        found |= ranked_metrics(is_positive, score)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def count_metrics(
    matrix: npt.NDArray[Any], classes: Sequence[str], positive: str
) -> dict[str, npt.NDArray[np.float64]]:
    """Compute what depends on counts of true and predicted classes alone.

    Parameters
    ----------
    matrix
        ``(n_classes, n_classes, ...)`` counts by true and by predicted class, of one set of records
        or, along further axes, of many.
    classes, positive
        See `classification_metrics`.

    Returns
    -------
    dict
        Each metric with the shape of the further axes; NaN where a set doesn't define it.
    """
    place = list(classes).index(positive)
    f1 = class_f1(matrix)
    total, right = matrix.sum(axis=(0, 1)), np.einsum("ii...->...", matrix)
    hits, support, predicted = matrix[place, place], matrix[place].sum(0), matrix[:, place].sum(0)
    others = total - support
    found = {
        "accuracy": ratio(right, total),
        "f1": f1[place],
        "f1_macro": f1.mean(axis=0),
        "sensitivity": ratio(hits, support),
        "specificity": ratio(others - (predicted - hits), others),
        "precision": ratio(hits, predicted),
    }
    for name, value in zip(classes, f1, strict=True):
        found[f"f1_{class_suffix(name)}"] = value
    if frozenset(classes) == CINC2017_CLASSES:
        found["cinc2017"] = np.asarray(cinc2017_score(matrix, classes))
    return found


def predicted_classes(
    probabilities: npt.NDArray[np.floating[Any]], place: int, threshold: float | None = None
) -> npt.NDArray[np.int64]:
    """Return the class that each record is given.

    Parameters
    ----------
    probabilities
        ``(n_records, n_classes)``.
    place
        Index of the positive class.
    threshold
        A record is positive where that class has at least this probability, else the most
        probable of the other classes; None takes the most probable class of all.
    """
    if threshold is None:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    others = probabilities.copy()
    others[:, place] = -np.inf
    found = np.where(probabilities[:, place] >= threshold, place, others.argmax(axis=1))
    return np.asarray(found, dtype=np.int64)


def confusion_matrix(
    targets: npt.NDArray[Any], predictions: npt.NDArray[Any], n_classes: int
) -> npt.NDArray[np.int64]:
    """Count records by true class (row) and predicted class (column)."""
    cells = np.bincount(targets * n_classes + predictions, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)


def class_f1(matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return each class's F1, ``2 * diagonal / (row sum + column sum)``; NaN where that is 0/0."""
    return ratio(2 * np.einsum("ii...->i...", matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def cinc2017_score(matrix: npt.NDArray[Any], classes: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the Challenge's score: the mean F1 of N, A and O over the full 4x4 matrix.

    Source: Clifford et al., CinC 2017, doi:10.22489/CinC.2017.065-469, table 2.
    """
    f1 = dict(zip(classes, class_f1(matrix), strict=True))
    return np.asarray(np.mean([f1[name] for name in ("N", "A", "O")], axis=0))


def log_loss(targets: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating[Any]]) -> float:
    """Return the mean negative log-probability of the true classes, in nats."""
    return float(log_loss_terms(targets, probabilities).mean())


def log_loss_terms(
    targets: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float64]:
    """Return each record's ``-log(probability of its class)``, at most 708.4 nats."""
    given = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return np.asarray(-np.log(np.maximum(given, np.finfo(np.float64).tiny)))


def brier_terms(
    is_positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float64]:
    """Return each record's squared difference of its probability to be positive from 0 or 1."""
    return np.asarray((scores.astype(np.float64) - is_positive) ** 2)


def ranked_metrics(
    is_positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating[Any]]
) -> dict[str, float]:
    """Return ``roc_auc`` and ``average_precision`` of scores, as scikit-learn defines them.

    They are computed here, since to import scikit-learn takes a worker the better part of a
    second. There are positive and negative records.
    """
    levels, rank = np.unique(-scores, return_inverse=True)  # from the highest score on
    hits = np.bincount(rank[is_positive], minlength=len(levels))
    misses = np.bincount(rank[~is_positive], minlength=len(levels))
    true, false = np.cumsum(hits), np.cumsum(misses)
    # Mann and Whitney: pairs of a positive and a negative record in the wrong order, ties half.
    wrong = hits @ (false - misses / 2)
    return {
        "roc_auc": float(1 - wrong / (true[-1] * false[-1])),
        "average_precision": float(hits @ (true / (true + false)) / true[-1]),
    }


def higher_is_better(metric: str) -> bool:
    """Return False for metrics of which less is better."""
    return metric not in _LOWER_IS_BETTER


def class_suffix(class_name: str) -> str:
    """Spell a class for a metric's name, where MLflow allows few signs: ``~`` is ``noisy``."""
    return "noisy" if class_name == "~" else re.sub(r"[^\w\-. ]", "_", class_name)


def ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Divide counts; 0/0 is NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.asarray(part, np.float64) / whole)
