"""What a training outside of a study has reached so far, and what its run ends with."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.reports.figures.training_plots import confusion_plot, learning_curve
from ecg_mlflow.stats.predictions import prediction_columns
from ecg_mlflow.stats.scores import objective_of
from ecg_mlflow.study.worker.run_artifacts import DRAWN
from ecg_mlflow.tracking.logged_models import NetworkInfo, log_model
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.trace import RunTrace, log_trace
from ecg_mlflow.training.evaluation import Evaluation

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ScoredTest:
    """One evaluation of named records, with the weights that it is of where they are known."""

    iteration: int
    evaluation: Evaluation
    names: Sequence[str]
    weights: list[npt.NDArray[Any]] | None

    def objective(self, name: str) -> dict[str, float]:
        """Return what the ``last`` or ``best`` weights have reached, by the metric's name."""
        one = self.evaluation
        return {f"{name}_test_{objective_of(one.is_multilabel)}": one.objective}


class LiveResults:
    """The losses and tests of one run so far."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}
        self.scored: dict[str, ScoredTest] = {}  # "last" and "best"
        self._tests: dict[int, dict[str, float]] = {}
        self._network: keras.Model | None = None

    def add_test(
        self,
        iteration: int,
        evaluation: Evaluation,
        names: Sequence[str],
        model: keras.Model | None,
    ) -> dict[str, float]:
        """Add an evaluation, in place of one of the same iteration; return what is new to log.

        Raises
        ------
        AutologError
            The classes are not those of the tests before.
        """
        weights = None if model is None else model.get_weights()
        now = ScoredTest(iteration, evaluation, names, weights)
        best = self.scored.setdefault("best", now)
        asked = [
            (one.evaluation.classes, one.evaluation.positive, one.evaluation.is_multilabel)
            for one in (best, now)
        ]
        if asked[0] != asked[1]:
            raise AutologError(
                "the tests of one run must ask one thing: (classes, positive, multilabel) were "
                f"{asked[0]}, now they are {asked[1]}"
            )
        self._network = model or self._network
        if evaluation.objective > best.evaluation.objective:
            best = now
        self.scored = {"last": now, "best": best}
        metrics = {f"test_{name}": value for name, value in evaluation.metrics.items()}
        metrics |= best.objective("best")
        if self._tests.get(iteration) == metrics:  # of these very weights
            return {}
        self._tests[iteration] = metrics
        return metrics

    def conclude(self, run_log: RunLog, *, models: bool) -> None:
        """Log predictions, figures, models if that is wanted, and the curves as one file."""
        for name, test in self.scored.items():
            windows = {"windows": test.evaluation.counts}
            columns = prediction_columns(test.names, test.evaluation, more=windows)
            run_log.table(f"predictions/{name}.csv", columns)
        if self.scored:
            figure = confusion_plot(self.scored["best"].evaluation, title="best test")
            run_log.figure("plots/confusion_matrix.png", figure)
        if models and self._network is not None:
            own = self._network.get_weights()
            try:
                for name, test in self.scored.items():
                    if test.weights is not None:
                        self._network.set_weights(test.weights)
                        classes, reached = test.evaluation.classes, test.objective(name)
                        log_network(run_log, name, self._network, classes, reached, test.iteration)
            finally:
                self._network.set_weights(own)
        if self.losses:
            steps, losses = list(self.losses), list(self.losses.values())
            trace = RunTrace.of([np.array(losses, np.float32)], list(self._tests.items()))
            drawn = {
                name: (trace.iterations, trace.metrics[name])
                for name in (f"test_{metric}" for metric in DRAWN)
                if name in trace.metrics
            }
            run_log.figure("plots/learning_curve.png", learning_curve(losses, drawn, steps=steps))
            if len(steps) == steps[-1] + 1:
                log_trace(run_log, trace)


def log_network(
    run_log: RunLog,
    name: str,
    model: keras.Model,
    classes: Sequence[str],
    metrics: Mapping[str, float],
    iteration: int,
) -> str | None:
    """Log a network with its present weights.

    Parameters
    ----------
    run_log
        The run that trained it.
    name
        Name of the model, such as ``last``.
    model
        A network of stock layers with one input and one output becomes an MLflow model, without
        its optimizer. Of any other kind the ``.keras`` file is kept among the run's artifacts, for
        MLflow could not load it without the code of its layers.
    classes
        Names of the classes; empty where they have none.
    metrics
        What these weights have reached.
    iteration
        The iteration that the weights are of.

    Returns
    -------
    The model's id; None where only a file was kept.
    """
    import keras

    with tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder:
        path = Path(folder, f"{name}.keras")
        if obstacle := _obstacle(model):
            log.warning(
                "the network %r is kept as models/%s.keras and not as an MLflow model: %s",
                *(model.name, name, obstacle),
            )
            try:
                model.save(path)
            except (NotImplementedError, TypeError, ValueError) as error:
                log.warning("Keras can't save the network %r: %s", model.name, error)
            else:
                run_log.client.log_artifact(run_log.run_id, str(path), "models")
            return None
        keras.Model(model.inputs[0], model.outputs[0], name=model.name).save(path)
        outputs = map(str, range(model.outputs[0].shape[-1]))
        info = NetworkInfo(tuple(model.inputs[0].shape[1:]), tuple(classes or outputs), "linear")
        of_run = run_log.client, run_log.run_id, name, path, info
        return run_log.retry.call(log_model, *of_run, metrics=metrics, step=iteration)


def _obstacle(model: keras.Model) -> str | None:
    """Say why MLflow could not load and describe a network; None if it can."""
    import keras

    is_stock = isinstance(model, keras.Sequential) or type(model).__name__ == "Functional"
    for layer in model._flatten_layers(include_self=not is_stock):
        kind = type(layer)
        if kind.__name__ == "Lambda" or not kind.__module__.startswith("keras."):
            return (
                f"{layer.name!r} is of the class {kind.__name__}, which only its own code can load"
            )
    shapes = [output.shape for output in model.outputs]
    if len(model.inputs) != 1 or len(shapes) != 1 or len(shapes[0]) != 2:
        return f"it has {len(model.inputs)} inputs and the outputs {shapes}, not (None, n_classes)"
    return None
