"""What workers execute: ``ecg_mlflow.job:train`` for a run, ``ecg_mlflow.job:probe`` for a plan.

The driver opens the run and closes it; the worker fills it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from ecg_mlflow.building import build_model
from ecg_mlflow.pipeline import Selection
from ecg_mlflow.schedule import Schedule
from ecg_mlflow.settings import Settings
from ecg_mlflow.splits import TEST, VALIDATION
from ecg_mlflow.tracking import DatasetInfo, RunLog, connect
from ecg_mlflow.training_run import Report, TrainingRun

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class TrainJob:
    """Everything that one run needs, as plain data and functions.

    Attributes
    ----------
    run_id, tracking_uri
        The run to fill.
    corpus_path
        Folder of the packed corpus.
    settings, sides
        From the configuration's plan.
    input_shape
        ``(length, n_leads)``.
    repetition
        Which one.
    n_iterations, tests
        How long, and when to evaluate.
    datasets
        Description of each side, for MLflow.
    """

    run_id: str
    tracking_uri: str
    corpus_path: Path
    settings: Settings
    sides: Mapping[str, Selection]
    input_shape: tuple[int, int]
    repetition: int
    n_iterations: int
    tests: Schedule
    datasets: Mapping[str, DatasetInfo] = field(default_factory=dict)

    @property
    def monitored(self) -> str:
        """The side that is scored while training: validation where there is one."""
        return VALIDATION if VALIDATION in self.sides else TEST


@lru_cache(maxsize=1)
def _client(uri: str) -> MlflowClient:
    return connect(uri)


def train(payload: bytes, report: Report) -> dict[str, Any]:
    """Train one configuration once; return its final metrics and how fast it was."""
    job: TrainJob = cloudpickle.loads(payload)
    with RunLog(_client(job.tracking_uri), job.run_id) as log:
        return TrainingRun(job, log, report).train()


def probe(payload: bytes, report: Report) -> list[tuple[int, int] | str]:
    """Build models that can't describe themselves; return parameters and multiply-adds, or why not.

    The payload holds ``(settings, input_shape)`` pairs.
    """
    found: list[tuple[int, int] | str] = []
    for settings, input_shape in cloudpickle.loads(payload):
        try:
            model = build_model(settings, input_shape, seed=0)
        except Exception as error:  # noqa: BLE001 - a user's function; the plan says what it was
            found.append(f"{type(error).__name__}: {error}")
        else:
            from ecg_mlflow.models.counting import count_multiply_adds, count_parameters

            found.append((count_parameters(model), count_multiply_adds(model)))
    return found
