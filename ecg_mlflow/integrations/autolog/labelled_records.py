"""Labels of windows as a script has them, checked, and brought from windows to records.

Scripts have names of classes, their indices, or rows of 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.pipeline.batches import record_means
from ecg_mlflow.records.label_sets import split_label
from ecg_mlflow.stats.predictions import prediction_columns
from ecg_mlflow.training import Evaluation

#: By how much probabilities may miss their bounds and their sum, as rounded ones do.
TOLERANCE = 1e-3
#: How many wrong labels or records a message lists.
LISTED = 5


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
        """Read the labels and record names of a script.

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
            Begins the messages, such as ``"test="``.

        Raises
        ------
        AutologError
            Something is missing, doesn't fit together, or is none of the classes.
        """
        known, positive = _checked_classes(classes, positive, where)
        by_window = _read_labels(labels, known, where)
        n_windows = len(by_window)
        names = [str(i) for i in range(n_windows)] if records is None else list(map(str, records))
        if len(names) != n_windows or not n_windows:
            raise AutologError(
                f"{where}: {n_windows} labels came with {len(names)} names of records; there must "
                "be one of each for every window, and at least one window"
            )
        # Records come in the order in which the script has them.
        places: dict[str, int] = {}
        place = np.array([places.setdefault(name, len(places)) for name in names], np.int64)
        first = np.unique(place, return_index=True)[1]
        torn = (by_window != by_window[first][place]).any(axis=1)
        if torn.any():
            bad = list(dict.fromkeys(compress(names, torn)))
            raise AutologError(
                f"{where}: the windows of one record must have one label, and those of "
                f"{_listed(bad)} have several; are labels and records in the same order?"
            )
        return cls(
            tuple(places),
            np.argsort(place, kind="stable").astype(np.int64),
            np.bincount(place).astype(np.int64),
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
            Whether a record may be of several classes or of none.
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


def _checked_classes(
    classes: Sequence[str] | None, positive: str | None, where: str
) -> tuple[tuple[str, ...], str]:
    """Return the classes and the positive one, the first by default."""
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


def _read_labels(labels: Any, classes: tuple[str, ...], where: str) -> npt.NDArray[np.bool_]:
    """Return ``(n_windows, n_classes)``: whether each window is of each class."""
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        return _read_rows(array, classes, where)
    if array.ndim != 1:
        raise AutologError(
            f"{where}: labels of shape {array.shape} can't be read; allowed are names or indices "
            f"of classes, of shape (n_windows,), and rows of 0 and 1, of shape "
            f"(n_windows, {len(classes)})"
        )
    if array.dtype.kind in "USO":
        return _read_names([str(one) for one in array], classes, where)
    return _read_indices(array, classes, where)


def _read_rows(
    array: npt.NDArray[Any], classes: tuple[str, ...], where: str
) -> npt.NDArray[np.bool_]:
    if array.shape[1] != len(classes):
        raise AutologError(
            f"{where}: labels of shape {array.shape} have {array.shape[1]} columns, and classes="
            f"{list(classes)} are {len(classes)}"
        )
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise AutologError(f"{where}: rows of labels must consist of 0 and 1, one for each class")
    return array.astype(np.bool_)


def _read_names(
    names: Sequence[str], classes: tuple[str, ...], where: str
) -> npt.NDArray[np.bool_]:
    found = [(name,) if name in classes else split_label(name) for name in names]
    different = dict.fromkeys(chain.from_iterable(found))
    if unknown := [name for name in different if name and name not in classes]:
        raise AutologError(
            f"{where}: no class is called {_listed(unknown)}; there are {list(classes)}. "
            "Rename or leave out these windows, or name the class"
        )
    targets = [[name in labels for name in classes] for labels in found]
    return np.array(targets, np.bool_).reshape(-1, len(classes))


def _read_indices(
    array: npt.NDArray[Any], classes: tuple[str, ...], where: str
) -> npt.NDArray[np.bool_]:
    n = len(classes)
    if array.dtype.kind not in "biuf":
        raise AutologError(f"{where}: labels of type {array.dtype} are neither names nor indices")
    wrong = array[~np.isin(array, range(n))]
    if len(wrong):
        raise AutologError(
            f"{where}: labels {_listed([repr(one.item()) for one in np.unique(wrong)])} are no "
            f"indices of the {n} classes {list(classes)}, which count from 0 to {n - 1}"
        )
    return np.eye(n, dtype=np.bool_)[array.astype(np.int64)]


def _listed(names: Sequence[str]) -> str:
    """Spell some names out, and count the others."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(map(str, names[:LISTED])) + more
