"""Windows to probabilities, in pieces of one size, and from windows to records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

#: Windows of one prediction call; every call has this shape, so that none is traced or tuned anew.
CHUNK = 128


def predict_chunks(
    predict: Callable[[Floats], Floats], windows: Iterable[Floats]
) -> Iterator[Floats]:
    """Predict in pieces of one size; the last is filled up with zeros, which are cut off again."""
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
