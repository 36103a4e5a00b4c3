"""What the plots of curves share: a title, and a square from 0 to 1 in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_mlflow.reports.figures.sheet import PALETTE, TEXT_PT, place, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

MOST_CURVES = len(PALETTE)
LEFT, SIDE, TOP = 17.0, 82.0, 16.0


def square(figure: Figure, x: float, y: float, across: str, up: str) -> Axes:
    """Axes from 0 to 1 in both directions."""
    axes = place(figure, x, y, SIDE, SIDE)
    plain_axes(axes)
    ticks = np.linspace(0, 1, 6)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=ticks, yticks=ticks)
    named(axes, across, up)
    return axes


def named(axes: Axes, across: str, up: str) -> None:
    """Name the axes."""
    axes.set_xlabel(across, fontsize=TEXT_PT)
    axes.set_ylabel(up, fontsize=TEXT_PT)
