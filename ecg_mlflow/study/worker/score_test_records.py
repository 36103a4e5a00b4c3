"""Score the test records with the best weights of a finished run: once, when a search is over."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_mlflow.executors import stop_requested
from ecg_mlflow.records.splits import TEST
from ecg_mlflow.reports.figures.training_plots import confusion_plot
from ecg_mlflow.study.data_plan import batch_sources
from ecg_mlflow.study.jobs import REPORT, RunJob, RunReport, Send, StoreAway
from ecg_mlflow.study.step_factory import make_step
from ecg_mlflow.study.worker.run_artifacts import evaluation_columns
from ecg_mlflow.tracking.logged_models import fetch_network
from ecg_mlflow.tracking.retry import RetryPolicy
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.training import Evaluation, Paused, evaluate

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ecg_mlflow.records import Corpus


def score(run: RunJob, client: MlflowClient, corpus: Corpus, send: Send) -> dict[str, float]:
    """Score a run's test records; log metrics and predictions into it; return the metrics.

    The metrics come last: a run that has them has all of it.

    Raises
    ------
    TrackingError
        If the run's model is not in the store, or the store fails.
    """

    def wait(waited_s: float, error: BaseException) -> None:
        send({REPORT: StoreAway(run.key, waited_s, str(error).partition("\n")[0])})
        _stop_if_asked()

    def go_on() -> None:
        send({REPORT: RunReport(run.key)})
        _stop_if_asked()

    retry = RetryPolicy(on_wait=wait)
    retrying = retry.client(client)
    logged = retrying.get_run(run.run_id).data.metrics
    if there := {name: one for name, one in logged.items() if name.startswith(f"{TEST}_")}:
        return there  # the process that scored it died before it could say so
    evaluation = _evaluate(run, retrying, corpus, go_on)
    metrics = {f"{TEST}_{name}": value for name, value in evaluation.metrics.items()}
    title = f"best weights, {TEST} records"
    with RunLog(client, run.run_id, retry=retry) as log:
        log.table("predictions/best.csv", evaluation_columns(evaluation, corpus))
        log.figure("plots/confusion_matrix_test.png", confusion_plot(evaluation, title=title))
        log.metrics(metrics, run.n_iterations - 1, time.time_ns() // 1_000_000)
        log.flush()
    return metrics


def _evaluate(
    run: RunJob, client: MlflowClient, corpus: Corpus, go_on: Callable[[], None]
) -> Evaluation:
    settings = run.settings
    step = make_step(settings, run.input_shape, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        step.load_weights(fetch_network(client, run.run_id, "best", Path(folder)))
    source = batch_sources(corpus, settings, {TEST: run.sides[TEST]})[TEST]
    epoch = source.epoch(settings.seed, run.repetition, 0, shuffle=False)
    return evaluate(
        step.predict,
        epoch,
        settings.classes,
        settings.positive,
        go_on,
        multilabel=settings.multilabel,
    )


def _stop_if_asked() -> None:
    if stop_requested():
        raise Paused
