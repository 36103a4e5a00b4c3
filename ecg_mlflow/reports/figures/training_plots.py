"""Pictures of a run, as matplotlib figures that no global state knows of.

matplotlib is imported when a figure is drawn: half a second that a driver need not spend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 2000  # more than the picture has columns of pixels


def learning_curve(
    losses: ArrayLike,
    tests: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    *,
    first_step: int = 1,
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
    first_step
        Iteration of the first loss.
    steps
        Iterations of all losses, shape (n_iterations,), where some are left out.
    title
        Above the picture.
    """
    loss = np.asarray(losses, dtype=np.float64).ravel()
    if steps is None:
        steps = np.arange(first_step, first_step + len(loss))
    steps = np.asarray(steps)
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
        for number, (name, (when, values)) in enumerate(tests.items()):
            axes[1].plot(
                np.asarray(when), np.asarray(values), "o-", color=f"C{number + 1}",
                markersize=4, label=name,
            )  # fmt: skip
        axes[1].set_ylabel("test")
        axes[1].legend(loc="best", frameon=False)
    axes[-1].set_xlabel("iteration")
    for axis in axes:
        _plain(axis)
    figure.suptitle(title)
    return figure


def confusion_matrix(matrix: ArrayLike, classes: Sequence[str], *, title: str = "") -> Figure:
    """Draw a confusion matrix: counts as text, the share within each true class as colour.

    Parameters
    ----------
    matrix
        Records, shape (n_classes, n_classes): rows are the labels, columns the predictions.
    classes
        Names in that order.
    title
        Above the picture.

    Raises
    ------
    ValueError
        The matrix is not square or there is not one name for each class.
    """
    counts = np.asarray(matrix)
    n = len(classes)
    if counts.shape != (n, n):
        raise ValueError(
            f"a confusion matrix of shape {counts.shape} came with {n} class names"
            f" {list(classes)}; its shape must be ({n}, {n})"
        )
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros((n, n)), where=rows > 0)
    figure = _figure((1.7 + 0.9 * n, 1.4 + 0.8 * n))
    axis = figure.subplots()
    axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for i, j in np.ndindex(n, n):
        axis.text(
            j, i, f"{counts[i, j]}\n{shares[i, j]:.0%}", ha="center", va="center",
            color="white" if shares[i, j] > 0.55 else "black",
        )  # fmt: skip
    axis.set_xticks(range(n), classes)
    axis.set_yticks(range(n), classes)
    axis.set_xlabel("predicted")
    axis.set_ylabel("label")
    axis.set_title(title)
    return figure


def class_counts(
    targets: ArrayLike, said: ArrayLike, classes: Sequence[str], *, title: str = ""
) -> Figure:
    """Draw, for records that may be of several classes, how many were found, missed and invented.

    Parameters
    ----------
    targets, said
        Which classes the records are of and which they are said to be, bool, shape
        (n_records, n_classes).
    classes
        Names in that order.
    title
        Above the picture.
    """
    truly, called = np.asarray(targets, bool), np.asarray(said, bool)
    counts = ((truly & called).sum(0), (truly & ~called).sum(0), (~truly & called).sum(0))
    n = len(classes)
    figure = _figure((6.0, 1.6 + 0.4 * n))
    axis = figure.subplots()
    left = np.zeros(n)
    looks = (("found", "C0"), ("missed", "0.8"), ("said without being it", "C3"))
    for (name, color), count in zip(looks, counts, strict=True):
        bars = axis.barh(range(n), count, left=left, color=color, label=name, height=0.7)
        axis.bar_label(bars, [f"{one}" if one else "" for one in count], label_type="center")
        left += count
    axis.set_yticks(range(n), classes)
    axis.invert_yaxis()
    axis.set_xlabel("records")
    axis.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axis.set_title(title, pad=28)
    _plain(axis)
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


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
