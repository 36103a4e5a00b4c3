"""Make epochs of batches in a seeded order, ahead of their use in a background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.pipeline.actions.base import Signal
from ecg_mlflow.pipeline.windows import WindowMaker
from ecg_mlflow.records.label_sets import split_label

T = TypeVar("T")

#: Separates the seed of the order of records from the seeds of the actions.
_ORDER = 2**32 - 1


@dataclass(frozen=True)
class Batch:
    """The windows of some records; the arrays are read-only.

    Attributes
    ----------
    windows
        ``(n_windows, length, n_leads)`` float32, mV.
    targets
        ``(n_windows, n_classes)`` float32, 0 or 1: each window has its record's labels.
    rows
        ``(n_records,)`` positions in the corpus.
    counts
        ``(n_records,)`` number of windows of each record, in the order of `windows`.
    """

    windows: Signal
    targets: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class BatchSource:
    """All batches of one part of a split.

    Parameters
    ----------
    windows
        Makes the windows.
    rows
        ``(n,)`` positions of the records in the corpus.
    targets
        ``(n, n_classes)`` float32, 0 or 1: the classes of each record.
    batch_size
        Records in a batch.
    drop_last
        Leave out an epoch's last batch if it is smaller.

    Raises
    ------
    PipelineError
        If the records are fewer than a batch needs.
    """

    windows: WindowMaker
    rows: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32]
    batch_size: int
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.batches_per_epoch == 0:
            raise PipelineError(
                f"{len(self.rows)} records are too few for a batch of {self.batch_size} records"
                + ("; drop_last=False would keep the partial one" if self.drop_last else "")
            )

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        n_records = len(self.rows)
        return n_records // self.batch_size if self.drop_last else -(-n_records // self.batch_size)

    def epoch(
        self, seed: int, repetition: int, epoch: int, *, shuffle: bool, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield an epoch's batches, from the `skip`-th on.

        Equal arguments give equal batches, in every process and on every call.
        """
        order = np.arange(len(self.rows))
        if shuffle:
            order = np.random.default_rng([seed, repetition, epoch, _ORDER]).permutation(order)
        draws = self.windows.draw(seed, repetition, epoch)
        for batch in range(skip, self.batches_per_epoch):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            rows = self.rows[chosen]
            windows, counts = self.windows.make(rows, draws)
            targets = self.targets[np.repeat(chosen, counts)]
            for array in (windows, targets, rows, counts):
                array.flags.writeable = False
            yield Batch(windows, targets, rows, counts)

    def stream(self, seed: int, repetition: int, iteration: int = 0) -> Iterator[Batch]:
        """Yield the batches of endless shuffled epochs, from any iteration on."""
        epoch, skip = divmod(iteration, self.batches_per_epoch)
        while True:
            yield from self.epoch(seed, repetition, epoch, shuffle=True, skip=skip)
            epoch, skip = epoch + 1, 0


def class_targets(labels: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return ``(n, n_classes)``: 1 where a record has the class among its labels, else 0."""
    sets = [frozenset(split_label(label)) for label in labels]
    targets = [[name in found for name in classes] for found in sets]
    return np.array(targets, np.float32).reshape(-1, len(classes))


@contextmanager
def prefetched(items: Iterable[T], depth: int = 3) -> Iterator[Iterator[T]]:
    """Read items ahead in a thread, while the block runs; an error is raised in its place.

    Parameters
    ----------
    items
        What to iterate over.
    depth
        Number of items that are read ahead.
    """
    source, thread = iter(items), ThreadPoolExecutor(max_workers=1)
    ahead = deque(thread.submit(next, source) for _ in range(depth))

    def in_order() -> Iterator[T]:
        while True:
            try:
                item = ahead.popleft().result()
            except StopIteration:
                return
            ahead.append(thread.submit(next, source))
            yield item

    try:
        yield in_order()
    finally:
        thread.shutdown(cancel_futures=True)


Floats = npt.NDArray[np.float32]

#: Windows of one prediction call: one shape for all calls avoids new traces and tuning.
CHUNK = 128


def predict_chunks(
    predict: Callable[[Floats], Floats], windows: Iterable[Floats]
) -> Iterator[Floats]:
    """Predict in chunks of one size; the last is padded with zeros, whose results are cut off."""
    rest: Floats | None = None
    for more in windows:
        rest = more if rest is None else np.concatenate([rest, more])
        whole = len(rest) - len(rest) % CHUNK
        for start in range(0, whole, CHUNK):
            yield predict(rest[start : start + CHUNK])
        rest = rest[whole:]
    if rest is not None and len(rest):
        filled = np.zeros((CHUNK, *rest.shape[1:]), dtype=np.float32)
        filled[: len(rest)] = rest
        yield predict(filled)[: len(rest)]


def record_means(
    values: npt.NDArray[Any], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Average ``(n_windows, n_classes)`` over each record's windows: ``(n_records, n_classes)``."""
    first = np.cumsum(counts) - counts
    return np.add.reduceat(values.astype(np.float64), first) / counts[:, None]
