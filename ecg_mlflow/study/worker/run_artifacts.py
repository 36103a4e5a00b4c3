"""What a run ends with: models, predictions, plots and final figures.

Each of it may be logged again by a process that takes over after a death in the middle: the
figures are computed once, kept in the checkpoint, and have one time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.records.splits import TEST, VALIDATION
from ecg_mlflow.reports.figures.training_plots import class_counts, confusion_matrix, learning_curve
from ecg_mlflow.stats.predictions import prediction_columns
from ecg_mlflow.study.worker.run_state import RunState
from ecg_mlflow.tracking.logged_models import NetworkInfo, log_model
from ecg_mlflow.tracking.trace import RunTrace, log_trace
from ecg_mlflow.training import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecg_mlflow.records import Corpus
    from ecg_mlflow.study.jobs import RunJob
    from ecg_mlflow.study.step_factory import RunStep
    from ecg_mlflow.tracking.run_log import RunLog

#: The metrics drawn beside the losses.
DRAWN = ("f1", "f1_macro", "accuracy")


@dataclass(frozen=True)
class FinalTest:
    """Evaluations of a run's last and its best weights, on the records of one side."""

    side: str
    last: Evaluation
    best: Evaluation


def final_metrics(job: RunJob, state: RunState, final: FinalTest) -> dict[str, float]:
    """Return the last metrics, the best objective and, of the test records, the best weights'."""
    assert state.last is not None
    assert state.best is not None
    metrics = {
        **_prefixed(job.monitored, state.last.metrics),
        f"best_{job.monitored}_{job.settings.objective}": state.best.objective,
    }
    # The test score of a study that validates is that of the weights it would choose.
    is_chosen = job.monitored == VALIDATION and final.side == TEST
    return metrics | (_prefixed(TEST, final.best.metrics) if is_chosen else {})


def log_results(
    log: RunLog, job: RunJob, state: RunState, step: RunStep, corpus: Corpus, final: FinalTest
) -> None:
    """Log what a trained run ends with, once its conclusion is known."""
    conclusion = state.conclusion
    assert conclusion is not None
    # Without validation records the test metrics have been logged with the evaluations.
    chosen = conclusion["metrics"] if job.monitored == VALIDATION else {}
    tests = {name: value for name, value in chosen.items() if name.startswith(f"{TEST}_")}
    metrics = {**tests, **conclusion["speed"]}
    log.metrics(metrics, job.n_iterations - 1, conclusion["time_ms"])
    _log_models(log, job, state, step, conclusion["time_ms"])
    evaluations = {"last": final.last, "best": final.best} if final.side == TEST else {}
    if job.monitored == VALIDATION:
        # What a threshold is chosen by, and a winner.
        assert state.best is not None
        evaluations[f"{VALIDATION}_best"] = state.best
    for name, evaluation in evaluations.items():
        log.table(f"predictions/{name}.csv", evaluation_columns(evaluation, corpus))
    _log_plots(log, job, state, final)
    log_curves(log, job, state, tests)


def _log_models(log: RunLog, job: RunJob, state: RunState, step: RunStep, time_ms: int) -> None:
    """Log the last and the best weights as models."""
    settings = job.settings
    network = NetworkInfo(job.input_shape, settings.classes, settings.loss.activation)
    assert state.last is not None
    assert state.best is not None
    states = (
        ("last", step.weights(), state.last, job.n_iterations - 1),
        ("best", state.best_weights, state.best, state.best_iteration),
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, weights, evaluation, iteration in states:
            path = Path(folder, f"{name}.keras")
            with other_weights(step, weights):
                step.save(path)
            log.retry.call(
                log_model,
                log.client,
                job.run_id,
                name,
                path,
                network,
                metrics={f"{name}_{job.monitored}_{settings.objective}": evaluation.objective},
                step=iteration,
                time_ms=time_ms,
                dataset=job.datasets.get(job.monitored),
            )


@contextmanager
def other_weights(step: RunStep, weights: Sequence[npt.NDArray[Any]]) -> Iterator[None]:
    """Give a model other weights for a while; a stop in between must not save them as its own."""
    own = step.weights()
    step.set_weights(weights)
    try:
        yield
    finally:
        step.set_weights(own)


def evaluation_columns(evaluation: Evaluation, corpus: Corpus) -> dict[str, Any]:
    """Return a table of predictions: one row per record, with its patient where that is known."""
    patients = corpus.patients
    return prediction_columns(
        [corpus.ids[row] for row in evaluation.rows],
        evaluation.labels,
        evaluation.predicted_labels,
        evaluation.probabilities,
        evaluation.classes,
        patients=None if patients is None else [patients[row] for row in evaluation.rows],
        more={"windows": evaluation.counts},
    )


def _log_plots(log: RunLog, job: RunJob, state: RunState, final: FinalTest) -> None:
    tests = {
        f"{job.monitored}_{name}": (
            [iteration for iteration, metrics in state.tests if name in metrics],
            [metrics[name] for _, metrics in state.tests if name in metrics],
        )
        for name in DRAWN
    }
    losses = np.concatenate(state.losses)
    log.figure("plots/learning_curve.png", learning_curve(losses, tests, first_step=0))
    title = f"best weights, {final.side} records"
    log.figure("plots/confusion_matrix.png", draw_confusion(final.best, title))


def draw_confusion(evaluation: Evaluation, title: str) -> Figure:
    """Draw the confusion matrix or, of several classes a record, each class by itself."""
    if evaluation.is_multilabel:
        return class_counts(
            evaluation.targets, evaluation.predicted, evaluation.classes, title=title
        )
    return confusion_matrix(evaluation.confusion, evaluation.classes, title=title)


def log_curves(
    log: RunLog, job: RunJob, state: RunState, final: Mapping[str, float] | None = None
) -> None:
    """Log the curves of a run that ends as one file; `final` are the metrics of a trained run."""
    name, objective, best, tests = job.monitored, job.settings.objective, 0.0, []
    for iteration, metrics in state.tests:
        best = max(best, metrics.get(objective, 0.0))
        tests.append((iteration, {**_prefixed(name, metrics), f"best_{name}_{objective}": best}))
    if final is not None:
        assert state.last is not None
        last = {f"last_{name}_{objective}": state.last.objective}
        tests.append((job.n_iterations - 1, {**final, **last}))
    log_trace(log, RunTrace.of(state.losses, tests))


def _prefixed(side: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{side}_{name}": value for name, value in metrics.items()}
