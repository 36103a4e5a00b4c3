"""The functions that workers execute: `work` trains or scores runs, `probe` helps a plan.

The driver opens runs and closes them; the worker fills them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path

import cloudpickle
from mlflow import MlflowClient

from ecg_mlflow.errors import RunGoneError, StorageError, TrackingError
from ecg_mlflow.executors.execution import received, shielded, stop_requested
from ecg_mlflow.models.build import build_model, count_multiply_adds, count_parameters
from ecg_mlflow.pipeline import BatchSource, prefetched
from ecg_mlflow.records import Corpus, packed_path
from ecg_mlflow.records.splits import TEST, TRAIN
from ecg_mlflow.reports.figures.training_plots import confusion_plot
from ecg_mlflow.study.data_plan import batch_sources
from ecg_mlflow.study.jobs import RunJob, Send, WorkerJob
from ecg_mlflow.study.step_factory import make_step
from ecg_mlflow.study.worker.run_artifacts import evaluation_columns, prefixed
from ecg_mlflow.study.worker.training_run import TrainingRun
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.logged_models import fetch_network
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.training.loop import Paused, TrainingLoop

#: A warm worker keeps them open for its next runs.
_client = lru_cache(maxsize=1)(connect)
_open_corpus = lru_cache(maxsize=2)(Corpus.open)


def work(payload: bytes, send: Send) -> dict[str, float] | None:
    """Do a `WorkerJob`.

    How each run ends that is trained is reported, not returned; scoring returns metrics. A request
    to stop is answered when the iteration is done and the runs are saved.
    """
    job: WorkerJob = cloudpickle.loads(payload)
    with shielded(), suppress(Paused), ExitStack() as resources:
        if job.is_score:
            return score(job.runs[0], _client(job.tracking_uri), _corpus(job), send)
        _train(job, send, resources)
    return None


def _corpus(job: WorkerJob) -> Corpus:
    """Open the corpus, from where the driver has checked it or from this machine's cache."""
    is_there = job.corpus.exists()
    path = job.corpus if is_there else packed_path(job.corpus.name)
    return _open_corpus(path, check=not is_there)


def _train(job: WorkerJob, send: Send, resources: ExitStack) -> None:
    """Open each run of a job, and train those that can be opened; the others are reported."""
    runs = [TrainingRun(one, send) for one in job.runs]
    client = runs[0].retry.call(_client, job.tracking_uri)
    corpus = _corpus(job)
    first = job.runs[0]
    sources = batch_sources(corpus, first.settings, first.run.config.data.sides)
    opened = []
    for run in runs:
        try:
            resources.enter_context(run)
            if run.open(client, corpus, sources):
                opened.append(run)
        except RunGoneError as error:
            run.report_error(error)
        except (Paused, StorageError, TrackingError):
            raise
        except Exception as error:  # noqa: BLE001 - a user's model may raise any
            run.report_error(error)
    if opened:
        _train_together(opened, sources[TRAIN], job.save_every_s)


def _train_together(runs: Sequence[TrainingRun], source: BatchSource, save_every_s: float) -> None:
    step = runs[0].step.join([run.step for run in runs])
    job, begin = runs[0].job, min(run.iteration for run in runs)
    stream = source.stream(job.settings.seed, job.run.repetition, begin)
    on_device = ((step.to_device(one.windows), step.to_device(one.targets)) for one in stream)
    with prefetched(on_device) as batches:
        loop = TrainingLoop(step, runs, batches, save_every_s)
        for run in runs:
            run.setup_seconds = time.perf_counter() - run.started
        try:
            finished = loop.run(lambda: _should_stop(runs))
        except (StorageError, TrackingError):
            raise
        except Exception as error:
            if len(runs) > 1:  # whose fault it was shows when the driver tries each alone
                raise
            runs[0].fail(error)
            return
    if not finished:  # deliver what the last checkpoints cover, for as long as the driver gives
        for run in runs:
            if not run.is_over:
                run.guard(run.log.flush)


def _should_stop(runs: Sequence[TrainingRun]) -> bool:
    """Return whether the job is to stop; withdraw the runs that the driver has given up."""
    for message in received():
        for run in runs:
            if run.key == message["prune"]:
                run.withdrawn = message["reason"]
    return stop_requested()


def score(job: RunJob, client: MlflowClient, corpus: Corpus, send: Send) -> dict[str, float]:
    """Score a run's test records; log metrics and predictions into it; return the metrics.

    The metrics come last: a run that has them has all of it.

    Raises
    ------
    TrackingError
        If the run's model is not in the store, or the store fails.
    """
    run = TrainingRun(job, send)
    retrying = run.retry.client(client)
    logged = retrying.get_run(job.run_id).data.metrics
    if there := {name: one for name, one in logged.items() if name.startswith(f"{TEST}_")}:
        return there  # the process that scored it died before it could say so
    run.step = make_step(job.settings, job.run.config.data.input_shape, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        run.step.load_weights(fetch_network(retrying, job.run_id, "best", Path(folder)))
    run.sources = batch_sources(corpus, job.settings, {TEST: job.run.config.data.sides[TEST]})
    evaluation = run.evaluate(TEST)
    metrics = prefixed(TEST, evaluation.metrics)
    title = f"best weights, {TEST} records"
    with RunLog(client, job.run_id, retry=run.retry) as log:
        log.table("predictions/best.csv", evaluation_columns(evaluation, corpus))
        log.figure("plots/confusion_matrix_test.png", confusion_plot(evaluation, title=title))
        log.metrics(metrics, job.run.config.n_iterations - 1, time.time_ns() // 1_000_000)
        log.flush()
    return metrics


def probe(payload: bytes, send: Send) -> list[tuple[int, int] | str]:
    """Build models that can't describe themselves; return parameters and multiply-adds, or why not.

    The payload holds ``(settings, input_shape)`` pairs.
    """
    found: list[tuple[int, int] | str] = []
    for settings, shape in cloudpickle.loads(payload):
        n_classes = len(settings.classes)
        try:
            model = build_model(settings.builder, shape, n_classes, settings.arguments, seed=0)
            found.append((count_parameters(model), count_multiply_adds(model)))
        except Exception as error:  # noqa: BLE001 - a user's function; the plan says what it was
            found.append(f"{type(error).__name__}: {error}")
    return found
