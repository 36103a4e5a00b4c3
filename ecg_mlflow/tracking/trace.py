"""A run's curves as one artifact, so that a hundred runs are read in a second.

MLflow's API gives a metric's history as text, a request for each thousand values or so. The trace
holds the same numbers: the loss of every iteration, and what each test has found.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from mlflow import MlflowClient

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.artifacts import N_THREADS, read_artifacts
from ecg_mlflow.tracking.stored_run import StoredRun

if TYPE_CHECKING:
    from ecg_mlflow.tracking.run_log import RunLog

#: The artifact's name; it lies at the top, beside the configuration.
TRACE = "trace.npz"
LOSS = "loss"
#: Before the names of what tests have found.
_TEST = "test/"


@dataclass(frozen=True, eq=False)
class RunTrace:
    """The curves of one run.

    Attributes
    ----------
    losses
        Of each iteration from 0, of shape ``(n_iterations,)``.
    iterations
        Those after which something was found, in rising order, of shape ``(n_tests,)``.
    metrics
        What was found then, by the names that MLflow has, each of shape ``(n_tests,)``; NaN where
        a test has no such metric.
    """

    losses: npt.NDArray[np.float32]
    iterations: npt.NDArray[np.int64]
    metrics: Mapping[str, npt.NDArray[np.float64]]

    @classmethod
    def of(
        cls,
        losses: Sequence[npt.NDArray[np.float32]],
        tests: Sequence[tuple[int, Mapping[str, float]]],
    ) -> RunTrace:
        """Put a trace together.

        Parameters
        ----------
        losses
            Of consecutive iterations from 0, in pieces of shape ``(n,)``.
        tests
            Iterations and metrics by the names that MLflow has, in any order; several of one
            iteration are one.
        """
        found: dict[int, dict[str, float]] = {}
        for iteration, metrics in sorted(tests, key=lambda test: test[0]):
            found.setdefault(iteration, {}).update(metrics)
        names = dict.fromkeys(name for metrics in found.values() for name in metrics)
        return cls(
            np.concatenate([np.empty(0, np.float32), *losses]),
            np.array(list(found), dtype=np.int64),
            {
                name: np.array([metrics.get(name, np.nan) for metrics in found.values()], float)
                for name in names
            },
        )

    def to_bytes(self) -> bytes:
        """Return the trace as an ``.npz`` file; equal traces give equal bytes."""
        file = io.BytesIO()
        named: dict[str, Any] = {f"{_TEST}{key}": one for key, one in self.metrics.items()}
        # Not compressed: noisy losses would be a tenth smaller, and slower to read.
        np.savez(file, loss=self.losses, iterations=self.iterations, **named)
        return file.getvalue()

    @classmethod
    def from_bytes(
        cls, data: bytes, name: str = TRACE, metrics: Collection[str] | None = None
    ) -> RunTrace:
        """Read a trace from the content of its file.

        Parameters
        ----------
        data
            The content.
        name
            What errors call the file.
        metrics
            Which of the metrics; by default all. Each array takes a tenth of a millisecond.

        Raises
        ------
        TrackingError
            If it is none, or is damaged.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                kept = [one.removeprefix(_TEST) for one in arrays.files if one.startswith(_TEST)]
                wanted = [one for one in kept if metrics is None or one in metrics]
                return cls(
                    arrays["loss"],
                    arrays["iterations"],
                    {one: arrays[f"{_TEST}{one}"] for one in wanted},
                )
        except (EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise TrackingError(
                f"{name} can't be read as the curves of a run ({error}): delete it, and they are "
                "read from the run's metrics"
            ) from error


def log_trace(log: RunLog, trace: RunTrace) -> None:
    """Write a trace into a run's artifacts, in place of an earlier one."""
    with tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder:
        path = Path(folder, TRACE)
        path.write_bytes(trace.to_bytes())
        log.client.log_artifact(log.run_id, str(path))


def read_traces(
    client: MlflowClient, runs: Sequence[StoredRun], names: Collection[str]
) -> list[RunTrace]:
    """Read the curves of some runs.

    They are in an artifact of each run that has ended. Where it is missing, or lacks what the
    store has, the store's own histories are read, which takes longer.

    Parameters
    ----------
    client
        The store.
    runs
        Whose curves.
    names
        Which metrics.

    Returns
    -------
    Traces with no more than these metrics, in the order of the runs. A loss that is missing is NaN.

    Raises
    ------
    TrackingError
        If a trace is damaged, or the store fails.
    """
    files = read_artifacts(client, [(run.artifact_uri, TRACE) for run in runs])
    traces: list[RunTrace | None] = []
    # In one thread: np.load parses headers with `ast`, which is not safe in threads on Python 3.11
    # ("AST constructor recursion depth mismatch").
    for run in runs:
        data = files[run.artifact_uri, TRACE]
        name = f"{TRACE} of run {run.run_id}"
        traces.append(None if data is None else RunTrace.from_bytes(data, name, names))

    def complete(run: StoredRun, trace: RunTrace | None) -> RunTrace:
        return _complete(client, run, trace, names)

    with ThreadPoolExecutor(N_THREADS, "history-reader") as pool:
        return list(pool.map(complete, runs, traces))


def _complete(
    client: MlflowClient, run: StoredRun, trace: RunTrace | None, names: Collection[str]
) -> RunTrace:
    """Add the metrics that the trace lacks, and drop those that were not asked for."""
    tests: list[tuple[int, Mapping[str, float]]] = []
    for name in names:
        if name == LOSS or name not in run.metrics:
            continue
        if trace is not None and name in trace.metrics:
            found = trace.metrics[name].tolist()
            tests += [(i, {name: v}) for i, v in zip(trace.iterations.tolist(), found, strict=True)]
        else:
            history = client.get_metric_history(run.run_id, name)
            tests += [(metric.step, {name: metric.value}) for metric in history]
    losses = np.empty(0, np.float32)
    if LOSS in names:
        losses = _losses(client, run.run_id) if trace is None else trace.losses
    return RunTrace.of([losses], tests)


def _losses(client: MlflowClient, run_id: str) -> npt.NDArray[np.float32]:
    history = client.get_metric_history(run_id, LOSS)
    steps = np.array([metric.step for metric in history], dtype=np.int64)
    values = np.array([metric.value for metric in history], dtype=np.float32)
    losses = np.full(steps.max(initial=-1) + 1, np.nan, np.float32)
    losses[steps] = values  # in the order of their times, so that the last of a step counts
    return losses
