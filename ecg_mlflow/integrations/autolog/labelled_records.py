"""Labels of windows as a script has them, checked, and brought from windows to records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.labels import listed, read_labels
from ecg_mlflow.pipeline.batches import record_means
from ecg_mlflow.stats.predictions import prediction_columns
from ecg_mlflow.training import Evaluation

#: By how much probabilities may miss their bounds and their sum, as rounded ones do.
TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class LabelledRecords:
    """Which windows are of which record, and which classes the records are of.

    Attributes
    ----------
    names
        Names of the records, in the order of their first windows.
    order
        ``(n_windows,)`` places of the windows, those of one record beside each other.
    counts
        ``(n_records,)`` number of windows.
    targets
        ``(n_records, n_classes)`` bool.
    classes, positive
        Names of the classes, and the one that F1 is of.
    """

    names: tuple[str, ...]
    order: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    targets: npt.NDArray[np.bool_]
    classes: tuple[str, ...]
    positive: str

    @classmethod
    def of(
        cls,
        labels: Any,
        records: Sequence[object] | None,
        classes: Sequence[str] | None,
        positive: str | None,
        where: str,
    ) -> LabelledRecords:
        """Read what a script calls its labels and records.

        Parameters
        ----------
        labels
            One for each window: names of classes, their indices, or rows of 0 and 1 of shape
            (n_windows, n_classes).
        records
            For each window the name of its record; None where each is a record of its own.
        classes
            Names, in the order of the network's outputs.
        positive
            By default the first class.
        where
            What the messages call the place, such as ``"test="``.

        Raises
        ------
        AutologError
            Something is missing, doesn't fit together, or is none of the classes.
        """
        known, positive = checked_classes(classes, positive, where)
        by_window = read_labels(labels, known, where)
        n_windows = len(by_window)
        names = [str(i) for i in range(n_windows)] if records is None else list(map(str, records))
        if len(names) != n_windows or not n_windows:
            raise AutologError(
                f"{where}: {n_windows} labels came with {len(names)} names of records; there must "
                "be one of each for every window, and at least one window"
            )
        _, first, place = np.unique(np.array(names), return_index=True, return_inverse=True)
        # np.unique sorts by name; records come in the order in which the script has them.
        rank = np.argsort(np.argsort(first))[place]
        order = np.argsort(rank, kind="stable").astype(np.int64)
        first = np.sort(first)
        torn = (by_window != by_window[first][rank]).any(axis=1)
        if torn.any():
            bad = list(dict.fromkeys(compress(names, torn)))
            raise AutologError(
                f"{where}: the windows of one record must have one label, and those of "
                f"{listed(bad)} have several; are labels and records in the same order?"
            )
        return cls(
            tuple(names[i] for i in first),
            order,
            np.bincount(rank).astype(np.int64),
            by_window[first],
            known,
            positive,
        )

    @property
    def is_exclusive(self) -> bool:
        """Whether each record is of exactly one class."""
        return bool((self.targets.sum(axis=1) == 1).all())

    def evaluation(
        self, probabilities: npt.NDArray[np.floating[Any]], *, multilabel: bool
    ) -> Evaluation:
        """Score each record once, by the mean over its windows.

        Parameters
        ----------
        probabilities
            ``(n_windows, n_classes)``, in the order in which the labels came.
        multilabel
            Whether each class is a question of its own, or exactly one of them is true.
        """
        return Evaluation(
            np.arange(len(self.names)),
            self.targets if multilabel else self.targets.argmax(axis=1),
            record_means(probabilities[self.order], self.counts),
            self.counts,
            self.classes,
            self.positive,
        )

    def checked_probabilities(self, values: Any, *, multilabel: bool) -> npt.NDArray[np.float64]:
        """Return probabilities of a loop's own; see `evaluation`.

        Raises
        ------
        AutologError
            They are none, or not of these windows and classes.
        """
        found, shape = np.asarray(values, np.float64), (len(self.order), len(self.classes))
        if found.shape != shape:
            raise AutologError(
                f"log.test: {shape[0]} labels of {shape[1]} classes need probabilities of shape "
                f"{shape}; given is {found.shape}"
            )
        if not np.isfinite(found).all() or found.min() < 0 or found.max() > 1 + TOLERANCE:
            raise AutologError(
                f"log.test: probabilities lie between 0 and 1; given are {found.min():.3g} to "
                f"{found.max():.3g}. Of logits, take the softmax first"
            )
        if multilabel:
            return found
        if not np.allclose(found.sum(axis=1), 1, atol=TOLERANCE):
            raise AutologError(
                "log.test: the probabilities of a row must add up to 1; where a record may be of "
                "several classes, say multilabel=True"
            )
        if not self.is_exclusive:
            raise AutologError(
                "log.test: a record has several labels or none; say multilabel=True if that is "
                "meant"
            )
        return found

    def columns(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return a table of predictions, as in the runs of a study: one row per record."""
        return prediction_columns(self.names, evaluation, more={"windows": evaluation.counts})


def checked_classes(
    classes: Sequence[str] | None, positive: str | None, where: str
) -> tuple[tuple[str, ...], str]:
    """Return the classes and the positive one, the first by default.

    Raises
    ------
    AutologError
        There are less than two, a name stands twice, or the positive one is not among them.
    """
    if classes is None or isinstance(classes, str):
        raise AutologError(
            f"{where} needs classes=, the names of the network's outputs in their order, such as "
            f'["A", "NO"]; given is {classes!r}'
        )
    known = tuple(map(str, classes))
    if len(known) < 2 or len(set(known)) < len(known):
        raise AutologError(f"classes={list(known)} must name two or more, each once")
    chosen = known[0] if positive is None else positive
    if chosen not in known:
        raise AutologError(f"positive={positive!r} is not among classes={list(known)}")
    return known, chosen
