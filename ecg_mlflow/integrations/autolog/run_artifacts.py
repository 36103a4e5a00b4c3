"""What a training outside of a study has reached so far, and what its run ends with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.labelled_records import LabelledRecords
from ecg_mlflow.integrations.autolog.network import OutputActivation, log_network
from ecg_mlflow.reports.figures.training_plots import confusion_plot, learning_curve
from ecg_mlflow.stats.scores import objective_of
from ecg_mlflow.study.worker.run_artifacts import DRAWN
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.trace import RunTrace, log_trace
from ecg_mlflow.training import Evaluation

if TYPE_CHECKING:
    import keras

Weights = list[npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ScoredTest:
    """One evaluation, with the weights that it is of where they are known."""

    iteration: int
    evaluation: Evaluation
    records: LabelledRecords
    weights: Weights | None

    def objective(self, model_name: str) -> dict[str, float]:
        """Return what a model of these weights has reached, by the name of its metric."""
        one = self.evaluation
        return {f"{model_name}_test_{objective_of(one.is_multilabel)}": one.objective}


class LiveResults:
    """The losses and tests of one run so far."""

    def __init__(self) -> None:
        self.last: ScoredTest | None = None
        self.best: ScoredTest | None = None
        self._iterations: list[int] = []
        self._losses: list[float] = []
        self._tests: dict[int, dict[str, float]] = {}
        self._network: tuple[keras.Model, OutputActivation | None] | None = None

    @property
    def network_names(self) -> tuple[str, ...]:
        """Models that the end of the run will log."""
        return ("last", "best") if self._network else ()

    def add_losses(self, iterations: Sequence[int], losses: Sequence[float]) -> None:
        """Add losses; the iterations grow."""
        self._iterations += iterations
        self._losses += losses

    def add_test(
        self,
        iteration: int,
        evaluation: Evaluation,
        records: LabelledRecords,
        model: keras.Model | None,
        output: OutputActivation | None,
    ) -> dict[str, float]:
        """Add an evaluation, in place of one of the same iteration; return the metrics to log.

        Raises
        ------
        AutologError
            The classes are not those of the tests before.
        """
        now = evaluation.classes, evaluation.positive, evaluation.is_multilabel
        if self.last:
            one = self.last.evaluation
            before = one.classes, one.positive, one.is_multilabel
            if before != now:
                raise AutologError(
                    f"the tests of one run must ask one thing: before, (classes, positive, "
                    f"multilabel) were {before}, now they are {now}"
                )
        weights = None if model is None else model.get_weights()
        if model is not None:
            self._network = model, output
        self.last = ScoredTest(iteration, evaluation, records, weights)
        if self.best is None or evaluation.objective > self.best.evaluation.objective:
            self.best = self.last
        metrics = {f"test_{name}": value for name, value in evaluation.metrics.items()}
        self._tests[iteration] = metrics | self.best.objective("best")
        return self._tests[iteration]

    def conclude(self, log: RunLog, *, models: bool) -> None:
        """Log predictions, figures, models if that is wanted, and the curves as one file."""
        for name, test in (("last", self.last), ("best", self.best)):
            if test:
                log.table(f"predictions/{name}.csv", test.records.columns(test.evaluation))
        if self.best:
            figure = confusion_plot(self.best.evaluation, title="best test")
            log.figure("plots/confusion_matrix.png", figure)
        if models:
            self._log_models(log)
        if self._losses:
            self._log_curves(log)

    def _log_models(self, log: RunLog) -> None:
        if self._network is None:
            return
        model, output = self._network
        for name, test in (("last", self.last), ("best", self.best)):
            if test is None or test.weights is None:
                continue
            classes, metrics = test.evaluation.classes, test.objective(name)
            with _weights_of(model, test.weights):
                log_network(log, name, model, output, classes, metrics, test.iteration)

    def _log_curves(self, log: RunLog) -> None:
        drawn = {}
        for name in (f"test_{metric}" for metric in DRAWN):
            points = [(at, found[name]) for at, found in self._tests.items() if name in found]
            if points:
                iterations, values = zip(*points, strict=True)
                drawn[name] = (iterations, values)
        steps = np.array(self._iterations)
        log.figure("plots/learning_curve.png", learning_curve(self._losses, drawn, steps=steps))
        if len(steps) == steps[-1] + 1:
            losses = np.array(self._losses, np.float32)
            log_trace(log, RunTrace.of([losses], list(self._tests.items())))


@contextmanager
def _weights_of(model: keras.Model, weights: Weights) -> Iterator[None]:
    """Give a network other weights for a while."""
    own = model.get_weights()
    model.set_weights(weights)
    try:
        yield
    finally:
        model.set_weights(own)
