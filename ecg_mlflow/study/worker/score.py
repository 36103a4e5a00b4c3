"""Score the test records with the best weights of a finished run: once, when a search is over."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_mlflow.records.splits import TEST
from ecg_mlflow.reports.figures.training_plots import confusion_plot
from ecg_mlflow.study.data_plan import batch_sources
from ecg_mlflow.study.jobs import RunJob, Send
from ecg_mlflow.study.step_factory import make_step
from ecg_mlflow.study.worker.run_artifacts import evaluation_columns, prefixed
from ecg_mlflow.study.worker.training_run import TrainingRun
from ecg_mlflow.tracking.logged_models import fetch_network
from ecg_mlflow.tracking.run_log import RunLog

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ecg_mlflow.records import Corpus


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
