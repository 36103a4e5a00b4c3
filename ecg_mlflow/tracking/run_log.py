"""What a worker writes into the run that the driver opened for it."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Param, RunTag
from numpy.typing import NDArray

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.metric_buffer import MetricBuffer
from ecg_mlflow.tracking.retry import RetryPolicy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PER_BATCH = 100  # the most params, or tags, that MLflow takes in one request
PARAM_LIMIT = 6000  # characters; MLflow cuts a longer value with no more than a warning
TAG_LIMIT = 8000

#: The run's process has logged everything; whoever opened the run may close it as finished.
COMPLETE_TAG = "ecg_mlflow.complete"

Column = Sequence[object] | NDArray[Any]


class RunLog(MetricBuffer):
    """Writes metrics and artifacts of one run, by its id.

    The run is not opened and not closed here: that is the driver's. As a context manager it
    flushes on leaving, exceptions and a SIGTERM that was turned into one included.

    Parameters
    ----------
    client, run_id
        Where to log.
    retry
        What to do while the store is away; by default raise at once.
    **delivery
        See `MetricBuffer`.

    Attributes
    ----------
    client
        The store; its calls are repeated as `retry` says.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        *,
        retry: RetryPolicy | None = None,
        **delivery: Any,
    ) -> None:
        super().__init__(client, run_id, **delivery)
        self.retry = retry or RetryPolicy(limit_s=0.0)
        self.client = self.retry.client(client)
        self.run_id = run_id

    def metrics(
        self, values: Mapping[str, float], step: int, timestamp_ms: int | None = None
    ) -> None:
        """Log metrics of one iteration."""
        for key, value in values.items():
            self.add(key, value, step, timestamp_ms)

    def table(self, name: str, columns: Mapping[str, Column]) -> None:
        """Write a CSV artifact, in place of an earlier one with that name.

        Parameters
        ----------
        name
            Artifact path, ending in ``.csv``.
        columns
            Equally long columns, each of shape (n,).

        Raises
        ------
        ValueError
            The columns are not equally long.
        """
        self.client.log_text(self.run_id, csv_text(columns), name)

    def figure(self, name: str, figure: Figure) -> None:
        """Write a matplotlib figure as an artifact; the ending of the name is its format."""
        self.client.log_figure(self.run_id, figure, name)

    def flush(self, timeout_s: float = 60.0) -> None:
        """Wait until all metrics that are not held are in the store; see `MetricBuffer.flush`."""
        self.retry.call(super().flush, timeout_s)

    def complete(self) -> None:
        """Mark the run as one that has logged everything and waits to be closed."""
        log_tags(self.client, self.run_id, {COMPLETE_TAG: "true"})

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except TrackingError as closing:
            if error is None:
                raise
            # What made the block fail matters more than that its last metrics are lost too.
            error.add_note(str(closing))


def log_params(client: MlflowClient, run_id: str, values: Mapping[str, object]) -> None:
    """Log params in as few requests as MLflow allows.

    A value longer than MLflow's limit is cut here and carries its length and hash, so that two
    long values that differ still look different.
    """
    params = [Param(key, _fitting(str(value), PARAM_LIMIT)) for key, value in values.items()]
    for first in range(0, len(params), PER_BATCH):
        client.log_batch(run_id, params=params[first : first + PER_BATCH])


def log_new_params(client: MlflowClient, run_id: str, values: Mapping[str, object]) -> None:
    """Log those params that a run doesn't have: MLflow refuses a second value for a param."""
    there = client.get_run(run_id).data.params
    log_params(client, run_id, {key: one for key, one in values.items() if key not in there})


def log_tags(client: MlflowClient, run_id: str, values: Mapping[str, object]) -> None:
    """Set tags in as few requests as MLflow allows; long values are cut as params are."""
    tags = [RunTag(key, value) for key, value in fitting_tags(values).items()]
    for first in range(0, len(tags), PER_BATCH):
        client.log_batch(run_id, tags=tags[first : first + PER_BATCH])


def fitting_tags(values: Mapping[str, object]) -> dict[str, str]:
    """Return tags as text within MLflow's limit."""
    return {key: _fitting(str(value), TAG_LIMIT) for key, value in values.items()}


def csv_text(columns: Mapping[str, Column]) -> str:
    """Return equally long columns as CSV with a header line; numbers keep all their digits."""
    lists = [
        column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*lists, strict=True))
    return text.getvalue()


def as_columns(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    """Turn rows into columns in order of first appearance; a missing cell is None."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _fitting(value: str, limit: int) -> str:
    if len(value) <= limit:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()[:12]
    mark = f"... ({len(value)} characters, sha256 {digest})"
    return value[: limit - len(mark)] + mark
