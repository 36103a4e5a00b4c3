"""The pipeline as a user writes it: an immutable chain of actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ecg_mlflow.canonical import counts_as
from ecg_mlflow.errors import PipelineError
from ecg_mlflow.grids import C
from ecg_mlflow.pipeline import actions
from ecg_mlflow.pipeline.actions import (
    Action,
    ChanceAction,
    LabelAction,
    RecordAction,
    SignalStep,
    SplitAction,
)
from ecg_mlflow.records.label_sets import join_labels, split_label


@counts_as("Pipeline", version=1)
@dataclass(frozen=True)
class Pipeline:
    """Actions that turn a labelled recording into windows, in their order.

    Every method returns a new pipeline with one action more, so a common beginning can be
    declared once and continued in two ways. Any argument may be ``C("option")``.

    Examples
    --------
    >>> root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO", "O": "NO"})
    >>> train = root.center_flip().random_split_signals(3000, {"A": 6, "NO": 2})
    >>> test = root.center_flip().split_signals(3000, step=3000)
    """

    actions: tuple[Action, ...] = ()

    def __str__(self) -> str:
        return "\n".join(str(action) for action in self.actions) or "(no actions)"

    def _then(self, action: Action) -> Pipeline:
        return replace(self, actions=(*self.actions, action))

    def drop_labels(self, labels: Sequence[str] | C) -> Pipeline:
        """Leave out the records with one of these labels; ``""`` are those without any."""
        return self._then(actions.DropLabels(_names(labels)))

    def keep_labels(self, labels: Sequence[str] | C) -> Pipeline:
        """Leave out the records with any other label."""
        return self._then(actions.KeepLabels(_names(labels)))

    def select_labels(self, labels: Sequence[str] | C) -> Pipeline:
        """Of the records' labels, consider only these.

        All records stay. One that has none of them is, with several labels a record, none of the
        classes; otherwise rename or drop it: its label is ``""``.
        """
        return self._then(actions.SelectLabels(_names(labels)))

    def rename_labels(self, names: Mapping[str, str] | C) -> Pipeline:
        """Give labels new names, ``{old: new}``; two old ones may share a new one.

        Of the diagnoses in the ``#Dx`` lines of WFDB headers, ``ecg_mlflow.SNOMED`` names the
        usual ones.
        """
        return self._then(actions.RenameLabels(_copied(names)))

    def drop_short_signals(self, seconds: float | C) -> Pipeline:
        """Leave out the recordings that are shorter than this, as they were recorded."""
        return self._then(actions.DropShortSignals(seconds))  # type: ignore[arg-type]

    def keep_leads(self, leads: Sequence[str] | C) -> Pipeline:
        """Keep these leads, in this order."""
        return self._then(actions.KeepLeads(_names(leads)))

    def drop_leads(self, leads: Sequence[str] | C) -> Pipeline:
        """Leave these leads out."""
        return self._then(actions.DropLeads(_names(leads)))

    def reorder_leads(self, leads: Sequence[str] | C) -> Pipeline:
        """Put all leads in this order."""
        return self._then(actions.ReorderLeads(_names(leads)))

    def band_pass_signals(
        self, low: float | C | None = None, high: float | C | None = None, order: int | C = 3
    ) -> Pipeline:
        """Filter with a Butterworth filter run forth and back; edges in Hz, None leaves open."""
        return self._then(actions.BandPassSignals(low, high, order))  # type: ignore[arg-type]

    def standardise_signals(self) -> Pipeline:
        """Give each lead mean 0 and standard deviation 1; a flat lead becomes 0."""
        return self._then(actions.StandardiseSignals())

    def resample_signals(self, fs: float | C) -> Pipeline:
        """Resample to one frequency in Hz, by linear interpolation."""
        return self._then(actions.ResampleSignals(fs))  # type: ignore[arg-type]

    def apply(self, step: SignalStep | C) -> Pipeline:
        """Run a function of one's own, ``step(signal, fs) -> signal``, plain or ``@njit``.

        It gets ``(n_samples, n_leads)`` float32 in mV and must keep the number of leads. Before
        the first action of chance it runs once per record; between that and the split, on every
        record anew each epoch; after the split, on every window, whose shape it must keep.
        """
        return self._then(actions.ApplyStep(step))

    def center_flip(self, flip_at_test: bool | C = False) -> Pipeline:
        """Subtract each lead's mean; in training, multiply it by a random sign."""
        return self._then(actions.CenterFlip(flip_at_test))  # type: ignore[arg-type]

    def random_resample_signals(self, distribution: str | C, **parameters: object) -> Pipeline:
        """Resample each record to a frequency drawn anew each epoch, in Hz.

        `distribution` is a method of `numpy.random.Generator`, as in
        ``random_resample_signals("normal", loc=300, scale=10)``.
        """
        return self._then(
            actions.RandomResampleSignals(distribution, parameters)  # type: ignore[arg-type]
        )

    def random_split_signals(self, length: int | C, n: int | Mapping[str, int | C] | C) -> Pipeline:
        """Cut `n` windows (or ``{label: n}``) of `length` samples at random places."""
        return self._then(actions.RandomSplitSignals(length, _copied(n)))  # type: ignore[arg-type]

    def split_signals(self, length: int | C, step: int | Mapping[str, int | C] | C) -> Pipeline:
        """Cut a window of `length` samples every `step` samples (or ``{label: step}``)."""
        return self._then(actions.SplitSignals(length, _copied(step)))  # type: ignore[arg-type]

    def stages(self) -> Stages:
        """Sort the actions into what runs once and what runs for every batch.

        Raises
        ------
        PipelineError
            If the chain doesn't cut windows exactly once, or an action stands where it has no
            meaning.
        """
        labels: list[LabelAction] = []
        once: list[RecordAction] = []
        every: list[Action] = []
        split: SplitAction | None = None
        for action in self.actions:
            if isinstance(action, LabelAction):
                if split is not None:
                    raise PipelineError(f"{action} must stand before {split}")
                labels.append(action)
            elif isinstance(action, SplitAction):
                if split is not None:
                    raise PipelineError(f"windows are cut twice: by {split} and by {action}")
                split = action
                every.append(action)
            elif isinstance(action, RecordAction) and not every:
                once.append(action)
            else:
                if not isinstance(action, (ChanceAction, actions.ApplyStep, *_ANYWHERE)):
                    raise PipelineError(
                        f"{action} must stand before the first action of chance or split "
                        f"({every[0]})"
                    )
                if split is not None and isinstance(action, _RESAMPLERS):
                    raise PipelineError(
                        f"{action} would change the length of the windows that {split} cut; "
                        "put it before"
                    )
                every.append(action)
        if split is None:
            raise PipelineError(
                "the pipeline never cuts windows of one length, so no model can take what it "
                "makes; end it with split_signals or random_split_signals. It is:\n" + str(self)
            )
        return Stages(tuple(labels), tuple(once), tuple(every), split)


#: Actions without chance that may also follow one, or run on windows.
_ANYWHERE = (actions.StandardiseSignals, actions.ResampleSignals, actions.BandPassSignals)
_RESAMPLERS = (actions.ResampleSignals, actions.RandomResampleSignals)


@counts_as("Stages", version=1)
@dataclass(frozen=True)
class Stages:
    """A checked pipeline, sorted by when its actions run.

    Attributes
    ----------
    labels
        On labels alone.
    once
        Once per record, kept.
    every
        For every batch, from the first action of chance (or the split) on.
    split
        The one action among `every` that cuts windows.
    """

    labels: tuple[LabelAction, ...]
    once: tuple[RecordAction, ...]
    every: tuple[Action, ...]
    split: SplitAction

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions, those on labels first."""
        return (*self.labels, *self.once, *self.every)

    @property
    def resamples(self) -> bool:
        """Whether windows have one sampling frequency, up to what chance is told to change."""
        return any(isinstance(action, _RESAMPLERS) for action in (*self.once, *self.every))

    def label(self, label: str) -> str | None:
        """Return a record's final label, or its labels as one; None where it is dropped."""
        for action in self.labels:
            names = [action.label(one) for one in split_label(label)]
            kept = [name for name in names if name is not None]
            if len(kept) < len(names):
                return None
            label = join_labels(kept)
        return join_labels(split_label(label))


def _names(names: Sequence[str] | C) -> tuple[str, ...]:
    """Freeze a list of names; a placeholder stays what it is until it is resolved."""
    if isinstance(names, C):
        return names  # type: ignore[return-value]
    if isinstance(names, str):
        raise PipelineError(f"a list of names is needed, as in [{names!r}], not the text {names!r}")
    return tuple(names)


def _copied(value: Any) -> Any:
    """Copy a dict, so that what its owner does to it later doesn't change the pipeline."""
    return dict(value) if isinstance(value, Mapping) else value
