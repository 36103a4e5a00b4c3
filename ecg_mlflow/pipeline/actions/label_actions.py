"""Define actions on labels, which ignore the signal.

A record may have several labels (`ecg_mlflow.records.label_sets`). An action gets them one by one,
and the label ``""`` for a record without labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.pipeline.actions.base import Action


@dataclass(frozen=True)
class LabelAction(Action):
    """An action that changes or drops labels and ignores the signal."""

    def label(self, label: str) -> str | None:
        """Return what one of a record's labels becomes.

        Returns
        -------
        Its new name, ``""`` if it is removed, or None if the record is dropped.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class _ListedLabels(LabelAction):
    labels: tuple[str, ...]

    def _check(self) -> None:
        self._require_names("labels")


@counts_as("drop_labels", version=1)
@dataclass(frozen=True)
class DropLabels(_ListedLabels):
    """Leave out the records with one of these labels."""

    name = "drop_labels"
    _at_least = 0

    def label(self, label: str) -> str | None:
        """Return the label, or None if it is one of those to drop."""
        return None if label in self.labels else label


@counts_as("keep_labels", version=1)
@dataclass(frozen=True)
class KeepLabels(_ListedLabels):
    """Leave out the records with any other label."""

    name = "keep_labels"

    def label(self, label: str) -> str | None:
        """Return the label, or None if it is not one of those to keep."""
        return label if label in self.labels else None


@counts_as("select_labels", version=1)
@dataclass(frozen=True)
class SelectLabels(_ListedLabels):
    """Remove all other labels from the records; all records stay, some without labels."""

    name = "select_labels"

    def label(self, label: str) -> str | None:
        """Return the label, or "" if it is not one of those to select."""
        return label if label in self.labels else ""


@counts_as("rename_labels", version=1)
@dataclass(frozen=True)
class RenameLabels(LabelAction):
    """Give labels new names; several old ones may share a new one."""

    name = "rename_labels"
    names: Mapping[str, str]

    def _check(self) -> None:
        self._require(
            isinstance(self.names, Mapping)
            and all(isinstance(name, str) for pair in self.names.items() for name in pair),
            "names must be a dict of labels, {old: new}",
        )

    def label(self, label: str) -> str | None:
        """Return the label's new name; other labels stay the same."""
        return self.names.get(label, label)
