"""What a run ends with: models, predictions, plots and final figures.

Each of it may be logged again by a process that takes over after a death in the middle: the
figures are computed once, kept in the checkpoint, and have one time.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.records.splits import TEST, VALIDATION
from ecg_mlflow.reports.figures.training_plots import confusion_plot, learning_curve
from ecg_mlflow.stats.predictions import prediction_columns
from ecg_mlflow.tracking.logged_models import NetworkInfo, log_model
from ecg_mlflow.tracking.trace import Trace, log_trace
from ecg_mlflow.training import Evaluation

if TYPE_CHECKING:
    import keras

    from ecg_mlflow.records import Corpus
    from ecg_mlflow.study.worker.training_run import TrainingRun

#: The metrics drawn beside the losses.
DRAWN = ("f1", "f1_macro", "accuracy")


def conclude(run: TrainingRun) -> dict[str, Any]:
    """Log what a trained run ends with; return its final metrics, its speed and its models' ids."""
    state, job = run.state, run.job
    assert state.last is not None, "the schedule always tests at the end"
    assert state.best is not None
    last, best, side = state.last, state.best, job.monitored
    if side == VALIDATION and job.scores_test:
        last, side = run.evaluate(TEST), TEST
        with _weights(run.step.model, state.best_weights):
            best = run.evaluate(TEST)
    if state.conclusion is None:
        state.conclusion = {
            "metrics": _final_metrics(run, best if side == TEST else None),
            "speed": _speed(run),
            "time_ms": time.time_ns() // 1_000_000,
        }
        run.save()
    run.burn_bridges()
    conclusion = state.conclusion
    iteration = job.n_iterations - 1
    # The test score of a study that validates is that of the weights it would choose.
    chosen = conclusion["metrics"] if job.monitored == VALIDATION else {}
    tests = {name: value for name, value in chosen.items() if name.startswith(f"{TEST}_")}
    run.log.metrics({**tests, **conclusion["speed"]}, iteration, conclusion["time_ms"])
    models = _save_models(run, conclusion["time_ms"])
    evaluations = {"last": last, "best": best} if side == TEST else {}
    if job.monitored == VALIDATION:
        # What a threshold is chosen by, and a winner.
        evaluations[f"{VALIDATION}_best"] = state.best
    _log_predictions(run, evaluations)
    _log_plots(run, best, side)
    keep_trace(run, tests)
    return {
        "metrics": conclusion["metrics"],
        "figures": {
            "loss": float(state.losses[-1][-1]),
            "trainable_parameters": run.n_parameters,
            **conclusion["speed"],
        },
        "models": models,
        "monitored": job.monitored,
    }


def _final_metrics(run: TrainingRun, tested: Evaluation | None) -> dict[str, float]:
    state, name = run.state, run.job.monitored
    assert state.last is not None
    assert state.best is not None
    final = {
        **_prefixed(name, state.last.metrics),
        f"best_{name}_{run.job.settings.objective}": state.best.objective,
    }
    if name == TEST or tested is None:
        return final
    return final | _prefixed(TEST, tested.metrics)


def _speed(run: TrainingRun) -> dict[str, float]:
    # MLflow's own prefix for figures of the machine: the UI shows them apart from the metrics.
    branch = run.branch
    return {
        "system/iterations_per_second": run.job.n_iterations / branch.seconds,
        "system/time_outside_step": 1 - branch.step_seconds / branch.seconds,
        "system/setup_seconds": run.setup_seconds,
        "system/worker_peak_memory_mb": _peak_memory_mb(),
        "system/ms_per_record": run.state.ms_per_record,
    }


def _save_models(run: TrainingRun, time_ms: int) -> dict[str, str]:
    """Log the last and the best weights as models; return their ids."""
    job, model, state = run.job, run.step.model, run.state
    settings = job.settings
    network = NetworkInfo(job.input_shape, settings.classes, settings.loss.activation)
    assert state.last is not None
    assert state.best is not None
    states = (
        ("last", model.get_weights(), state.last, job.n_iterations - 1),
        ("best", state.best_weights, state.best, state.best_iteration),
    )
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, weights, evaluation, iteration in states:
            path = Path(folder, f"{name}.keras")
            with _weights(model, weights):
                model.save(path)
            found[name] = run.log.patience.call(
                log_model,
                run.log.client,
                job.run_id,
                name,
                path,
                network,
                metrics={f"{name}_{job.monitored}_{job.settings.objective}": evaluation.objective},
                step=iteration,
                time_ms=time_ms,
                dataset=job.datasets.get(job.monitored),
            )
    return found


@contextmanager
def _weights(model: keras.Model, weights: Sequence[npt.NDArray[Any]]) -> Iterator[None]:
    """Give a model other weights for a while; a stop in between must not save them as its own."""
    own = model.get_weights()
    model.set_weights(weights)
    try:
        yield
    finally:
        model.set_weights(own)


def _log_predictions(run: TrainingRun, evaluations: Mapping[str, Evaluation]) -> None:
    for name, evaluation in evaluations.items():
        run.log.table(f"predictions/{name}.csv", evaluation_columns(evaluation, run.corpus))


def evaluation_columns(evaluation: Evaluation, corpus: Corpus) -> dict[str, Any]:
    """Return a table of predictions: one row per record, with its patient where that is known."""
    patients = corpus.patients
    return prediction_columns(
        [corpus.ids[row] for row in evaluation.rows],
        evaluation,
        patients=None if patients is None else [patients[row] for row in evaluation.rows],
        more={"windows": evaluation.counts},
    )


def _log_plots(run: TrainingRun, best: Evaluation, side: str) -> None:
    tests = {
        f"{run.job.monitored}_{name}": (
            [iteration for iteration, metrics in run.state.tests if name in metrics],
            [metrics[name] for _, metrics in run.state.tests if name in metrics],
        )
        for name in DRAWN
    }
    losses = np.concatenate(run.state.losses)
    run.log.figure("plots/learning_curve.png", learning_curve(losses, tests, first_step=0))
    title = f"best weights, {side} records"
    run.log.figure("plots/confusion_matrix.png", confusion_plot(best, title=title))


def keep_trace(run: TrainingRun, conclusion: Mapping[str, float] | None = None) -> None:
    """Log the curves of a run that ends as one file; `conclusion` is what was found at its end."""
    name, best, tests = run.job.monitored, 0.0, []
    objective = run.job.settings.objective
    for iteration, metrics in run.state.tests:
        best = max(best, metrics.get(objective, 0.0))
        tests.append((iteration, {**_prefixed(name, metrics), f"best_{name}_{objective}": best}))
    if conclusion is not None:
        assert run.state.last is not None
        last = {f"last_{name}_{objective}": run.state.last.objective}
        tests.append((run.job.n_iterations - 1, {**conclusion, **last}))
    log_trace(run.log, Trace.of(run.state.losses, tests))


def _prefixed(side: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{side}_{name}": value for name, value in metrics.items()}


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere
