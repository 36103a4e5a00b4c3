"""Compute the windows of a batch from packed recordings in one pass, in fused kernels.

A kernel computes only the samples that the windows need: it centres, flips, resamples and crops
without intermediate arrays. It is pure: it reads arrays, fills arrays and takes random numbers as
arguments. The NumPy actions in `actions` are its reference.

Measured on one core, for one lead and windows of 3,000 samples: see ``benchmarks/``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """Compile with numba, once for all processes, and release the GIL while it runs."""
    return cast(Kernel, njit(kernel, cache=True, nogil=True))


#: What the subtracted mean is computed from.
NO_CENTER, CENTER_RECORD, CENTER_RESAMPLED, CENTER_WINDOW = range(4)


@compiled
def lead_means(data: Array, first: Array, n_samples: Array, means: Array) -> None:
    """Fill `means` ``(n_records, n_leads)`` with each lead's mean, in the units of `data`.

    Parameters
    ----------
    data
        Packed samples, 1-D, int16 or float32.
    first, n_samples
        ``(n_records,)`` position in `data` and length of each record.
    means
        Output, float64.
    """
    n_leads = means.shape[1]
    for r in range(len(first)):
        for lead in range(n_leads):
            total = 0.0
            for t in range(n_samples[r]):
                total += data[first[r] + t * n_leads + lead]
            means[r, lead] = total / n_samples[r]


@compiled
def _places(step: float, start: int, last: int, left: Array, weight: Array) -> None:
    """Find the left neighbour of each resampled sample and the weight of the right one.

    A separate loop, which compiles to vector instructions.
    """
    for t in range(len(left)):
        place = (start + t) * step
        # The last sample is the right neighbour, with weight 1.
        i = min(np.int32(place), np.int32(last - 1))
        left[t] = i
        weight[t] = np.float32(place - i)


@compiled
def _crop(
    crop: Array,
    samples: Array,
    stride: int,
    left: Array,
    weight: Array,
    offset: float,
    gain: float,
) -> None:
    """Interpolate one lead of one window; `samples` starts at the lead's first sample."""
    wide = np.uint64(stride)
    for t in range(len(crop)):
        i = np.uint64(left[t]) * wide
        here = np.float32(samples[i])
        there = np.float32(samples[i + wide])
        crop[t] = (here + weight[t] * (there - here) - offset) * gain


@compiled
def fill_windows(
    windows: Array,
    data: Array,
    first: Array,
    n_samples: Array,
    n_resampled: Array,
    base: Array,
    scale: Array,
    window_of: Array,
    starts: Array,
    center: int,
) -> None:
    """Fill `windows` with resampled, centred and scaled crops.

    A sample becomes ``(interpolated - base) * scale``. A short record is padded with zeros on the
    left before the last centring, as in the reference.

    Parameters
    ----------
    windows
        Output, ``(n_windows, length, n_leads)`` float32.
    data
        Packed samples, 1-D, int16 or float32.
    first, n_samples, n_resampled
        ``(n_records,)`` position in `data`, length in `data` and length after resampling.
    base, scale
        ``(n_records, n_leads)`` float32, in the units of `data` and mV per unit.
    window_of
        ``(n_records + 1,)``: record r fills the windows ``window_of[r]`` to ``window_of[r + 1]``.
    starts
        ``(n_windows,)`` first resampled sample of each window.
    center
        One of ``NO_CENTER``, ``CENTER_RECORD`` (`base` holds the mean already),
        ``CENTER_RESAMPLED`` and ``CENTER_WINDOW``.
    """
    length = windows.shape[1]
    n_leads = windows.shape[2]
    left = np.empty(length, np.int32)
    weight = np.empty(length, np.float32)
    for r in range(len(first)):
        n_old = n_samples[r]
        n_new = n_resampled[r]
        step = (n_old - 1) / (n_new - 1) if n_new > 1 else 0.0
        missing = max(0, length - n_new)
        offset = base[r].copy()
        if center == CENTER_RESAMPLED:
            for lead in range(n_leads):
                samples = data[first[r] + lead : first[r] + n_old * n_leads]
                offset[lead] = _resampled_mean(samples, n_leads, n_old, n_new, step)
        for w in range(window_of[r], window_of[r + 1]):
            if n_new != n_old and n_old > 1:
                _places(step, starts[w], n_old - 1, left[missing:], weight[missing:])
            for lead in range(n_leads):
                samples = data[first[r] + lead : first[r] + n_old * n_leads]
                mean, gain = offset[lead], scale[r, lead]
                windows[w, :missing, lead] = 0.0
                crop = windows[w, missing:, lead]
                if n_new == n_old:
                    for t in range(len(crop)):
                        x = np.float32(samples[(starts[w] + t) * n_leads])
                        crop[t] = (x - mean) * gain
                elif n_old == 1:
                    crop[:] = (np.float32(samples[0]) - mean) * gain
                else:
                    _crop(crop, samples, n_leads, left[missing:], weight[missing:], mean, gain)
                if center == CENTER_WINDOW:
                    total = 0.0
                    for t in range(length):
                        total += windows[w, t, lead]
                    windows[w, :, lead] -= np.float32(total / length)


@compiled
def _resampled_mean(samples: Array, stride: int, n_old: int, n_new: int, step: float) -> Any:
    """Return the mean of one whole resampled lead."""
    total = 0.0
    for t in range(n_new):
        place = t * step
        i = min(int(place), max(0, n_old - 2))
        here = np.float32(samples[i * stride])
        there = np.float32(samples[min(i + 1, n_old - 1) * stride])
        total += float(here + np.float32(place - i) * (there - here))
    return np.float32(total / n_new)
