"""What decides one training, once a configuration's values are in their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.models.arguments import ModelBuilder, builder_name
from ecg_mlflow.pipeline import Stages
from ecg_mlflow.stats.scores import objective_of
from ecg_mlflow.training import Loss, Optimizer

#: One rule of a `Schedule`, or a list of them.
Rules = str | int | Sequence[str | int]


@counts_as("Settings", version=1)
@dataclass(frozen=True)
class Settings:
    """Everything that decides one training, apart from the records and the repetition."""

    builder: ModelBuilder
    arguments: Mapping[str, Any]
    train: Stages
    test: Stages
    classes: tuple[str, ...]
    positive: str
    epochs: int
    batch_size: int
    drop_last: bool
    test_every: Rules
    seed: int
    optimizer: Optimizer
    loss: Loss

    @property
    def multilabel(self) -> bool:
        """Whether a record may be of several classes, or of none: the loss says so."""
        return self.loss.activation == "sigmoid"

    @property
    def objective(self) -> str:
        """The metric that "best" means."""
        return objective_of(self.multilabel)

    @property
    def model_name(self) -> str:
        """The builder's name."""
        return builder_name(self.builder)
