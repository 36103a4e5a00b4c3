"""Declare a pipeline: an immutable chain of actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.grids import C
from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.pipeline.actions import every_batch, label_actions, records
from ecg_mlflow.pipeline.actions.base import Action
from ecg_mlflow.pipeline.actions.every_batch import ChanceAction, SplitAction
from ecg_mlflow.pipeline.actions.label_actions import LabelAction
from ecg_mlflow.pipeline.actions.records import RecordAction, SignalStep
from ecg_mlflow.records.label_sets import join_labels, split_label


@counts_as("Pipeline", version=1)
@dataclass(frozen=True)
class Pipeline:
    """Ordered actions that turn a labelled recording into windows.

    Every method returns a new pipeline with one more action, so several pipelines can share a
    beginning. Any argument may be ``C("option")``.

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
        """Leave out the records with one of these labels; ``""`` means records without labels."""
        return self._then(label_actions.DropLabels(_names(labels)))

    def keep_labels(self, labels: Sequence[str] | C) -> Pipeline:
        """Leave out the records with any other label."""
        return self._then(label_actions.KeepLabels(_names(labels)))

    def select_labels(self, labels: Sequence[str] | C) -> Pipeline:
        """Remove all other labels from the records.

        All records stay. With several labels per record, one without a selected label is in no
        class. With one label per record its label becomes ``""``, to be renamed or dropped.
        """
        return self._then(label_actions.SelectLabels(_names(labels)))

    def rename_labels(self, names: Mapping[str, str] | C) -> Pipeline:
        """Give labels new names, ``{old: new}``; several old ones may share a new one.

        ``ecg_mlflow.SNOMED`` names the usual diagnoses in the ``#Dx`` lines of WFDB headers.
        """
        return self._then(label_actions.RenameLabels(_copied(names)))

    def drop_short_signals(self, seconds: float | C) -> Pipeline:
        """Leave out the recordings that are shorter than this, before any resampling."""
        return self._then(records.DropShortSignals(seconds))  # type: ignore[arg-type]

    def keep_leads(self, leads: Sequence[str] | C) -> Pipeline:
        """Keep these leads, in this order; ``aVR`` also finds AVR, avr and ECG aVR."""
        return self._then(records.KeepLeads(_names(leads)))

    def drop_leads(self, leads: Sequence[str] | C) -> Pipeline:
        """Leave these leads out."""
        return self._then(records.DropLeads(_names(leads)))

    def reorder_leads(self, leads: Sequence[str] | C) -> Pipeline:
        """Put all leads in this order."""
        return self._then(records.ReorderLeads(_names(leads)))

    def rename_leads(self, names: Mapping[str, str] | C) -> Pipeline:
        """Give leads new names, ``{old: new}``; those that a record lacks are passed over."""
        return self._then(records.RenameLeads(_copied(names)))

    def band_pass_signals(
        self, low: float | C | None = None, high: float | C | None = None, order: int | C = 3
    ) -> Pipeline:
        """Apply a Butterworth filter forward and backward; edges in Hz, None for an open side."""
        return self._then(records.BandPassSignals(low, high, order))  # type: ignore[arg-type]

    def standardise_signals(self) -> Pipeline:
        """Give each lead mean 0 and standard deviation 1; a flat lead becomes 0."""
        return self._then(records.StandardiseSignals())

    def remove_powerline(self, frequency: float | C, quality: float | C = 30) -> Pipeline:
        """Remove mains interference of 50 or 60 Hz by a notch of width `frequency` / `quality`."""
        return self._then(records.RemovePowerline(frequency, quality))  # type: ignore[arg-type]

    def remove_baseline(self) -> Pipeline:
        """Subtract the baseline wander that medians over 200 and 600 ms find."""
        return self._then(records.RemoveBaseline())

    def resample_signals(self, fs: float | C, method: str | C = records.POLYPHASE) -> Pipeline:
        """Resample to one frequency in Hz.

        The method "polyphase" filters first what the new frequency can't hold (a tone of 70 Hz
        would otherwise be one of 30 Hz at 100 Hz); "linear" interpolates without a filter.
        """
        return self._then(records.ResampleSignals(fs, method))  # type: ignore[arg-type]

    def apply(self, step: SignalStep | C) -> Pipeline:
        """Run the user's function, ``step(signal, fs) -> signal``, plain or ``@njit``.

        It gets ``(n_samples, n_leads)`` float32 in mV and must keep the number of leads. Before
        the first random action it runs once per record; between that and the split, on every
        record in each epoch; after the split, on every window, whose shape it must keep.
        """
        return self._then(records.ApplyStep(step))

    def center_flip(self, flip_at_test: bool | C = False) -> Pipeline:
        """Subtract each lead's mean; in training, multiply it by a random sign."""
        return self._then(every_batch.CenterFlip(flip_at_test))  # type: ignore[arg-type]

    def random_resample_signals(self, distribution: str | C, **parameters: object) -> Pipeline:
        """Resample each record to a frequency in Hz that is drawn in each epoch.

        `distribution` is a method of `numpy.random.Generator`, as in
        ``random_resample_signals("normal", loc=300, scale=10)``.
        """
        return self._then(
            every_batch.RandomResampleSignals(distribution, parameters)  # type: ignore[arg-type]
        )

    def random_split_signals(self, length: int | C, n: int | Mapping[str, int | C] | C) -> Pipeline:
        """Cut `n` windows (or ``{label: n}``) of `length` samples at random positions."""
        return self._then(every_batch.RandomSplitSignals(length, _copied(n)))  # type: ignore[arg-type]

    def split_signals(self, length: int | C, step: int | Mapping[str, int | C] | C) -> Pipeline:
        """Cut a window of `length` samples every `step` samples (or ``{label: step}``)."""
        return self._then(every_batch.SplitSignals(length, _copied(step)))  # type: ignore[arg-type]

    def stages(self) -> Stages:
        """Divide the actions into those that run once and those that run for every batch.

        Raises
        ------
        PipelineError
            If the chain doesn't cut windows exactly once, or an action is at a position where it
            can't run.
        """
        splits = [action for action in self.actions if isinstance(action, SplitAction)]
        if not splits:
            raise PipelineError(
                "the pipeline must cut windows of one length, which a model needs; end it with "
                "split_signals or random_split_signals. It is:\n" + str(self)
            )
        if len(splits) > 1:
            raise PipelineError(f"windows are cut twice: by {splits[0]} and by {splits[1]}")
        labels, once, every = list[LabelAction](), list[RecordAction](), list[Action]()
        for action in self.actions:
            if splits[0] in every and isinstance(action, _BEFORE_SPLIT):
                raise PipelineError(
                    f"{action} must come before {splits[0]}, which cuts windows of one length"
                )
            if isinstance(action, LabelAction):
                labels.append(action)
            elif isinstance(action, RecordAction) and not every:
                once.append(action)
            elif isinstance(action, _EVERY_BATCH):
                every.append(action)
            else:
                raise PipelineError(
                    f"{action} must come before the first random action or split ({every[0]})"
                )
        return Stages(tuple(labels), tuple(once), tuple(every), splits[0])


