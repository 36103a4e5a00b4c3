"""One run while it trains: losses and evaluations as they come, models and tables at its end."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.building import build_model, weight_seed
from ecg_mlflow.data_plan import batch_sources
from ecg_mlflow.pipeline import map_ahead
from ecg_mlflow.records import Corpus
from ecg_mlflow.splits import TEST, TRAIN, VALIDATION
from ecg_mlflow.tracking import (
    NetworkInfo,
    RunLog,
    confusion_matrix,
    learning_curve,
    log_model,
)
from ecg_mlflow.training import Evaluation, TrainingLoop, evaluate

if TYPE_CHECKING:
    from ecg_mlflow.job import TrainJob

Report = Callable[[dict[str, Any]], None]

#: The metrics drawn beside the losses.
DRAWN = ("f1", "f1_macro", "accuracy")


class TrainingRun:
    """One run: the training loop's observer, and what is logged when the loop has ended.

    Parameters
    ----------
    job
        What to train.
    log
        The run's log.
    report
        Tells the driver how far the run is.
    """

    def __init__(self, job: TrainJob, log: RunLog, report: Report) -> None:
        self._job = job
        self._log = log
        self._report = report
        self._losses: list[npt.NDArray[np.float32]] = []
        self._tests: list[tuple[int, dict[str, float]]] = []
        self._last: Evaluation | None = None
        self._best: Evaluation | None = None
        self._best_iteration = 0
        self._best_weights: list[npt.NDArray[Any]] = []
        self._n_losses = 0

    def train(self) -> dict[str, Any]:
        """Train, evaluate and log; return the final metrics, the speed and the models' ids.

        Raises
        ------
        DivergedError
            If a loss turns NaN or infinite.
        """
        from ecg_mlflow.models.counting import count_parameters
        from ecg_mlflow.training.step import CompiledStep

        job, settings = self._job, self._job.settings
        started = time.perf_counter()
        corpus = open_corpus(job.corpus_path)
        self._sources = batch_sources(corpus, settings, job.sides)
        model = build_model(settings, job.input_shape, weight_seed(settings.seed, job.repetition))
        self._step = CompiledStep(model, settings.optimizer.build(), settings.loss.build())
        self._log.metrics({"trainable_parameters": count_parameters(model)}, 0)
        with map_ahead(
            lambda batch: (
                self._step.to_device(batch.windows),
                self._step.to_device(batch.targets),
            ),
            self._sources[TRAIN].stream(settings.seed, job.repetition),
        ) as batches:
            loop = TrainingLoop(self._step, batches, job.n_iterations, job.tests, self)
            setup = time.perf_counter() - started
            loop.run()
        return self._finish(corpus, loop, setup)

    # --- What the loop tells -------------------------------------------------------------------

    def losses(
        self, first_iteration: int, values: npt.NDArray[np.float32], times_ms: list[int]
    ) -> None:
        """Keep, log and report the losses of consecutive iterations."""
        self._losses.append(values)
        self._n_losses += len(values)
        self._log.losses(values, first_iteration, times_ms)
        self._report({"iteration": self._n_losses, "loss": float(values[-1])})

    def test(self, iteration: int) -> None:
        """Evaluate after this iteration, and keep the weights if they are the best so far."""
        evaluation = self._evaluate(self._job.monitored)
        self._last = evaluation
        if self._best is None or _objective(evaluation) > _objective(self._best):
            self._best, self._best_iteration = evaluation, iteration
            self._best_weights = self._step.model.get_weights()
        self._tests.append((iteration, evaluation.metrics))
        name = self._job.monitored
        best = {f"best_{name}_f1": _objective(self._best)}
        self._log.metrics({**_prefixed(name, evaluation.metrics), **best}, iteration)
        self._log.flush()
        self._report({"iteration": self._n_losses, **best})

    # --- The end -------------------------------------------------------------------------------

    def _evaluate(self, side: str) -> Evaluation:
        settings, source = self._job.settings, self._sources[side]
        epoch = source.epoch(settings.seed, self._job.repetition, 0, shuffle=False)
        return evaluate(self._step.predict, epoch, settings.classes, settings.positive)

    def _finish(self, corpus: Corpus, loop: TrainingLoop, setup: float) -> dict[str, Any]:
        job = self._job
        assert self._last is not None, "the schedule always tests at the end"
        assert self._best is not None
        last, best, iteration = self._last, self._best, job.n_iterations - 1
        models = self._save_models(last, best)
        final = {
            **_prefixed(job.monitored, last.metrics),
            f"best_{job.monitored}_f1": _objective(best),
        }
        if job.monitored == VALIDATION:
            last = self._evaluate(TEST)
            self._step.model.set_weights(self._best_weights)
            best = self._evaluate(TEST)
            # The test score of a study that validates is that of the weights it would choose.
            self._log.metrics(_prefixed(TEST, best.metrics), iteration)
            final |= _prefixed(TEST, best.metrics)
        # MLflow's own prefix for figures of the machine: the UI shows them apart from the metrics.
        speed = {
            "system/iterations_per_second": job.n_iterations / loop.seconds,
            "system/time_outside_step": 1 - loop.step_seconds / loop.seconds,
            "system/setup_seconds": setup,
            "system/worker_peak_memory_mb": _peak_memory_mb(),
        }
        self._log.metrics(speed, iteration)
        self._log_predictions(corpus, {"last": last, "best": best})
        self._log_plots(best)
        self._log.flush()
        return {"metrics": final, "speed": speed, "models": models, "monitored": job.monitored}

    def _save_models(self, last: Evaluation, best: Evaluation) -> dict[str, str]:
        """Log the last and the best weights as models; return their ids."""
        job, model = self._job, self._step.model
        network = NetworkInfo(job.input_shape, job.settings.classes)
        found: dict[str, str] = {}
        last_weights = model.get_weights()
        states = (
            ("last", last_weights, last, job.n_iterations - 1),
            ("best", self._best_weights, best, self._best_iteration),
        )
        with tempfile.TemporaryDirectory() as folder:
            for name, weights, evaluation, iteration in states:
                model.set_weights(weights)
                path = Path(folder, f"{name}.keras")
                model.save(path)
                found[name] = log_model(
                    self._log.client,
                    job.run_id,
                    name,
                    path,
                    network,
                    metrics={f"{name}_{job.monitored}_f1": _objective(evaluation)},
                    step=iteration,
                    dataset=job.datasets.get(job.monitored),
                )
        model.set_weights(last_weights)
        return found

    def _log_predictions(self, corpus: Corpus, evaluations: Mapping[str, Evaluation]) -> None:
        classes = self._job.settings.classes
        for name, evaluation in evaluations.items():
            predicted = evaluation.probabilities.argmax(axis=1)
            columns: dict[str, Any] = {
                "record": [corpus.ids[row] for row in evaluation.rows],
                "label": [classes[i] for i in evaluation.targets],
                "prediction": [classes[i] for i in predicted],
                "windows": evaluation.counts,
            }
            for i, label in enumerate(classes):
                columns[f"p_{label}"] = evaluation.probabilities[:, i]
            self._log.table(f"predictions/{name}.csv", columns)

    def _log_plots(self, best: Evaluation) -> None:
        tests = {
            f"{self._job.monitored}_{name}": (
                [iteration for iteration, metrics in self._tests if name in metrics],
                [metrics[name] for _, metrics in self._tests if name in metrics],
            )
            for name in DRAWN
        }
        losses = np.concatenate(self._losses)
        self._log.figure("plots/learning_curve.png", learning_curve(losses, tests, first_step=0))
        matrix = confusion_matrix(best.confusion, best.classes, title="best weights, test records")
        self._log.figure("plots/confusion_matrix.png", matrix)


def _objective(evaluation: Evaluation) -> float:
    """What "best" means: the F1 of the positive class; 0 where nothing was found or to be found."""
    return evaluation.metrics.get("f1", 0.0)


def _prefixed(side: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{side}_{name}": value for name, value in metrics.items()}


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


@lru_cache(maxsize=2)
def open_corpus(path: Path) -> Corpus:
    """Open a packed corpus; a warm worker keeps it open for its next runs."""
    return Corpus.open(path)
