"""What workers execute: `work` for runs, `probe` for a plan.

The driver opens runs and closes them; the worker fills them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cloudpickle

from ecg_mlflow.errors import CheckpointError, StorageFullError, TrackingError
from ecg_mlflow.executors import received, shielded, stop_requested
from ecg_mlflow.models.build import build_model
from ecg_mlflow.pipeline import BatchSource, Selection, map_ahead
from ecg_mlflow.records import Corpus, packed_path
from ecg_mlflow.records.splits import TEST, TRAIN, VALIDATION
from ecg_mlflow.study.data_plan import batch_sources
from ecg_mlflow.study.settings import Settings
from ecg_mlflow.study.worker.score_test_records import ScoreJob, score
from ecg_mlflow.study.worker.training_run import Report, TrainingRun, described, is_out_of_memory
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.datasets import DatasetInfo
from ecg_mlflow.training import Paused, TrainingLoop
from ecg_mlflow.training.schedule import Schedule

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class RunJob:
    """Everything that one run needs, as plain data and functions.

    Attributes
    ----------
    key
        Names the run in reports.
    run_id
        The run to fill.
    identity
        Of the run, as in the plan: a checkpoint of another one is not gone on from.
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
    scores_test
        Score the test records at the end where there are validation records too. A search does so
        for the configurations that it ends with, once.
    """

    key: str
    run_id: str
    identity: str
    settings: Settings
    sides: Mapping[str, Selection]
    input_shape: tuple[int, int]
    repetition: int
    n_iterations: int
    tests: Schedule
    datasets: Mapping[str, DatasetInfo] = field(default_factory=dict)
    scores_test: bool = True

    @property
    def monitored(self) -> str:
        """The side that is scored while training: validation where there is one."""
        return VALIDATION if VALIDATION in self.sides else TEST


@dataclass(frozen=True)
class TrainJob:
    """The runs that one process trains together, on one stream of batches.

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
    """

    tracking_uri: str
    corpus: Path
    runs: tuple[RunJob, ...]
    save_every_s: float = 60.0


@lru_cache(maxsize=1)
def _client(uri: str) -> MlflowClient:
    return connect(uri)


@lru_cache(maxsize=2)
def _open_corpus(path: Path) -> Corpus:
    """Open a packed corpus; a warm worker keeps it open for its next runs."""
    return Corpus.open(path)


def work(payload: bytes, report: Report) -> dict[str, float] | None:
    """Do a `TrainJob` or a `ScoreJob`.

    How each run of the first ends is reported, not returned; the second returns metrics. A request
    to stop is answered when the iteration is done and the runs are saved.
    """
    job: TrainJob | ScoreJob = cloudpickle.loads(payload)
    with shielded(), suppress(Paused), ExitStack() as resources:
        if isinstance(job, ScoreJob):
            return score(job.run, _client(job.tracking_uri), _corpus(job), report)
        _train(job, report, resources)
    return None


def _corpus(job: TrainJob | ScoreJob) -> Corpus:
    """Open the corpus, from where the driver has it or from this machine's cache."""
    return _open_corpus(job.corpus if job.corpus.exists() else packed_path(job.corpus.name))


def _train(job: TrainJob, report: Report, resources: ExitStack) -> None:
    runs = [TrainingRun(one, report) for one in job.runs]
    client = runs[0].patience.call(_client, job.tracking_uri)
    corpus = _corpus(job)
    first = job.runs[0]
    sources = batch_sources(corpus, first.settings, first.sides)
    opened = [run for run in runs if _open(run, client, corpus, sources, resources)]
    if opened:
        _train_together(opened, sources[TRAIN], job.save_every_s)


def _open(
    run: TrainingRun,
    client: MlflowClient,
    corpus: Corpus,
    sources: Mapping[str, BatchSource],
    resources: ExitStack,
) -> bool:
    """Open one run of a job, and say whether it is to be trained.

    One that can't be opened is reported, and leaves the others.
    """
    try:
        resources.enter_context(run)
        return run.open(client, corpus, sources)
    except (Paused, StorageFullError, TrackingError):
        raise
    except TimeoutError as error:
        run.report({"ended": "busy", **described(error)})
    except CheckpointError as error:
        run.report({"ended": "lost", **described(error)})
    except Exception as error:  # noqa: BLE001 - a user's model may raise any
        ended = "memory" if is_out_of_memory(error) else "failed"
        run.report({"ended": ended, **described(error)})
    return False


def _train_together(runs: Sequence[TrainingRun], source: BatchSource, save_every_s: float) -> None:
    step = runs[0].step.join([run.step for run in runs])
    branches = [run.branch for run in runs]
    job, begin = runs[0].job, min(branch.iteration for branch in branches)
    with map_ahead(
        lambda batch: (step.to_device(batch.windows), step.to_device(batch.targets)),
        source.stream(job.settings.seed, job.repetition, begin),
    ) as batches:
        loop = TrainingLoop(step, branches, batches, save_every_s)
        for run in runs:
            run.setup_seconds = run.age
        try:
            finished = loop.run(lambda: _should_stop(runs))
        except (StorageFullError, TrackingError):
            raise
        except Exception as error:
            if len(runs) > 1:  # whose fault it was shows when the driver tries each alone
                raise
            runs[0].fail(error)
            return
    if not finished:
        for run in runs:
            if not run.branch.is_over:
                run.pause()


def _should_stop(runs: Sequence[TrainingRun]) -> bool:
    """Say whether the job is to stop; withdraw the runs that the driver has given up."""
    for letter in received():
        for run in runs:
            if run.job.key == letter["prune"]:
                run.branch.withdrawn = letter["reason"]
    return stop_requested()


def probe(payload: bytes, report: Report) -> list[tuple[int, int] | str]:
    """Build models that can't describe themselves; return parameters and multiply-adds, or why not.

    The payload holds ``(settings, input_shape)`` pairs.
    """
    found: list[tuple[int, int] | str] = []
    for settings, input_shape in cloudpickle.loads(payload):
        try:
            model = build_model(
                settings.builder, input_shape, len(settings.classes), settings.arguments, seed=0
            )
        except Exception as error:  # noqa: BLE001 - a user's function; the plan says what it was
            found.append(f"{type(error).__name__}: {error}")
        else:
            from ecg_mlflow.models.build import count_multiply_adds, count_parameters

            found.append((count_parameters(model), count_multiply_adds(model)))
    return found