_RESAMPLERS = (records.ResampleSignals, every_batch.RandomResampleSignals)
_BEFORE_SPLIT = (LabelAction, *_RESAMPLERS)
#: Random actions, cuts, and deterministic actions that may follow them.
_EVERY_BATCH = (
    *(ChanceAction, SplitAction),
    *(records.ApplyStep, records.StandardiseSignals, records.ResampleSignals),
    *(records.BandPassSignals, records.RemovePowerline, records.RemoveBaseline),
)


@counts_as("Stages", version=1)
@dataclass(frozen=True)
class Stages:
    """A checked pipeline, divided by when its actions run.

    Attributes
    ----------
    labels
        Actions on labels.
    once
        Actions that run once per record; their results are cached.
    every
        Actions that run for every batch: the first random action, or the split, and all after it.
    split
        The one action among `every` that cuts windows.
    """

    labels: tuple[LabelAction, ...]
    once: tuple[RecordAction, ...]
    every: tuple[Action, ...]
    split: SplitAction

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions, label actions first."""
        return (*self.labels, *self.once, *self.every)

    @property
    def resamples(self) -> bool:
        """Whether an action sets the sampling frequency of the windows."""
        return any(isinstance(action, _RESAMPLERS) for action in (*self.once, *self.every))

    def label(self, label: str) -> str | None:
        """Return a record's final label, or its joined labels; None if the record is dropped."""
        for action in self.labels:
            names = [action.label(one) for one in split_label(label)]
            kept = [name for name in names if name is not None]
            if len(kept) < len(names):
                return None
            label = join_labels(kept)
        return join_labels(split_label(label))


def _names(names: Sequence[str] | C) -> tuple[str, ...]:
    """Return a list of names as a tuple, and a placeholder as it is."""
    if isinstance(names, C):
        return names  # type: ignore[return-value]
    if isinstance(names, str):
        raise PipelineError(f"a list of names is needed, as in [{names!r}], not the text {names!r}")
    return tuple(names)


def _copied(value: Any) -> Any:
    """Copy a dict, so that later changes of it don't change the pipeline."""
    return dict(value) if isinstance(value, Mapping) else value
