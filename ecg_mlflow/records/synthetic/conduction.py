"""What a diagnosis changes of a person's heart: the heights that each wave has in each lead.

The criteria are those of Surawicz et al., "AHA/ACCF/HRS recommendations for the standardization and
interpretation of the electrocardiogram, part III: intraventricular conduction disturbances",
Circulation 119(10), 2009: in right bundle branch block rsR' in V1 and V2 and a broad S in I and V6;
in left bundle branch block no septal q, a broad notched R in I, aVL, V5 and V6, and QS or rS in V1
to V3; in both a T wave against the end of the QRS complex. A left axis lies beyond -30 degrees.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.records.synthetic.waves import SOURCES, Heart

Floats = NDArray[np.float64]

LEFT_BLOCK, RIGHT_BLOCK, LEFT_AXIS = "left bundle branch block", "right bundle branch block", "axis"
_ROW = {name: row for row, name in enumerate(SOURCES)}
#: Sources that belong to the ventricles of a sinus beat, in whose order the axis is turned.
_VENTRICULAR = ("Q", "R", "S", "late", "T")
_V1, _V2, _V3, _V4, _V5, _V6 = range(2, 8)


def right_block(rng: np.random.Generator, heart: Heart) -> Heart:
    """Return the heart with a late terminal force to the right and forward.

    The rhythm's `qrs` makes the late source negative: a negative height here is an R' there.
    """
    mv = heart.projection.copy()
    size = _size(mv)
    late, s, t = _ROW["late"], _ROW["S"], _ROW["T"]
    mv[late, [_V1, _V2, _V3]] = -size * np.array([0.75, 0.6, 0.25]) * rng.uniform(0.8, 1.25)
    mv[late, [_V4, _V5, _V6]] = size * np.array([0.1, 0.28, 0.3]) * rng.uniform(0.8, 1.2)
    mv[late, :2] = size * np.array([0.30, 0.12]) * rng.uniform(0.8, 1.2)
    mv[s, [_V1, _V2, _V3]] *= (0.45, 0.55, 0.8)
    mv[t, [_V1, _V2]] = -size * np.array([0.16, 0.12]) * rng.uniform(0.7, 1.3, 2)
    return replace(heart, projection=mv)


def left_block(rng: np.random.Generator, heart: Heart) -> Heart:
    """Return the heart with its forces to the left and back, late ones too.

    The rhythm's `qrs` turns the T wave against them: it is upright in V1 to V3 then.
    """
    mv = heart.projection.copy()
    size = _size(mv)
    q, r, s, late, t = (_ROW[name] for name in ("Q", "R", "S", "late", "T"))
    mv[q] = 0.0
    mv[r, [_V1, _V2, _V3, _V4]] *= (0.3, 0.25, 0.3, 0.6)
    mv[s, [_V1, _V2, _V3, _V4]] *= (1.1, 1.15, 1.3, 1.2)
    mv[s, [_V5, _V6]] = 0.0
    mv[s, :2] *= 0.3
    mv[late, 2:] = size * np.array([-0.7, -0.9, -0.7, 0.1, 0.6, 0.7]) * rng.uniform(0.8, 1.2)
    mv[late, :2] = size * np.array([0.6, 0.25]) * rng.uniform(0.8, 1.2)
    mv[t, [_V1, _V2, _V3]] = -size * np.array([0.3, 0.45, 0.4]) * rng.uniform(0.8, 1.2)
    mv[t, 0] = max(mv[t, 0], 0.2 * size)
    return replace(heart, projection=mv)


def left_axis(rng: np.random.Generator, heart: Heart) -> Heart:
    """Return the heart with its ventricular forces turned to -35 to -65 degrees in frontal plane.

    All of them but the T wave's are turned by one angle, so that the complexes keep their form;
    leads III and aVF become negative, aVL positive.
    """
    mv = heart.projection.copy()
    now = _axis(mv[_ROW["R"], :2])
    turn = np.deg2rad(rng.uniform(-65.0, -38.0)) - now
    for name in _VENTRICULAR[:-1]:
        one, foot = _plane(mv[_ROW[name], :2])
        x = one * np.cos(turn) - foot * np.sin(turn)
        y = one * np.sin(turn) + foot * np.cos(turn)
        mv[_ROW[name], :2] = x, _lead_two(x, y)
    return replace(heart, projection=mv)


def usual_axis(rng: np.random.Generator, heart: Heart) -> Heart:
    """Return the heart with its axis between 0 and 75 degrees: what no diagnosis speaks of."""
    degrees = np.rad2deg(_axis(heart.projection[_ROW["R"], :2]))
    if 0.0 <= degrees <= 75.0:
        return heart
    mv = heart.projection.copy()
    turn = np.deg2rad(rng.uniform(10.0, 65.0) - degrees)
    for name in _VENTRICULAR:
        one, foot = _plane(mv[_ROW[name], :2])
        x = one * np.cos(turn) - foot * np.sin(turn)
        mv[_ROW[name], :2] = x, _lead_two(x, one * np.sin(turn) + foot * np.cos(turn))
    return replace(heart, projection=mv)


def _size(projection: Floats) -> float:
    """How tall a person's complexes are, 1 for the average."""
    usual = SOURCES["R"][3]
    return float(np.mean(projection[_ROW["R"], 2:] / np.array(usual)))


def _plane(leads: Floats) -> tuple[float, float]:
    """Leads I and II as a vector: to the left hand, and to the feet."""
    one, two = float(leads[0]), float(leads[1])
    return one, (two - one * np.cos(np.deg2rad(60))) / np.sin(np.deg2rad(60))


def _lead_two(left: float, foot: float) -> float:
    """Lead II of a vector: its share in the direction of 60 degrees."""
    return float(left * np.cos(np.deg2rad(60)) + foot * np.sin(np.deg2rad(60)))


def _axis(leads: Floats) -> float:
    """Angle of a source in the frontal plane, in radians; lead I lies at 0."""
    one, foot = _plane(leads)
    return float(np.arctan2(foot, one))
