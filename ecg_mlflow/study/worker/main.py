"""The functions that workers execute: `work` for runs, `probe` for a plan.

The driver opens runs and closes them; the worker fills them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cloudpickle

from ecg_mlflow.errors import CheckpointError, StorageFullError, TrackingError
from ecg_mlflow.executors import received, shielded, stop_requested
from ecg_mlflow.models.build import build_model
from ecg_mlflow.pipeline import BatchSource, map_ahead
from ecg_mlflow.records import Corpus, packed_path
from ecg_mlflow.records.splits import TRAIN
from ecg_mlflow.study.data_plan import batch_sources
from ecg_mlflow.study.jobs import RunEnd, ScoreJob, Send, TrainJob, described, is_out_of_memory
from ecg_mlflow.study.worker.score_test_records import score
from ecg_mlflow.study.worker.training_run import TrainingRun
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.training import Paused, TrainingLoop

if TYPE_CHECKING:
    from mlflow import MlflowClient


@lru_cache(maxsize=1)
def _client(uri: str) -> MlflowClient:
    return connect(uri)


@lru_cache(maxsize=2)
def _open_corpus(path: Path) -> Corpus:
    """Open a packed corpus; a warm worker keeps it open for its next runs."""
    return Corpus.open(path)


def work(payload: bytes, send: Send) -> dict[str, float] | None:
    """Do a `TrainJob` or a `ScoreJob`.

    How each run of the first ends is reported, not returned; the second returns metrics. A request
    to stop is answered when the iteration is done and the runs are saved.
    """
    job: TrainJob | ScoreJob = cloudpickle.loads(payload)
    with shielded(), suppress(Paused), ExitStack() as resources:
        if isinstance(job, ScoreJob):
            return score(job.run, _client(job.tracking_uri), _corpus(job), send)
        _train(job, send, resources)
    return None


def _corpus(job: TrainJob | ScoreJob) -> Corpus:
    """Open the corpus, from where the driver has it or from this machine's cache."""
    return _open_corpus(job.corpus if job.corpus.exists() else packed_path(job.corpus.name))


def _train(job: TrainJob, send: Send, resources: ExitStack) -> None:
    runs = [TrainingRun(one, send) for one in job.runs]
    client = runs[0].retry.call(_client, job.tracking_uri)
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
        run.report_end(RunEnd.BUSY, described(error))
    except CheckpointError as error:
        run.report_end(RunEnd.LOST, described(error))
    except Exception as error:  # noqa: BLE001 - a user's model may raise any
        end = RunEnd.OUT_OF_MEMORY if is_out_of_memory(error) else RunEnd.FAILED
        run.report_end(end, described(error))
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
    """Return whether the job is to stop; withdraw the runs that the driver has given up."""
    for message in received():
        for run in runs:
            if run.job.key == message["prune"]:
                run.branch.withdrawn = message["reason"]
    return stop_requested()


def probe(payload: bytes, send: Send) -> list[tuple[int, int] | str]:
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
