"""Metrics of records that may be of several classes at once, or of none.

Each class is a question of its own, answered by yes or no. The metrics without a class in their
name are those of the positive class against the rest, as where a record is of one class only, but
for `accuracy`, which asks for all of a record's classes and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.stats.metrics import brier_terms, class_suffix, ranked_metrics, ratio

Floats = npt.NDArray[np.float64]

#: A record is of a class from this probability on.
THRESHOLD = 0.5


def multilabel_metrics(
    targets: npt.NDArray[np.bool_],
    probabilities: npt.NDArray[np.floating[Any]],
    classes: Sequence[str],
    positive: str,
    threshold: float | None = None,
) -> dict[str, float]:
    """Compute all metrics of one evaluation.

    Parameters
    ----------
    targets
        ``(n_records, n_classes)``: which classes each record is of.
    probabilities
        ``(n_records, n_classes)``, each between 0 and 1.
    classes
        Names of the classes.
    positive
        The class that is meant where no class is named.
    threshold
        Of the positive class; see `predicted_labels`.

    Returns
    -------
    dict
        ``f1``, ``sensitivity``, ``specificity``, ``precision``, ``roc_auc``,
        ``average_precision`` and ``brier`` of the positive class; ``f1_<class>``, ``f1_macro``
        (their mean) and ``f1_micro`` (of the counts of all classes); ``roc_auc_macro`` and
        ``average_precision_macro``, where every class occurs and none always; ``accuracy``, the
        share of records whose classes are all right; ``log_loss``, the mean over records and
        classes. What these records don't define is left out.
    """
    place = list(classes).index(positive)
    predicted = predicted_labels(probabilities, place, threshold)
    ones = np.ones((len(targets), 1), np.float64)
    cells = 2 * targets.astype(np.int64) + predicted
    counts = np.stack([np.bincount(cell, minlength=4) for cell in cells.T]).reshape(-1, 2, 2, 1)
    right = (targets == predicted).all(axis=1) @ ones
    by_name = multilabel_count_metrics(counts, right, classes, positive)
    found = {name: float(value[0]) for name, value in by_name.items()}
    found["log_loss"] = float(binary_loss_terms(targets, probabilities).mean())
    found["brier"] = float(brier_terms(targets[:, place], probabilities[:, place]).mean())
    found |= _ranked(targets, probabilities, place)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def multilabel_count_metrics(
    counts: npt.NDArray[Any], right: npt.NDArray[Any], classes: Sequence[str], positive: str
) -> dict[str, Floats]:
    """Compute what depends on counts alone.

    Parameters
    ----------
    counts
        ``(n_classes, 2, 2, ...)`` records that are not or are of a class, by whether that was not
        or was said of them; of one set of records or, along further axes, of many.
    right
        Records whose classes are all right, with the shape of the further axes.
    classes, positive
        See `multilabel_metrics`.

    Returns
    -------
    dict
        Each metric with the shape of the further axes; NaN where a set doesn't define it.
    """
    place = list(classes).index(positive)
    hits, misses, alarms = counts[:, 1, 1], counts[:, 1, 0], counts[:, 0, 1]
    f1 = ratio(2 * hits, 2 * hits + misses + alarms)
    all_hits, all_wrong = hits.sum(axis=0), misses.sum(axis=0) + alarms.sum(axis=0)
    own = counts[place]
    found = {
        "accuracy": ratio(right, own.sum(axis=(0, 1))),
        "f1": f1[place],
        "f1_macro": f1.mean(axis=0),
        "f1_micro": ratio(2 * all_hits, 2 * all_hits + all_wrong),
        "sensitivity": ratio(own[1, 1], own[1].sum(axis=0)),
        "specificity": ratio(own[0, 0], own[0].sum(axis=0)),
        "precision": ratio(own[1, 1], own[:, 1].sum(axis=0)),
    }
    for name, value in zip(classes, f1, strict=True):
        found[f"f1_{class_suffix(name)}"] = value
    return found


def predicted_labels(
    probabilities: npt.NDArray[np.floating[Any]], place: int, threshold: float | None = None
) -> npt.NDArray[np.bool_]:
    """Return which classes each record is said to be of, ``(n_records, n_classes)``.

    Those of at least 0.5; `threshold` takes its place for the class at `place`.
    """
    said = np.asarray(probabilities >= THRESHOLD)
    if threshold is not None:
        said[:, place] = probabilities[:, place] >= threshold
    return said


def binary_loss_terms(
    targets: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.floating[Any]]
) -> Floats:
    """Return each record's mean over the classes of ``-log(probability of what is true)``."""
    given = np.where(targets, probabilities, 1.0 - probabilities.astype(np.float64))
    terms = -np.log(np.maximum(given, np.finfo(np.float64).tiny))
    return np.asarray(terms.mean(axis=1))


def _ranked(
    targets: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.floating[Any]], place: int
) -> dict[str, float]:
    shares = targets.mean(axis=0)
    is_defined = (shares > 0) & (shares < 1)
    each = [
        ranked_metrics(targets[:, i], probabilities[:, i]) if defined else {}
        for i, defined in enumerate(is_defined)
    ]
    found = dict(each[place])
    if is_defined.all():
        found |= {f"{name}_macro": float(np.mean([one[name] for one in each])) for name in each[0]}
    return found
