"""A run's curves as one artifact, so that a hundred runs are read in a second.

MLflow's API gives a metric's history as text, a request for each thousand values or so. The trace
holds the same numbers: the loss of every iteration, and what each test has found.
"""

from __future__ import annotations

import io
import tempfile
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import TrackingError

if TYPE_CHECKING:
    from ecg_mlflow.tracking.run_log import RunLog

#: The artifact's name; it lies at the top, beside the configuration.
TRACE = "trace.npz"
#: Stands in front of the names of what tests have found.
_TEST = "test/"
#: Arrays are loaded by one thread at a time: np.load parses their headers with `ast`, which is not
#: safe in threads on Python 3.11 ("AST constructor recursion depth mismatch").
_LOADING = threading.Lock()


@dataclass(frozen=True, eq=False)
class Trace:
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
    ) -> Trace:
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
    def read(cls, path: Path) -> Trace:
        """Read a trace from its file.

        Raises
        ------
        TrackingError
            If it is none, or is damaged.
        """
        try:
            # By hand: np.load leaves a file open that turns out to be no archive.
            data = io.BytesIO(path.read_bytes())
            with _LOADING, np.load(data, allow_pickle=False) as arrays:
                return cls(
                    arrays["loss"],
                    arrays["iterations"],
                    {
                        name.removeprefix(_TEST): arrays[name]
                        for name in arrays.files
                        if name.startswith(_TEST)
                    },
                )
        except (EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise TrackingError(
                f"{path} can't be read as the curves of a run ({error}): delete it, and they are "
                "read from the run's metrics"
            ) from error


def log_trace(log: RunLog, trace: Trace) -> None:
    """Write a trace into a run's artifacts, in place of an earlier one."""
    with tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder:
        path = Path(folder, TRACE)
        path.write_bytes(trace.to_bytes())
        log.file(path)
