"""Labels of windows as a script has them, checked, and brought from windows to records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecg_mlflow.errors import AutologError, few
from ecg_mlflow.pipeline.batches import record_means
from ecg_mlflow.records.label_sets import split_label
from ecg_mlflow.training.evaluation import Evaluation

#: By how much probabilities may miss their bounds and their sum, as rounded ones do.
TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class LabelledRecords:
    """Which windows are of which record, and which classes the records are of.

    Attributes
    ----------
    names
        Names of the records, in the order of their first windows.
    place
        ``(n_windows,)`` index of each window's record.
    targets
        ``(n_records, n_classes)`` bool.
    classes, positive
        Names of the classes, and the one that F1 is of.
    """

    names: tuple[str, ...]
    place: npt.NDArray[np.int64]
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
        if (
            classes is None
            or isinstance(classes, str)
            or not 2 <= len(set(classes)) == len(classes)
        ):
            raise AutologError(
                f"{where} needs classes=, the names of the network's two or more outputs in their "
                f'order, each once, such as ["A", "NO"]; given is {classes!r}'
            )
        known = tuple(map(str, classes))
        positive = known[0] if positive is None else positive
        if positive not in known:
            raise AutologError(f"positive={positive!r} is not among classes={list(known)}")
        by_window = _read_labels(labels, known, where)
        n_windows = len(by_window)
        names = [str(i) for i in range(n_windows)] if records is None else list(map(str, records))
        if len(names) != n_windows or not n_windows:
            raise AutologError(
                f"{where}: {n_windows} labels came with {len(names)} names of records; there must "
                "be one of each for every window, and at least one window"
            )
        place, unique = pd.factorize(np.array(names, dtype=object))
        targets = by_window[np.unique(place, return_index=True)[1]]
        differ = (by_window != targets[place]).any(axis=1)
        if differ.any():
            raise AutologError(
                f"{where}: the windows of one record must have one label, and those of "
                f"{few(unique[np.unique(place[differ])])} have several; are labels and records "
                "in the same order?"
            )
        return cls(tuple(unique), place.astype(np.int64), targets, known, positive)

    def check(
        self, probabilities: npt.NDArray[Any], *, multilabel: bool, what: str, advice: str
    ) -> None:
        """Check rows of probabilities, of all windows or of some.

        Parameters
        ----------
        probabilities
            Of shape (n, n_classes).
        multilabel
            Whether a record may be of several classes or of none; otherwise a row adds up to 1.
        what, advice
            Begin and end the messages.

        Raises
        ------
        AutologError
            They are no probabilities of these classes.
        """
        n, shape, sums = len(self.classes), probabilities.shape, probabilities.sum(axis=-1)
        if len(shape) != 2 or shape[1] != n:
            raise AutologError(
                f"{what} of shape {shape} are not of the {n} classes={list(self.classes)}; name "
                "them in the order of the outputs"
            )
        if not multilabel and (self.targets.sum(axis=1) != 1).any():
            raise AutologError(
                f"{what} decide for one class, and a record has several or none. {advice}"
            )
        low, high = probabilities.min(), probabilities.max()
        is_one = multilabel or np.allclose(sums, 1, atol=TOLERANCE)
        if not (low >= 0 and high <= 1 + TOLERANCE and is_one):
            raise AutologError(
                f"{what} are no probabilities: they lie between {low:.3g} and {high:.3g}, the sums "
                f"of their rows between {sums.min():.3g} and {sums.max():.3g}. {advice}"
            )

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
        order, counts = np.argsort(self.place, kind="stable"), np.bincount(self.place)
        return Evaluation(
            np.arange(len(self.names)),
            self.targets if multilabel else self.targets.argmax(axis=1),
            record_means(probabilities[order], counts),
            counts,
            self.classes,
            self.positive,
        )


def _read_labels(labels: Any, classes: tuple[str, ...], where: str) -> npt.NDArray[np.bool_]:
    """Return ``(n_windows, n_classes)``: whether each window is of each class."""
    array, n = np.asarray(labels), len(classes)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    is_number = array.dtype.kind in "biuf"
    if array.ndim == 1 and array.dtype.kind in "USO":
        found = [{name} if name in classes else {*split_label(name)} for name in map(str, array)]
        wrong = set[Any]().union(*found) - {*classes, ""}
        targets = np.array([[name in one for name in classes] for one in found], np.bool_)
    elif array.ndim == 1 and is_number:
        wrong = set(array.tolist()) - set(range(n))
        targets = array[:, None] == np.arange(n)
    elif array.ndim == 2 and array.shape[1] == n and is_number:
        wrong = set(array.ravel().tolist()) - {0, 1}
        targets = array == 1
    else:
        wrong = {f"of shape {array.shape} and type {array.dtype}"}
    if wrong:
        raise AutologError(
            f"{where}: can't read the labels {few(sorted(wrong))}; allowed are, for each "
            f"window, a name of {list(classes)}, an index from 0 to {n - 1}, or a row of {n} "
            "numbers that are 0 or 1"
        )
    return targets
