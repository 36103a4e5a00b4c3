"""The old way to a batch: every record read from its files, every action a NumPy call of its own.

Written from CardIO's formulas, in the form in which CardIO and BatchFlow run them: the signal of a
record is ``(n_leads, n_samples)`` float64; loading and every later action go through the records of
a batch in a thread pool that is made for the action (``inbatch_parallel(target="threads")``, four
threads a core); only the finished windows become one float32 array. Most of that work holds
Python's interpreter lock, so the threads cost more than they gain; `threads=False` goes without.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import wfdb

Floats = npt.NDArray[np.float64]


def read(path: Path) -> tuple[Floats, float]:
    """Return a record's signal ``(n_leads, n_samples)`` in mV and its fs in Hz."""
    record = wfdb.rdrecord(str(path.with_suffix("")))
    return record.p_signal.T, record.fs


def center_flip(signal: Floats, rng: np.random.Generator) -> Floats:
    centred: Floats = signal - signal.mean(axis=1, keepdims=True)
    centred *= rng.choice([-1.0, 1.0], size=(len(signal), 1))
    return centred


def random_resample(signal: Floats, fs: float, rng: np.random.Generator) -> Floats:
    fs_new = rng.normal(300, 10)
    if fs_new <= 0:
        return signal
    n_samples = signal.shape[1]
    places = np.linspace(0, n_samples - 1, max(1, int(fs_new * n_samples / fs)))
    known = np.arange(n_samples)
    return np.array([np.interp(places, known, lead) for lead in signal])


def random_split(signal: Floats, length: int, n: int, rng: np.random.Generator) -> Floats:
    """Return ``(n, n_leads, length)``."""
    n_samples = signal.shape[1]
    if n_samples < length:
        padded = np.pad(signal, ((0, 0), (length - n_samples, 0)))
        return np.tile(padded, (n, 1, 1))
    starts = rng.integers(0, n_samples - length + 1, n)
    return np.array([signal[:, start : start + length] for start in starts])


def in_threads(action: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
    """Run an action on every record, in a pool of its own."""
    with ThreadPoolExecutor(4 * len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(action, *arguments))


def in_turn(action: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
    """Run an action on one record after the other."""
    return [action(*record) for record in zip(*arguments, strict=True)]


def make_batch(
    paths: Sequence[Path],
    classes: Sequence[int],
    windows_of: Mapping[int, int],
    length: int,
    n_classes: int,
    rng: np.random.Generator,
    *,
    threads: bool = True,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return windows ``(n, length, n_leads)`` and one-hot targets, both float32.

    `classes` holds the class index of each record and `windows_of` the windows of each class.
    """
    each = in_threads if threads else in_turn
    # A generator is not safe to share between threads.
    rngs = rng.spawn(len(paths))
    records = each(read, paths)
    signals = each(center_flip, [signal for signal, _ in records], rngs)
    signals = each(random_resample, signals, [fs for _, fs in records], rngs)
    n_windows = [windows_of[place] for place in classes]
    windows = each(random_split, signals, [length] * len(paths), n_windows, rngs)
    targets = np.eye(n_classes)[np.repeat(classes, [len(w) for w in windows])]
    stacked = np.concatenate(windows).transpose(0, 2, 1)
    return stacked.astype(np.float32), targets.astype(np.float32)
