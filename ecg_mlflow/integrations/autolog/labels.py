"""Labels in the forms that scripts have them in: names, indices, or rows of 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.records.label_sets import split_label

#: How many wrong labels or records a message lists.
LISTED = 5


def read_labels(labels: Any, classes: tuple[str, ...], where: str) -> npt.NDArray[np.bool_]:
    """Return ``(n, n_classes)``: whether each window is of each class.

    Raises
    ------
    AutologError
        They are none of the three forms, or not of these classes.
    """
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
    place = {name: i for i, name in enumerate(classes)}
    targets = np.zeros((len(names), len(classes)), np.bool_)
    unknown: dict[str, None] = {}
    for row, name in enumerate(names):
        for one in (name,) if name in place else split_label(name):
            if one in place:
                targets[row, place[one]] = True
            elif one:
                unknown[one] = None
    if unknown:
        raise AutologError(
            f"{where}: no class is called {listed(list(unknown))}; there are {list(classes)}. "
            "Rename or leave out these windows, or name the class"
        )
    return targets


def _read_indices(
    array: npt.NDArray[Any], classes: tuple[str, ...], where: str
) -> npt.NDArray[np.bool_]:
    n = len(classes)
    if array.dtype.kind not in "biuf":
        raise AutologError(f"{where}: labels of type {array.dtype} are neither names nor indices")
    wrong = array[~np.isin(array, range(n))]
    if len(wrong):
        raise AutologError(
            f"{where}: labels {listed([repr(one.item()) for one in np.unique(wrong)])} are no "
            f"indices of the {n} classes {list(classes)}, which count from 0 to {n - 1}"
        )
    return np.eye(n, dtype=np.bool_)[array.astype(np.int64)]


def listed(names: Sequence[str]) -> str:
    """Spell some names out, and count the others."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(map(str, names[:LISTED])) + more
