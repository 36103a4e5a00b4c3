"""What a worker writes into the run that the driver opened for it.

Metrics are kept in memory and sent by the thousand from one background thread.
MLflow's ``log_metric`` takes 6 ms on sqlite and up to 60 ms on a server, longer than a training
step of a small net, and its own asynchronous mode loses what is queued on SIGTERM and on a plain
exit without ``end_run``. One list and one thread with ``log_batch`` cost 0.1 ms or less per value
and lose nothing that `flush` was called for.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from numpy.typing import ArrayLike

from ecg_mlflow.errors import RunGoneError, TrackingError
from ecg_mlflow.provenance import heartbeat
from ecg_mlflow.tracking.retry import RetryPolicy, cause_text, store_errors
from ecg_mlflow.tracking.run_data import VALID_KEY, Column, csv_text, log_tags, metric_name
from ecg_mlflow.tracking.runs import check_running
from ecg_mlflow.tracking.stored_run import COMPLETE_TAG

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH = 1000  # the most metrics that MLflow takes in one request
ABANDON_S = 10.0

log = logging.getLogger(__name__)

# A metric's values at consecutive steps: name, values, first step, and milliseconds of each.
Chunk = tuple[str, list[float], int, list[int]]


class RunLog:
    """Writes metrics and artifacts of one run, by its id.

    The run is not opened and not closed here: that is the driver's. As a context manager it
    flushes on leaving, exceptions and a SIGTERM that was turned into one included.

    Metrics are delivered in the order in which they were added. A batch that can't be sent is kept
    and sent again with the same timestamps at the next interval, which MLflow stores once.

    With `held`, metrics wait until `release`: a run that writes checkpoints releases what the last
    one covers, so that nothing is in the store that a process which takes over from there would
    log again, or not at all. `pending` belongs into the checkpoint then, and goes into the log of
    the process that takes over. With each heartbeat it looks whether the run was deleted or ended
    meanwhile; what is added or flushed afterwards raises a `RunGoneError`.

    Measured with sqlite on one of two cores at 60 values a second: in the caller 3 microseconds a
    value (30 at once) or 25 (one by one); processor time of both threads together 0.1 or 0.2 ms a
    value, which is 0.6 % of the training time.

    Parameters
    ----------
    client, run_id
        Where to log.
    retry
        What to do while the store is away; by default raise at once.
    interval_s
        Seconds between two deliveries.
    held
        Deliver only what was released.
    heartbeat_s
        Seconds between two signs of life, see `heartbeat`; None for none.
    pending
        What another process has left undelivered.

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
        interval_s: float = 5.0,
        held: bool = False,
        heartbeat_s: float | None = None,
        pending: Sequence[Chunk] = (),
    ) -> None:
        self.retry = retry or RetryPolicy(limit_s=0.0)
        self.client = self.retry.client(client)
        self.run_id = run_id
        self._unrepeated = client
        self._interval_s = interval_s
        self._heartbeat_s = heartbeat_s
        self._beaten = time.monotonic()
        # A deque, because to extend it by a list is atomic: a signal handler that raises in `add`
        # can't leave one half done. The lock is for looking at it, and for taking from it.
        self._queue: deque[Chunk] = deque(part for chunk in pending for part in _parts(*chunk))
        self._moving = threading.Lock()
        self._n_released = len(self._queue) if held else None
        self._keys: set[str] = set()
        self._wake = threading.Event()
        self._flushes: deque[Future[Exception | None]] = deque()
        self._error: Exception | None = None
        self._closing = False
        self._abandoned = False
        self._thread = threading.Thread(
            target=self._deliver, name=f"metrics-{run_id[:8]}", daemon=True
        )
        self._thread.start()
        atexit.register(self.close)

    def release(self) -> None:
        """Let go of what was held so far, and have it delivered at once."""
        if self._n_released is not None:
            with self._moving:
                self._n_released = len(self._queue)
            self._wake.set()

    def pending(self) -> list[Chunk]:
        """Return what may not be in the store yet, in order."""
        with self._moving:
            return list(self._queue)

    def add(
        self,
        key: str,
        values: ArrayLike,
        first_step: int,
        timestamps_ms: ArrayLike | None = None,
    ) -> None:
        """Add the values of consecutive steps; they are in the store after the interval or `flush`.

        Parameters
        ----------
        key
            Metric name.
        values
            One, or of shape (n,).
        first_step
            Step of the first value; the others follow one by one.
        timestamps_ms
            Milliseconds since 1970, one or for each value; by default the present.

        Raises
        ------
        RunGoneError
            The run was deleted, or ended by anybody else.
        TrackingError
            The key is not allowed by MLflow, or the log is closed.
        ValueError
            There is not one timestamp for each value.
        """
        self._check(key)
        numbers = np.asarray(values, dtype=np.float64).ravel()
        times = time.time_ns() // 1_000_000 if timestamps_ms is None else timestamps_ms
        each = np.broadcast_to(np.asarray(times, dtype=np.int64), numbers.shape)
        self._queue.extend([*_parts(key, numbers.tolist(), int(first_step), each.tolist())])

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
        """Wait until everything added so far, and not held, is in the store.

        Raises
        ------
        TrackingError
            The store refused it or did not answer in time. The values stay in memory, and a later
            `flush` tries again.
        """
        self.retry.call(self._flush, timeout_s)

    def _flush(self, timeout_s: float) -> None:
        if self._closing:
            if self._next_batch():
                raise TrackingError(f"the log of run {self.run_id} was closed with metrics unsent")
            return
        answer = Future[Exception | None]()
        self._flushes.append(answer)
        self._wake.set()
        try:
            error = answer.result(timeout_s)
        except TimeoutError as late:
            raise TrackingError(
                f"the store did not take the metrics of run {self.run_id} within {timeout_s:g} s;"
                " they are kept in memory. Is the MLflow server reachable?"
            ) from late
        if isinstance(error, RunGoneError):
            raise error
        if error is not None:
            raise TrackingError(
                f"the store refused the metrics of run {self.run_id}: {cause_text(error)}. They are"
                " kept in memory; a later flush sends them again."
            ) from error

    def complete(self) -> None:
        """Mark the run as one that has logged everything and waits to be closed."""
        log_tags(self.client, self.run_id, {COMPLETE_TAG: "true"})

    def close(self, timeout_s: float = 60.0) -> None:
        """Flush, then end the thread; a second call does nothing. What is held stays behind.

        Raises
        ------
        TrackingError
            As `flush`; the log is closed all the same.
        """
        if self._closing:
            return
        atexit.unregister(self.close)
        try:
            self._flush(timeout_s)
        finally:
            self._closing = True
            self._wake.set()

    def abandon(self) -> None:
        """End the thread without another delivery; after `close` it does nothing."""
        atexit.unregister(self.close)
        self._closing = self._abandoned = True
        self._wake.set()
        # A delivery that is on its way must not come after what another process sends.
        self._thread.join(ABANDON_S)

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

    def _check(self, key: str) -> None:
        if isinstance(self._error, RunGoneError):
            raise self._error
        if self._closing:
            raise TrackingError(
                f"metric {key!r} came after the log of run {self.run_id} was closed"
            )
        if key in self._keys:
            return
        # One bad name would make MLflow refuse the whole batch, again and again.
        if not VALID_KEY.fullmatch(key):
            raise TrackingError(
                f"MLflow allows no metric named {key!r}: letters, digits, '_', '-', '.', ':', '/'"
                f" and spaces only, at most 250; {metric_name(key)!r} would do"
            )
        self._keys.add(key)

    def _deliver(self) -> None:
        while not self._closing:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            # Taken before the delivery: what was added before the question is in the answer.
            asked = [self._flushes.popleft() for _ in range(len(self._flushes))]
            error = self._send_all()
            if error is not None and self._error is None and not isinstance(error, RunGoneError):
                why = cause_text(error)
                log.warning("metrics of run %s wait in memory: %s", self.run_id, why)
            self._error = error
            for answer in asked:
                answer.set_result(error)

    def _send_all(self) -> Exception | None:
        try:
            while not self._abandoned:
                chunks, tags = self._next_batch(), self._heartbeat()
                if not chunks and not tags:
                    break
                if tags and self._n_released is not None:
                    check_running(self._unrepeated, self.run_id)
                metrics = [
                    Metric(key, value, when, first_step + i)
                    for key, values, first_step, times in chunks
                    for i, (value, when) in enumerate(zip(values, times, strict=True))
                ]
                with store_errors(f"log into run {self.run_id}", of_a_call=True):
                    self._unrepeated.log_batch(self.run_id, metrics=metrics, tags=tags)
                with self._moving:
                    for _ in chunks:
                        self._queue.popleft()
                    if self._n_released is not None:
                        self._n_released -= len(chunks)
        except Exception as error:  # noqa: BLE001 - handed to whoever calls flush
            return error
        return None

    def _next_batch(self) -> list[Chunk]:
        """Return the oldest chunks, as many as one request takes."""
        chunks: list[Chunk] = []
        room = BATCH
        with self._moving:
            for chunk in islice(self._queue, self._n_released):
                room -= len(chunk[1])
                if room < 0:
                    break
                chunks.append(chunk)
        return chunks

    def _heartbeat(self) -> list[RunTag]:
        now = time.monotonic()
        if self._heartbeat_s is None or now - self._beaten < self._heartbeat_s:
            return []
        self._beaten = now
        return [RunTag(key, value) for key, value in heartbeat().items()]


def _parts(key: str, values: list[float], first_step: int, times: list[int]) -> Iterator[Chunk]:
    """Cut a chunk into such as fit into a request."""
    for i in range(0, len(values), BATCH):
        yield key, values[i : i + BATCH], first_step + i, times[i : i + BATCH]
