"""What the driver hands to a worker, and what a worker reports of its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from ecg_mlflow.records.splits import TEST, VALIDATION
from ecg_mlflow.study.plan import PlannedRun
from ecg_mlflow.study.research import Settings
from ecg_mlflow.tracking.dataset_inputs import DatasetInfo


@dataclass(frozen=True)
class RunJob:
    """Everything that one run needs, as plain data and functions.

    Attributes
    ----------
    run
        The plan of it; a checkpoint of another identity is refused.
    run_id
        The run to fill.
    datasets
        Description of each side, for MLflow.
    scores_test
        Score the test records at the end where there are validation records too. A search does so
        for the configurations that it ends with, once.
    """

    run: PlannedRun
    run_id: str
    datasets: Mapping[str, DatasetInfo] = field(default_factory=dict)
    scores_test: bool = True

    @property
    def settings(self) -> Settings:
        """What decides the training."""
        return self.run.config.settings

    @property
    def monitored(self) -> str:
        """The side that is scored while training: validation where there is one."""
        return VALIDATION if VALIDATION in self.run.config.data.sides else TEST


@dataclass(frozen=True)
class WorkerJob:
    """The runs that one process trains together, on one stream of batches, or a run to score.

    Attributes
    ----------
    tracking_uri
        The store.
    corpus
        Folder of the packed corpus, called by its digest: on another machine, its cache has it.
    runs
        One or several: they have pipelines, records, batch size, seed and repetition in common.
    save_every_s
        Longest time between two checkpoints.
    is_score
        The run, which is one, is finished: only score its test records.
    """

    tracking_uri: str
    corpus: Path
    runs: tuple[RunJob, ...]
    save_every_s: float = 60.0
    is_score: bool = False


# --- Reports --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunReport:
    """What a worker reports of the run with this key; by itself a sign of life."""

    run: str


@dataclass(frozen=True)
class Trained(RunReport):
    """So many iterations are done; the loss of the last one."""

    iteration: int
    loss: float


@dataclass(frozen=True)
class Evaluated(RunReport):
    """Evaluations as pairs of iteration and metrics, those of earlier sessions too."""

    tests: Sequence[tuple[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Saved(RunReport):
    """A checkpoint was written, after so many iterations."""

    iteration: int


@dataclass(frozen=True)
class Noted(RunReport):
    """Something that the user should know."""

    text: str


@dataclass(frozen=True)
class StoreAway(RunReport):
    """The run has waited so long for the store, which fails with this error."""

    seconds: float
    error: str


class RunEnd(Enum):
    """How a run ended in its worker."""

    DONE = "done"
    FAILED = "failed"
    PRUNED = "pruned"
    OUT_OF_MEMORY = "out of memory"
    LOST = "lost"
    """The checkpoint to resume from is missing or damaged."""
    GONE = "gone"
    """It was deleted in the store, or ended there by anybody else."""
    BUSY = "busy"
    """Another process has the run."""
    DIED = "died"
    """Its process did; the driver says so."""


@dataclass(frozen=True)
class Ended(RunReport):
    """The last report of a run.

    Attributes
    ----------
    end
        How it ended.
    reason, error
        Why, in one line and whole, unless it is done.
    metrics
        The final ones of a run that is done.
    """

    end: RunEnd
    reason: str = ""
    error: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


#: Sends plain data to the driver.
Send = Callable[[dict[str, Any]], None]
#: A report's place in what is sent.
REPORT = "report"
