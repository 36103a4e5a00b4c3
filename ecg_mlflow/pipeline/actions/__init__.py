"""Define the signal actions on one record, in plain NumPy.

An action is a frozen dataclass that checks its arguments when it is made. Signals are float32,
time first ``(n_samples, n_leads)``, in mV. Random numbers are arguments and are drawn elsewhere.
These definitions are the reference: the fused kernel of `ecg_mlflow.pipeline.kernels` must agree
with them, and replaces them where it can.

Sources: the actions of CardIO (``ecg_batch.py``) under their names, with the corrections that
their docstrings state.
"""

from ecg_mlflow.pipeline.actions.base import Action, Signal, interpolate, resampled_length
from ecg_mlflow.pipeline.actions.chance import CenterFlip, ChanceAction, RandomResampleSignals
from ecg_mlflow.pipeline.actions.label_actions import (
    DropLabels,
    KeepLabels,
    LabelAction,
    RenameLabels,
    SelectLabels,
)
from ecg_mlflow.pipeline.actions.records import (
    ApplyStep,
    BandPassSignals,
    DropLeads,
    DropShortSignals,
    KeepLeads,
    RecordAction,
    ReorderLeads,
    ResampleSignals,
    SignalStep,
    StandardiseSignals,
)
from ecg_mlflow.pipeline.actions.split_signals import RandomSplitSignals, SplitAction, SplitSignals

__all__ = [
    "Action",
    "ApplyStep",
    "BandPassSignals",
    "CenterFlip",
    "ChanceAction",
    "DropLabels",
    "DropLeads",
    "DropShortSignals",
    "KeepLabels",
    "KeepLeads",
    "LabelAction",
    "RandomResampleSignals",
    "RandomSplitSignals",
    "RecordAction",
    "RenameLabels",
    "ReorderLeads",
    "ResampleSignals",
    "SelectLabels",
    "Signal",
    "SignalStep",
    "SplitAction",
    "SplitSignals",
    "StandardiseSignals",
    "interpolate",
    "resampled_length",
]
