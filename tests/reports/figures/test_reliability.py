from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures import Reliability, reliability_plot

EDGES = np.linspace(0, 1, 5)


def reliability(name="as trained", note="ECE 0.04", scale=1):
    return Reliability(
        name,
        np.array([0.1, 0.3, np.nan, 0.9]),
        np.array([0.05, 0.5, np.nan, 1.0]),
        np.array([0.01, 0.2, np.nan, 0.8]),
        np.array([0.15, 0.8, np.nan, 1.0]),
        np.array([900, 10, 0, 40]) * scale,
        EDGES,
        note,
    )


def test_shares_wilson_bars_and_counts(named, legible):
    figure = reliability_plot([reliability()], title="ResNet18")
    above, below = figure.axes
    (container,) = above.containers
    points, _, (bars,) = container.lines
    np.testing.assert_array_equal(points.get_xydata(), [[0.1, 0.05], [0.3, 0.5], [0.9, 1.0]])
    ends = np.array(bars.get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, [[0.01, 0.15], [0.2, 0.8], [0.8, 1.0]])
    (counts,) = named(below, "counts")
    np.testing.assert_array_equal(counts.get_data().values, [900, 10, 0, 40])
    np.testing.assert_array_equal(counts.get_data().edges, EDGES)
    assert below.get_ylim()[1] > 900
    assert above.get_xlim() == below.get_xlim()
    legible(figure)


@pytest.mark.parametrize("scale", [1, 1000])
def test_before_and_after(scale, named, texts, legible):
    long = "isotonic regression on the validation records of all three repetitions"
    figure = reliability_plot([reliability(scale=scale), reliability(long, "ECE 0.01 " * 20)])
    assert len(named(figure.axes[1], "counts")) == 2
    assert "as trained\nECE 0.04" in texts(figure)
    assert "perfect" in texts(figure)
    legible(figure)


def test_few_records(legible):
    one = reliability()
    few = Reliability(
        "few", one.probability, one.observed, one.low, one.high, np.array([1, 1, 0, 0]), EDGES
    )
    legible(reliability_plot([few]))


@pytest.mark.parametrize("n", [0, 7])
def test_what_can_not_be_told_apart(n):
    with pytest.raises(PredictionsError, match=f"given are {n}"):
        reliability_plot([reliability()] * n)
