"""The state of a run while it trains, written into a checkpoint and read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import CheckpointError
from ecg_mlflow.provenance import package_versions
from ecg_mlflow.tracking.metric_buffer import Chunk
from ecg_mlflow.training import Checkpoint, Evaluation

_EVALUATION = ("rows", "targets", "probabilities", "counts")
#: Other versions of these may round differently: a run resumed under them is not bit-exact.
_DECISIVE = ("ecg_mlflow", "keras", "numba", "numpy", "tensorflow")


@dataclass
class RunState:
    """Everything about a run that is not in its model and optimizer.

    Attributes
    ----------
    iteration, tested, seconds, step_seconds
        As of a `Branch`.
    ms_per_record
        What the quickest evaluation so far took for a record, in milliseconds.
    losses
        Of each iteration so far, in pieces of shape ``(n,)``.
    tests
        Iteration and metrics of each evaluation.
    last, best
        The last evaluation and the best one.
    best_iteration, best_weights
        When the best was, and its weights, in Keras's order.
    conclusion
        What the run ends with: computed once, so that logging it twice logs the same.
    failure
        Why the run failed: nothing is left but to deliver what it logged.
    pending
        Metrics that may not be in the store yet.
    """

    iteration: int = 0
    tested: int = -1
    seconds: float = 0.0
    step_seconds: float = 0.0
    ms_per_record: float = math.inf
    losses: list[npt.NDArray[np.float32]] = field(default_factory=list)
    tests: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    last: Evaluation | None = None
    best: Evaluation | None = None
    best_iteration: int = 0
    best_weights: list[npt.NDArray[Any]] = field(default_factory=list)
    conclusion: dict[str, Any] | None = None
    failure: dict[str, str] | None = None
    pending: list[Chunk] = field(default_factory=list)

    def to_checkpoint(
        self, identity: str, network: Mapping[str, npt.NDArray[Any]], pending: list[Chunk]
    ) -> Checkpoint:
        """Return the checkpoint of this state and of the network's."""
        state = {
            "identity": identity,
            "versions": versions(),
            "iteration": self.iteration,
            "tested": self.tested,
            "seconds": self.seconds,
            "step_seconds": self.step_seconds,
            "ms_per_record": self.ms_per_record,
            "tests": self.tests,
            "best_iteration": self.best_iteration,
            "conclusion": self.conclusion,
            "failure": self.failure,
            "pending": pending,
        }
        arrays = {f"network/{name}": array for name, array in network.items()}
        arrays["losses"] = np.concatenate(self.losses) if self.losses else np.empty(0, np.float32)
        arrays |= {f"weights/{i:04d}": array for i, array in enumerate(self.best_weights)}
        for name, evaluation in (("last", self.last), ("best", self.best)):
            if evaluation is not None:
                arrays |= {f"{name}/{key}": getattr(evaluation, key) for key in _EVALUATION}
        return Checkpoint(state, arrays)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, identity: str, classes: tuple[str, ...], positive: str
    ) -> RunState:
        """Read a state back.

        Raises
        ------
        CheckpointError
            If it is of a run with another identity.
        """
        state = checkpoint.state
        if state["identity"] != identity:
            raise CheckpointError("the checkpoint is of a run with another identity")

        def evaluation(name: str) -> Evaluation | None:
            arrays = checkpoint.part(name)
            return Evaluation(**arrays, classes=classes, positive=positive) if arrays else None

        weights = checkpoint.part("weights")
        return cls(
            iteration=state["iteration"],
            tested=state["tested"],
            seconds=state["seconds"],
            step_seconds=state["step_seconds"],
            ms_per_record=state["ms_per_record"],
            losses=[checkpoint.arrays["losses"]],
            tests=[(iteration, metrics) for iteration, metrics in state["tests"]],
            last=evaluation("last"),
            best=evaluation("best"),
            best_iteration=state["best_iteration"],
            best_weights=[weights[name] for name in sorted(weights)],
            conclusion=state["conclusion"],
            failure=state["failure"],
            pending=[(key, values, step, times) for key, values, step, times in state["pending"]],
        )


def versions() -> dict[str, str]:
    """Return the versions on which a training's numbers depend."""
    return package_versions(*_DECISIVE)
