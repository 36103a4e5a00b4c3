"""Figures of one run: its losses and tests, and its confusion matrix.

matplotlib is imported when a figure is drawn: half a second that a driver need not spend.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_mlflow.reports.figures.sheet import plain_axes
from ecg_mlflow.stats.scores import ScoredRecords

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_POINTS = 2000  # more than the picture has columns of pixels


def learning_curve(
    losses: ArrayLike,
    tests: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    *,
    steps: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Draw the loss of every iteration, its running median, and the test metrics below.

    Parameters
    ----------
    losses
        Shape (n_iterations,).
    tests
        For each test metric the iterations of the tests and its values, each of shape (n_tests,).
        Metrics between 0 and 1 are meant to share the axis.
    steps
        Iterations of all losses, shape (n_iterations,); by default from 0 on.
    title
        Above the picture.
    """
    loss = np.asarray(losses, dtype=np.float64).ravel()
    steps = np.arange(len(loss)) if steps is None else np.asarray(steps)
    figure = _figure((7.0, 5.5 if tests else 3.5))
    axes = figure.subplots(2 if tests else 1, 1, sharex=True, squeeze=False)[:, 0]
    every = max(1, len(loss) // MOST_POINTS)
    shown = "each iteration" if every == 1 else f"one iteration in {every}"
    axes[0].plot(steps[::every], loss[::every], ".", color="0.75", markersize=3, label=shown)
    middle, smooth = _running_median(steps, loss)
    axes[0].plot(middle, smooth, color="C0", label="median")
    axes[0].set_ylabel("loss")
    finite = loss[np.isfinite(loss)]
    if len(finite) and finite.min() > 0 and finite.max() > 30 * np.median(finite):
        axes[0].set_yscale("log")
    axes[0].legend(loc="upper right", frameon=False)
    if tests:
        for number, (name, (when, values)) in enumerate(tests.items(), start=1):
            axes[1].plot(when, values, "o-", color=f"C{number}", markersize=4, label=name)
        axes[1].set_ylabel("test")
        axes[1].legend(loc="best", frameon=False)
    axes[-1].set_xlabel("iteration")
    for axis in axes:
        plain_axes(axis)
    figure.suptitle(title)
    return figure


def confusion_plot(scored: ScoredRecords, *, title: str = "") -> Figure:
    """Draw which classes were predicted for which.

    Where a record is of one class, that is the confusion matrix: rows are the labels, columns the
    predictions, counts as text, and the share within each true class as colour. Where it may be of
    several, there are bars for each class: records found, missed, and falsely predicted.

    Parameters
    ----------
    scored
        The evaluation.
    title
        Above the picture.
    """
    return _class_bars(scored, title) if scored.is_multilabel else _matrix(scored, title)


def _matrix(scored: ScoredRecords, title: str) -> Figure:
    counts, classes = scored.confusion, scored.classes
    n = len(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _figure((1.7 + 0.9 * n, 1.4 + 0.8 * n))
    axes = figure.subplots()
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for i, j in np.ndindex(n, n):
        axes.text(
            j, i, f"{counts[i, j]}\n{shares[i, j]:.0%}", ha="center", va="center",
            color="white" if shares[i, j] > 0.55 else "black",
        )  # fmt: skip
    axes.set_xticks(range(n), classes)
    axes.set_yticks(range(n), classes)
    axes.set(xlabel="predicted", ylabel="label", title=title)
    return figure


def _class_bars(scored: ScoredRecords, title: str) -> Figure:
    truth, predicted = scored.truth_by_class, scored.predicted_by_class
    n = len(scored.classes)
    figure = _figure((6.0, 1.6 + 0.4 * n))
    axes = figure.subplots()
    left = np.zeros(n)
    for name, colour, mask in (
        ("found", "C0", truth & predicted),
        ("missed", "0.8", truth & ~predicted),
        ("predicted without being it", "C3", ~truth & predicted),
    ):
        counts = mask.sum(axis=0)
        bars = axes.barh(range(n), counts, left=left, color=colour, label=name, height=0.7)
        axes.bar_label(bars, [f"{one}" if one else "" for one in counts], label_type="center")
        left += counts
    axes.set_yticks(range(n), scored.classes)
    axes.invert_yaxis()
    axes.set_xlabel("records")
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes.set_title(title, pad=28)
    plain_axes(axes)
    return figure


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=120, layout="constrained")


def _running_median(
    steps: NDArray[np.int_], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Medians of up to 50 blocks of neighbouring iterations, and the middles of the blocks."""
    blocks = [block for block in np.array_split(np.arange(len(values)), 50) if len(block)]
    middles = np.array([steps[block].mean() for block in blocks])
    return middles, np.array([np.median(values[block]) for block in blocks])
