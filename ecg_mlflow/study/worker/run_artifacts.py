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
from ecg_mlflow.reports.figures.training_plots import confusion_plot, learning_curve
from ecg_mlflow.stats.predictions import prediction_columns
from ecg_mlflow.tracking.logged_models import NetworkInfo, log_model
from ecg_mlflow.tracking.trace import RunTrace, log_trace
from ecg_mlflow.training.evaluation import Evaluation

if TYPE_CHECKING:
    from ecg_mlflow.records import Corpus
    from ecg_mlflow.study.worker.training_run import TrainingRun
    from ecg_mlflow.training.step import CompiledStep

#: The metrics drawn beside the losses.
DRAWN = ("f1", "f1_macro", "accuracy")


@dataclass(frozen=True)
class FinalTest:
    """Evaluations of a run's last and its best weights, on the records of one side."""

    side: str
    last: Evaluation
    best: Evaluation


def final_test(run: TrainingRun) -> FinalTest:
    """Test the last and the best weights, on the test records where those are to be scored."""
    if run.job.monitored != VALIDATION or not run.job.scores_test:
        return FinalTest(run.job.monitored, run.last, run.best)
    last = run.evaluate(TEST)
    with other_weights(run.step, run.best_weights):
        return FinalTest(TEST, last, run.evaluate(TEST))


def final_metrics(run: TrainingRun, final: FinalTest | None = None) -> dict[str, float]:
    """Return the last metrics and the best objective; at the end, those of the test records too."""
    name = run.job.monitored
    best = {f"best_{name}_{run.job.settings.objective}": run.best.objective}
    # The test score of a study that validates is that of the weights it would choose.
    chosen = final.best.metrics if final is not None and final.side != name else {}
    return {**prefixed(name, run.last.metrics), **best, **prefixed(TEST, chosen)}


def log_results(run: TrainingRun, conclusion: Mapping[str, Any], final: FinalTest) -> None:
    """Log what a trained run ends with, once its conclusion is known."""
    log, validates = run.log, run.job.monitored == VALIDATION
    # Without validation records the test metrics have been logged with the evaluations.
    chosen = conclusion["metrics"] if validates else {}
    tests = {name: value for name, value in chosen.items() if name.startswith(f"{TEST}_")}
    log.metrics({**tests, **conclusion["speed"]}, run.n_iterations - 1, conclusion["time_ms"])
    _log_models(run, conclusion["time_ms"])
    evaluations = {"last": final.last, "best": final.best} if final.side == TEST else {}
    if validates:  # what a threshold is chosen by, and a winner
        evaluations[f"{VALIDATION}_best"] = run.best
    for name, evaluation in evaluations.items():
        log.table(f"predictions/{name}.csv", evaluation_columns(evaluation, run.corpus))
    drawn = {
        f"{run.job.monitored}_{name}": (
            [iteration for iteration, metrics in run.tests if name in metrics],
            [metrics[name] for _, metrics in run.tests if name in metrics],
        )
        for name in DRAWN
    }
    losses = np.concatenate(run.losses)
    log.figure("plots/learning_curve.png", learning_curve(losses, drawn))
    title = f"best weights, {final.side} records"
    log.figure("plots/confusion_matrix.png", confusion_plot(final.best, title=title))
    log_curves(run, tests)


def _log_models(run: TrainingRun, time_ms: int) -> None:
    """Log the last and the best weights as models."""
    job, settings, step = run.job, run.job.settings, run.step
    network = NetworkInfo(
        job.run.config.data.input_shape, settings.classes, settings.loss.activation
    )
    states = (
        ("last", step.weights(), run.last, run.n_iterations - 1),
        ("best", run.best_weights, run.best, run.best_iteration),
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, weights, evaluation, iteration in states:
            path = Path(folder, f"{name}.keras")
            with other_weights(step, weights):
                step.save(path)
            run.retry.call(
                log_model,
                run.log.client,
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
def other_weights(step: CompiledStep, weights: Sequence[npt.NDArray[Any]]) -> Iterator[None]:
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
        evaluation,
        patients=None if patients is None else [patients[row] for row in evaluation.rows],
        more={"windows": evaluation.counts},
    )


def log_curves(run: TrainingRun, final: Mapping[str, float] | None = None) -> None:
    """Log the curves of a run that ends as one file; `final` are the metrics of a trained run."""
    name, objective, best, tests = run.job.monitored, run.job.settings.objective, 0.0, []
    for iteration, metrics in run.tests:
        best = max(best, metrics.get(objective, 0.0))
        tests.append((iteration, {**prefixed(name, metrics), f"best_{name}_{objective}": best}))
    if final is not None:
        last = {f"last_{name}_{objective}": run.last.objective}
        tests.append((run.n_iterations - 1, {**final, **last}))
    log_trace(run.log, RunTrace.of(run.losses, tests))


def prefixed(side: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics under the names that runs log, such as ``test_f1``."""
    return {f"{side}_{name}": value for name, value in metrics.items()}
