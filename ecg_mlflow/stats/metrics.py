"""Metrics of record-level predictions, pooled over all records, for many weightings at once.

F1 is always of pooled counts, never a mean of per-batch values. A resample with replacement is a
weighting of the records by whole numbers: metrics of counts are then sums over records, and those
of ranked scores are sums over the positive records of how many others score higher. Sparse products
give both for all resamples without drawing a table; records that each count once are one of the
weightings.

Metrics without a class in their name are those of the positive class against the rest, also where a
record may be of several classes; only ``accuracy`` is the share of records whose classes are all
predicted, and no other.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.stats.scores import Bools, Floats, ScoredRecords, ranks

Weights = npt.NDArray[np.float32]

#: The four classes of the 2017 Challenge: normal, AF, other rhythm, noisy.
CINC2017_CLASSES = frozenset({"N", "A", "O", "~"})
#: Metrics of which less is better.
_LOWER_IS_BETTER = frozenset({"log_loss", "brier", "calibration_error"})


def metrics_of(scored: ScoredRecords) -> dict[str, float]:
    """Compute all metrics of one evaluation.

    Returns
    -------
    dict
        ``f1``, ``sensitivity``, ``specificity``, ``precision``, ``roc_auc``,
        ``average_precision`` and ``brier`` of the positive class; ``f1_<class>`` and their mean
        ``f1_macro``; ``accuracy``; ``log_loss``; ``cinc2017`` where the classes are those of the
        Challenge. Where a record may be of several classes also ``f1_micro``, of the counts of all
        classes, and ``roc_auc_macro`` and ``average_precision_macro``, means over the classes. What
        these records don't define (the ROC AUC of one class, the F1 of a class that neither occurs
        nor is predicted) is left out rather than given a number.
    """
    found = weighted_metrics(scored, np.ones((len(scored.targets), 1), np.float32))
    return {name: float(value[0]) for name, value in found.items() if np.isfinite(value[0])}


def weighted_metrics(
    scored: ScoredRecords, columns: Weights, names: Collection[str] | None = None
) -> dict[str, Floats]:
    """Compute metrics of one model for many weightings of its records.

    Parameters
    ----------
    scored
        The model's.
    columns
        ``(n_records, n_weightings)`` whole numbers. Their sums have to stay below 2**24, so that
        float32 holds them exactly.
    names
        Which metrics; by default all.

    Returns
    -------
    dict
        ``(n_weightings,)`` by name, NaN where a weighting doesn't define the metric; no entry for
        a name that is unknown.
    """
    kinds = {
        _means: {"log_loss", "brier"},
        _ranked: {"roc_auc", "average_precision"},
        _macro_ranked: {"roc_auc_macro", "average_precision_macro"},
    }
    wanted = None if names is None else set(names)
    found: dict[str, Floats] = {}
    for compute, produced in kinds.items():
        if wanted is None or wanted & produced:
            found |= compute(scored, columns)
    if wanted is None or wanted - set().union(*kinds.values()):
        found |= _counted(scored, columns)
    return found if names is None else {name: found[name] for name in names if name in found}


def _counted(scored: ScoredRecords, columns: Weights) -> dict[str, Floats]:
    """Compute what depends on numbers of records alone."""
    from scipy.sparse import csr_array

    truth, predicted, place = scored.truth_by_class, scored.predicted_by_class, scored.place
    masks = [(truth & predicted).T, truth.T, predicted.T, scored.is_correct[None, :]]
    sums = csr_array(np.concatenate(masks).astype(np.float32)) @ columns
    # Each ``(n_classes, n_weightings)`` but for the correct ones.
    hits, support, called, correct = np.split(sums, np.cumsum([len(m) for m in masks[:-1]]))
    total = columns.sum(axis=0)
    others = total - support[place]
    f1 = _ratio(2 * hits, support + called)
    found = {
        "accuracy": _ratio(correct[0], total),
        "f1": f1[place],
        "f1_macro": f1.mean(axis=0),
        "sensitivity": _ratio(hits[place], support[place]),
        "specificity": _ratio(others - (called[place] - hits[place]), others),
        "precision": _ratio(hits[place], called[place]),
    }
    found |= {f"f1_{class_suffix(one)}": f1[i] for i, one in enumerate(scored.classes)}
    if scored.is_multilabel:
        found["f1_micro"] = _ratio(2 * hits.sum(axis=0), (support + called).sum(axis=0))
    if frozenset(scored.classes) == CINC2017_CLASSES:
        # The mean F1 of N, A and O over the full 4x4 matrix: Clifford et al., CinC 2017,
        # doi:10.22489/CinC.2017.065-469, table 2.
        found["cinc2017"] = np.mean([f1[scored.classes.index(one)] for one in "NAO"], axis=0)
    return found


def _ranked(scored: ScoredRecords, columns: Weights) -> dict[str, Floats]:
    return _ranked_scores(scored.is_positive, scored.scores, columns)


def _macro_ranked(scored: ScoredRecords, columns: Weights) -> dict[str, Floats]:
    if not scored.is_multilabel:
        return {}
    each = [
        _ranked_scores(truth, scores, columns)
        for truth, scores in zip(scored.truth_by_class.T, scored.probabilities.T, strict=True)
    ]
    return {f"{name}_macro": np.mean([one[name] for one in each], axis=0) for name in each[0]}


def _ranked_scores(is_positive: Bools, scores: Floats, columns: Weights) -> dict[str, Floats]:
    if not is_positive.any():
        nowhere = np.full(columns.shape[1], np.nan)
        return {"roc_auc": nowhere, "average_precision": nowhere}
    found = ranks(is_positive, scores, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Mann and Whitney: pairs of a positive and a negative record in the wrong order, ties half.
        wrong = np.einsum("ib,ib->b", found.here, (found.above + found.negative) / 2)
        auc = 1 - wrong / (found.n_positive * found.n_negative)
        precision = found.positive / np.maximum(found.positive + found.negative, 1)
        average = np.einsum("ib,ib->b", found.here, precision) / found.n_positive
    is_defined = (found.n_positive > 0) & (found.n_negative > 0)
    return {
        "roc_auc": np.where(is_defined, auc, np.nan),
        "average_precision": np.where(is_defined, average, np.nan),
    }


def _means(scored: ScoredRecords, columns: Weights) -> dict[str, Floats]:
    terms = [loss_terms(scored), (scored.scores - scored.is_positive) ** 2]
    sums, totals = np.stack(terms) @ columns.astype(np.float64), columns.sum(axis=0)
    return {"log_loss": _ratio(sums[0], totals), "brier": _ratio(sums[1], totals)}


def loss_terms(scored: ScoredRecords) -> Floats:
    """Return each record's share in the log loss.

    Returns
    -------
    ndarray
        ``(n_records,)`` nats, at most 708.4: ``-log(probability of its class)`` or, where it may be
        of several classes, the mean over the classes of ``-log(probability of what is true)``.
    """
    truth = scored.truth_by_class
    if scored.is_multilabel:
        given = np.where(truth, scored.probabilities, 1.0 - scored.probabilities)
    else:
        given = scored.probabilities[truth][:, None]
    return np.asarray(-np.log(np.maximum(given, np.finfo(np.float64).tiny)).mean(axis=1))


def higher_is_better(metric: str) -> bool:
    """Return False for metrics of which less is better."""
    return metric not in _LOWER_IS_BETTER


def class_suffix(class_name: str) -> str:
    """Spell a class for a metric's name, where MLflow allows few signs: ``~`` is ``noisy``."""
    return "noisy" if class_name == "~" else re.sub(r"[^\w\-. ]", "_", class_name)


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    """Divide counts; 0/0 is NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.asarray(part, np.float64) / whole)
