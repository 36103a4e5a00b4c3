"""Evaluation: every record is scored exactly once, from the mean over its windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import DivergedError
from ecg_mlflow.pipeline import Batch
from ecg_mlflow.training.loop import DIVERGED_ADVICE
from ecg_mlflow.training.metrics import classification_metrics, confusion_matrix

Floats = npt.NDArray[np.float32]

#: Windows of one prediction call; every call has this shape, so that none is traced or tuned anew.
CHUNK = 128


@dataclass(frozen=True)
class Evaluation:
    """Record-level predictions of one evaluation, and what follows from them.

    Attributes
    ----------
    rows
        ``(n_records,)`` positions in the corpus.
    targets
        ``(n_records,)`` index of the true class.
    probabilities
        ``(n_records, n_classes)``: mean over the record's windows of the softmax.
    counts
        ``(n_records,)`` number of windows.
    classes, positive
        Names of the classes, and the one that F1 is of.
    """

    rows: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    positive: str

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All metrics, by name."""
        return classification_metrics(self.targets, self.probabilities, self.classes, self.positive)

    @property
    def objective(self) -> float:
        """What "best" means: F1 of the positive class; 0 where none was found or to be found."""
        return self.metrics.get("f1", 0.0)

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """Records by true class (row) and predicted class (column)."""
        predicted = self.probabilities.argmax(axis=1)
        return confusion_matrix(self.targets, predicted, len(self.classes))


def evaluate(
    predict: Callable[[Floats], Floats],
    batches: Iterable[Batch],
    classes: tuple[str, ...],
    positive: str,
    on_progress: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score every record of `batches` once.

    Parameters
    ----------
    predict
        Windows ``(n, length, n_leads)`` to class probabilities ``(n, n_classes)``.
    batches
        One epoch of the records to score.
    classes, positive
        Names of the classes, and the one that F1 is of.
    on_progress
        Called after each batch; what it raises ends the evaluation.

    Raises
    ------
    DivergedError
        If the model returns NaN: the update after the last finite loss may have broken it.
    """
    seen: list[Batch] = []
    probabilities = np.concatenate(
        list(_predict_chunks(predict, _collect(batches, seen, on_progress)))
    )
    counts = np.concatenate([batch.counts for batch in seen])
    if not np.isfinite(probabilities).all():
        n_bad = int((~np.isfinite(probabilities).all(axis=1)).sum())
        raise DivergedError(
            f"the model returned NaN for {n_bad} of {len(probabilities)} windows of the "
            f"evaluation: its weights have diverged; {DIVERGED_ADVICE}"
        )
    targets = np.concatenate([batch.targets for batch in seen]).argmax(axis=1)
    first = np.cumsum(counts) - counts
    return Evaluation(
        np.concatenate([batch.rows for batch in seen]),
        targets[first],
        record_means(probabilities, counts),
        counts,
        classes,
        positive,
    )


def record_means(
    values: npt.NDArray[Any], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Average ``(n_windows, n_classes)`` over each record's windows: ``(n_records, n_classes)``."""
    first = np.cumsum(counts) - counts
    return np.add.reduceat(values.astype(np.float64), first) / counts[:, None]


def _collect(
    batches: Iterable[Batch], seen: list[Batch], on_progress: Callable[[], None]
) -> Iterator[Floats]:
    """Yield the batches' windows and keep the rest of each batch."""
    for batch in batches:
        seen.append(Batch(batch.windows[:0], batch.targets, batch.rows, batch.counts))
        yield batch.windows
        on_progress()


def _predict_chunks(
    predict: Callable[[Floats], Floats], windows: Iterable[Floats]
) -> Iterator[Floats]:
    """Predict in pieces of one size; the last is filled up with zeros, which are cut off again."""
    rest: Floats | None = None
    for more in windows:
        rest = more if rest is None else np.concatenate([rest, more])
        whole = len(rest) - len(rest) % CHUNK
        for start in range(0, whole, CHUNK):
            yield predict(rest[start : start + CHUNK])
        rest = rest[whole:]
    if rest is not None and len(rest):
        filled = np.zeros((CHUNK, *rest.shape[1:]), dtype=np.float32)
        filled[: len(rest)] = rest
        yield predict(filled)[: len(rest)]
