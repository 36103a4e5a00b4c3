"""What a training of the user's own has reached so far, and what its run ends with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.labelled_records import LabelledRecords
from ecg_mlflow.integrations.autolog.network import Head
from ecg_mlflow.integrations.autolog.saving import save_network
from ecg_mlflow.reports.figures.training_plots import confusion_plot, learning_curve
from ecg_mlflow.stats.scores import objective_of
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.trace import Trace, log_trace
from ecg_mlflow.training import Evaluation

if TYPE_CHECKING:
    import keras

Weights = list[npt.NDArray[Any]]

#: The metrics drawn beside the losses.
DRAWN = ("f1", "f1_macro", "accuracy")


@dataclass(frozen=True, eq=False)
class Tested:
    """One evaluation, with the weights that it is of where they are known."""

    iteration: int
    evaluation: Evaluation
    records: LabelledRecords
    weights: Weights | None


class Curves:
    """The losses and tests of one run."""

    def __init__(self) -> None:
        self.last: Tested | None = None
        self.best: Tested | None = None
        self._iterations: list[int] = []
        self._losses: list[float] = []
        self._tests: dict[int, dict[str, float]] = {}
        self._network: tuple[keras.Model, Head | None] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none before the first test."""
        return self.last.evaluation.classes if self.last else ()

    @property
    def network_names(self) -> tuple[str, ...]:
        """Models that the end of the run will log."""
        return ("last", "best") if self._network else ()

    def add(self, iterations: Sequence[int], losses: Sequence[float]) -> None:
        """Add losses; the iterations grow."""
        self._iterations += iterations
        self._losses += losses

    def test(
        self,
        iteration: int,
        evaluation: Evaluation,
        records: LabelledRecords,
        model: keras.Model | None,
        head: Head | None,
    ) -> float:
        """Add an evaluation, in place of one of the same iteration; return the best objective.

        Raises
        ------
        AutologError
            The classes are not those of the tests before.
        """
        if self.last and _question(self.last.evaluation) != _question(evaluation):
            before, now = _question(self.last.evaluation), _question(evaluation)
            raise AutologError(
                f"the tests of one run must ask one thing: before, (classes, positive, multilabel) "
                f"were {before}, now they are {now}"
            )
        weights = None if model is None else model.get_weights()
        if model is not None:
            self._network = model, head
        tested = Tested(iteration, evaluation, records, weights)
        if self.best is None or evaluation.objective > self.best.evaluation.objective:
            self.best = tested
        self.last = tested
        objective = objective_of(evaluation.is_multilabel)
        found = {f"test_{name}": value for name, value in evaluation.metrics.items()}
        best = self.best.evaluation.objective
        self._tests[iteration] = {**found, f"best_test_{objective}": best}
        return best

    def last_objective(self, name: str) -> dict[str, float]:
        """Return what a model of the present weights has reached, by the name of its metric."""
        return _objective(name, self.last) if self.last else {}

    def conclude(self, log: RunLog, *, models: bool) -> None:
        """Log predictions, pictures, models if that is wanted, and the curves as one file."""
        self._log_predictions(log)
        if models:
            self._log_models(log)
        if self._losses:
            steps = np.array(self._iterations)
            tests = {
                f"test_{name}": (
                    [at for at, found in self._tests.items() if f"test_{name}" in found],
                    [v[f"test_{name}"] for v in self._tests.values() if f"test_{name}" in v],
                )
                for name in DRAWN
            }
            drawn = {name: curve for name, curve in tests.items() if curve[0]}
            log.figure("plots/learning_curve.png", learning_curve(self._losses, drawn, steps=steps))
            if len(steps) == steps[-1] + 1:
                losses = np.array(self._losses, np.float32)
                log_trace(log, Trace.of([losses], list(self._tests.items())))

    def _log_predictions(self, log: RunLog) -> None:
        for name, tested in (("last", self.last), ("best", self.best)):
            if tested:
                columns = tested.records.columns(tested.evaluation)
                log.table(f"predictions/{name}.csv", columns)
        if self.best:
            figure = confusion_plot(self.best.evaluation, title="best test")
            log.figure("plots/confusion_matrix.png", figure)

    def _log_models(self, log: RunLog) -> None:
        if self._network is None:
            return
        model, head = self._network
        for name, tested in (("last", self.last), ("best", self.best)):
            if tested is None or tested.weights is None:
                continue
            with _weights(model, tested.weights):
                metrics = _objective(name, tested)
                save_network(log, name, model, head, self.classes, metrics, tested.iteration)


def _question(evaluation: Evaluation) -> tuple[tuple[str, ...], str, bool]:
    return evaluation.classes, evaluation.positive, evaluation.is_multilabel


def _objective(name: str, tested: Tested) -> dict[str, float]:
    one = tested.evaluation
    return {f"{name}_test_{objective_of(one.is_multilabel)}": one.objective}


@contextmanager
def _weights(model: keras.Model, weights: Weights) -> Iterator[None]:
    """Give a network other weights for a while."""
    own = model.get_weights()
    model.set_weights(weights)
    try:
        yield
    finally:
        model.set_weights(own)
