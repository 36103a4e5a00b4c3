"""What a training outside of a study has reached so far, and what its run ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.network import log_network
from ecg_mlflow.reports.figures.training_plots import confusion_plot, learning_curve
from ecg_mlflow.stats.predictions import prediction_columns
from ecg_mlflow.stats.scores import objective_of
from ecg_mlflow.study.worker.run_artifacts import DRAWN
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.trace import RunTrace, log_trace
from ecg_mlflow.training import Evaluation

if TYPE_CHECKING:
    import keras


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

    def conclude(self, log: RunLog, *, models: bool) -> None:
        """Log predictions, figures, models if that is wanted, and the curves as one file."""
        for name, test in self.scored.items():
            columns = prediction_columns(
                test.names, test.evaluation, more={"windows": test.evaluation.counts}
            )
            log.table(f"predictions/{name}.csv", columns)
        if self.scored:
            figure = confusion_plot(self.scored["best"].evaluation, title="best test")
            log.figure("plots/confusion_matrix.png", figure)
        if models and self._network is not None:
            self._log_models(log, self._network)
        if self.losses:
            steps, losses = list(self.losses), list(self.losses.values())
            trace = RunTrace.of([np.array(losses, np.float32)], list(self._tests.items()))
            drawn = {
                name: (trace.iterations, trace.metrics[name])
                for name in (f"test_{metric}" for metric in DRAWN)
                if name in trace.metrics
            }
            log.figure("plots/learning_curve.png", learning_curve(losses, drawn, steps=steps))
            if len(steps) == steps[-1] + 1:
                log_trace(log, trace)

    def _log_models(self, log: RunLog, model: keras.Model) -> None:
        own = model.get_weights()
        try:
            for name, test in self.scored.items():
                if test.weights is not None:
                    model.set_weights(test.weights)
                    classes, reached = test.evaluation.classes, test.objective(name)
                    log_network(log, name, model, classes, reached, test.iteration)
        finally:
            model.set_weights(own)
