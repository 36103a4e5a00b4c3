"""Where labels of points can stand without covering each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Distances from a point in mm, and directions, that are tried; beside is better than above.
_DISTANCES = (3.4, 5.0, 7.5, 10.0, 14.0, 18.0)
_ANGLES = np.pi * np.array([0, 1, 0.25, 0.75, -0.25, -0.75, 0.12, 0.88, -0.12, -0.88, 0.5, -0.5])


def label_places(
    points: Floats, wanted: Sequence[int], sizes: Floats, frame: tuple[float, float]
) -> list[tuple[float, float] | None]:
    """Find a place for the label of each wanted point, one after the other.

    Of the places inside the frame that are clear of the labels before it, a label takes the one
    that covers the fewest points, and of these the nearest.

    Parameters
    ----------
    points
        ``(n_points, 2)`` places of all points in mm.
    wanted
        Which of them get a label, the most important first.
    sizes
        ``(n_wanted, 2)`` width and height of the labels in mm.
    frame
        Width and height of the frame in mm; its lower left corner is (0, 0).

    Returns
    -------
    list
        The middle of each wanted label, None where there was no room.
    """
    turns = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    offsets = np.concatenate([distance * turns for distance in _DISTANCES])
    taken = np.empty((0, 4))
    found: list[tuple[float, float] | None] = []
    for index, size in zip(wanted, sizes, strict=True):
        # A wide label stands farther off to the side.
        sideways = np.sign(offsets[:, 0].round(6)) * (size[0] - size[1]) / 2
        middles = points[index] + offsets + np.stack([sideways, np.zeros(len(offsets))], axis=1)
        boxes = np.concatenate([middles - size / 2, middles + size / 2], axis=1)
        clear = (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] <= frame).all(axis=1)
        clear &= ~_meet(boxes, taken).any(axis=1)
        if not clear.any():
            found.append(None)
            continue
        covered = _meet(boxes, np.concatenate([points - 0.9, points + 0.9], axis=1)).sum(axis=1)
        best = int(np.argmin(np.where(clear, covered, np.inf)))
        taken = np.concatenate([taken, boxes[best : best + 1]])
        found.append((float(middles[best, 0]), float(middles[best, 1])))
    return found


def _meet(boxes: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """Whether each box ``(left, bottom, right, top)`` meets each other: ``(n_boxes, n_others)``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray((low < high).all(axis=2))
