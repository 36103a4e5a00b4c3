"""Score the test records with the best weights of a finished run: once, when a search is over."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_mlflow.executors import stop_requested
from ecg_mlflow.models.build import build_model
from ecg_mlflow.records.splits import TEST
from ecg_mlflow.reports.figures.training_plots import confusion_plot
from ecg_mlflow.study.data_plan import batch_sources
from ecg_mlflow.study.worker.run_artifacts import evaluation_columns
from ecg_mlflow.study.worker.training_run import Report
from ecg_mlflow.tracking.logged_models import fetch_network
from ecg_mlflow.tracking.retry import Patience
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.training import Evaluation, Paused, evaluate

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ecg_mlflow.records import Corpus
    from ecg_mlflow.study.worker.main import RunJob


@dataclass(frozen=True)
class ScoreJob:
    """A finished run whose test records are to be scored.

    Attributes
    ----------
    tracking_uri
        The store.
    corpus
        Folder of the packed corpus.
    run
        What was trained.
    """

    tracking_uri: str
    corpus: Path
    run: RunJob


def score(run: RunJob, client: MlflowClient, corpus: Corpus, report: Report) -> dict[str, float]:
    """Score a run's test records; log metrics and predictions into it; return the metrics.

    The metrics come last: a run that has them has all of it.

    Raises
    ------
    TrackingError
        If the run's model is not in the store, or the store fails.
    """

    def wait(waited_s: float, error: BaseException) -> None:
        report({"run": run.key, "waiting": waited_s, "for": str(error).partition("\n")[0]})
        _stop_if_asked()

    def go_on() -> None:
        report({"run": run.key})
        _stop_if_asked()

    patience = Patience(on_wait=wait)
    patient = patience.client(client)
    logged = patient.get_run(run.run_id).data.metrics
    if there := {name: one for name, one in logged.items() if name.startswith(f"{TEST}_")}:
        return there  # the process that scored it died before it could say so
    evaluation = _evaluate(run, patient, corpus, go_on)
    metrics = {f"{TEST}_{name}": value for name, value in evaluation.metrics.items()}
    title = f"best weights, {TEST} records"
    with RunLog(client, run.run_id, patience=patience) as log:
        log.table("predictions/best.csv", evaluation_columns(evaluation, corpus))
        log.figure("plots/confusion_matrix_test.png", confusion_plot(evaluation, title=title))
        log.metrics(metrics, run.n_iterations - 1, time.time_ns() // 1_000_000)
        log.flush()
    return metrics


def _evaluate(
    run: RunJob, client: MlflowClient, corpus: Corpus, go_on: Callable[[], None]
) -> Evaluation:
    from ecg_mlflow.training.step import CompiledStep

    settings = run.settings
    model = build_model(
        settings.builder, run.input_shape, len(settings.classes), settings.arguments, 0
    )
    with tempfile.TemporaryDirectory() as folder:
        model.load_weights(fetch_network(client, run.run_id, "best", Path(folder)))
    loss = settings.loss
    step = CompiledStep(model, settings.optimizer.build(), loss.build(), activation=loss.activation)
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
