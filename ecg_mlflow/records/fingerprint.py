"""Recognise a recording by its content, whatever its name, gain, offset, format or order of leads.

Public data sets hold each other's recordings under other names, some converted: PTB-XL's are a part
of the Challenges of 2020 and 2021. Not recognised is a recording at another sampling frequency, of
another length, or filtered.

Among 7,028 recordings of the Challenge of 2017, 4,948 of them of one length, fingerprints find the
two pairs of copies and no other pair; of 1,500 rewritten in steps of 5 µV they miss one.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.records.grouping import groups_of

#: Stretches of equal length whose mean amplitudes are the features of a recording.
_STRETCHES = 16
#: Features are rounded to cells of this width, three times: each time the cells begin a third of a
#: width later. What conversion to another gain changes (some 1e-4) crosses a border in one of these
#: roundings at most.
_CELL, _ROUNDINGS = 0.05, 3
#: Hex digits of a fingerprint.
DIGITS = 16
#: Correlation of two leads that are one: rounding to 5 µV leaves 0.999 and more.
_SAME = 0.998

#: The fingerprints of a recording; two recordings are one if they share any.
Fingerprints = tuple[str, ...]


def fingerprints(samples: npt.NDArray[Any]) -> Fingerprints:
    """Return the fingerprints of a recording.

    1. Subtract each lead's mean, and take the mean absolute value in each of 16 stretches of time.
    2. Divide by the lead's mean over the stretches, and average over the leads that are not flat.
       Gain, offset and order of leads are gone then.
    3. Round, and hash with the numbers of samples and leads.

    Parameters
    ----------
    samples
        ``(n_samples, n_leads)``, in any units.
    """
    sizes = samples.astype(np.float32)
    sizes -= sizes.mean(axis=0, dtype=np.float64).astype(np.float32)
    np.abs(sizes, out=sizes)
    starts = np.unique(np.arange(_STRETCHES) * len(sizes) // _STRETCHES)
    lengths = np.diff(np.append(starts, len(sizes)))
    means = np.add.reduceat(sizes, starts, axis=0, dtype=np.float64) / lengths[:, None]
    overall = means.mean(axis=0)
    moving = overall > 0
    features = (means[:, moving] / overall[moving]).mean(axis=1) if moving.any() else 0 * starts
    found = []
    for rounding in range(_ROUNDINGS):
        cells = np.floor(features / _CELL + rounding / _ROUNDINGS).astype("<i8")
        content = f"{rounding} {samples.shape} ".encode() + cells.tobytes()
        found.append(hashlib.sha256(content).hexdigest()[:DIGITS])
    return tuple(found)


def same_recordings(
    known: Sequence[Fingerprints], samples: Callable[[int], npt.NDArray[Any]]
) -> list[tuple[int, ...]]:
    """Group the recordings that are one, by their fingerprints and then by all of their samples.

    Parameters
    ----------
    known
        The fingerprints of each recording.
    samples
        Returns the samples of one, ``(n_samples, n_leads)``, by its position.

    Returns
    -------
    Positions of each group of at least two, ascending.
    """
    alike: dict[str, list[int]] = defaultdict(list)
    for position, its in enumerate(known):
        for one in its:
            alike[one].append(position)
    checked = cache(lambda one, other: is_same(samples(one), samples(other)))
    bonds = []
    for positions in alike.values():
        # Recordings that differ from each other, since fingerprints of two may agree by chance.
        heads: list[int] = []
        for position in positions:
            twin = next((head for head in heads if checked(head, position)), None)
            if twin is None:
                heads.append(position)
            else:
                bonds.append((twin, position))
    groups = groups_of(range(len(known)), bonds)
    return [tuple(group) for group in groups if len(group) > 1]


def is_same(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Tell whether each lead of a recording is one of the other's, but for gain and offset."""
    if one.shape != other.shape:
        return False
    correlation = _normalised(one).T @ _normalised(other)
    flat = [np.ptp(samples, axis=0) == 0 for samples in (one, other)]
    if flat[0].sum() != flat[1].sum():
        return False
    best = correlation[~flat[0]][:, ~flat[1]]
    return bool(not best.size or (best.max(axis=1) > _SAME).all())


def _normalised(samples: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Give each lead mean 0 and length 1; a flat one becomes 0."""
    centred = samples.astype(np.float64)
    centred -= centred.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    centred /= np.where(length > 0, length, 1.0)
    return centred
