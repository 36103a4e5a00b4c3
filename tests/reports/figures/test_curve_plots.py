"""ROC, precision-recall and reliability curves as a reader sees them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ecg_mlflow.reports.figures import ranking_plot, reliability_plot
from ecg_mlflow.stats.calibration import Reliability
from ecg_mlflow.stats.curves import Curve

X = np.linspace(0, 1, 101)


def curves(n, long=False):
    name = "configuration {}" + " of a long name" * (12 * long)
    heights = [X ** (0.1 * (i + 1)) for i in range(n)]
    return [
        (name.format(i), Curve(X, y, y - 0.05, y + 0.05), "0.932 [0.901, 0.951]")
        for i, y in enumerate(heights)
    ]


@pytest.mark.parametrize(("n", "long"), [(1, False), (4, True), (6, True)])
def test_curves_and_bands(n, long, named, texts, legible):
    given = curves(n, long)
    figure = ranking_plot(given, given, 0.095, title="Leading", level=0.9)
    for axes in figure.axes:
        lines, bands = named(axes, "curve"), named(axes, "band")
        assert len(lines) == len(bands) == n
        for line, band, (_, curve, _) in zip(lines, bands, given, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), curve.y)
            heights = band.get_paths()[0].vertices[:, 1]
            ends = pytest.approx((curve.low.min(), curve.high.max()))
            assert (heights.min(), heights.max()) == ends
            np.testing.assert_allclose(band.get_facecolor()[0, :3], to_rgb(line.get_color()))
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == n
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (0, 1))
    for area in ("AUC", "AP"):
        shown = [one for one in texts(figure) if one.endswith(f"   {area} 0.932 [0.901, 0.951]")]
        assert len(shown) == n
    chances = [list(named(axes, "chance")[0].get_ydata()) for axes in figure.axes]
    assert chances == [[0, 1], [0.095, 0.095]]
    assert {"chance", "prevalence 0.095", "bands: 90%"} <= set(texts(figure))
    legible(figure)


def test_names_are_not_formulas_nor_hidden_and_bands_may_be_missing(texts, legible):
    nothing = np.full(101, np.nan)
    curve = ("_costs $5 or $6", Curve(X, X, nothing, nothing), "")
    figure = ranking_plot([curve], [curve], 0.5)
    assert sum("_costs $5 or $6" in text for text in texts(figure)) == 2
    legible(figure)


def kept(scale=1):
    counts = np.array([90, 1, 9]) * scale
    probability = np.array([0.1, 0.3, 0.9])
    low, observed, high = np.array([[0.01, 0.2, 0.8], [0.05, 0.5, 1.0], [0.15, 0.8, 1.0]])
    return Reliability(probability, observed, low, high, counts, np.repeat(probability, counts))


def test_shares_wilson_bars_and_a_histogram_of_probabilities(named, texts, legible):
    figure = reliability_plot({"as trained": kept()}, title="ResNet18")
    above, below = figure.axes
    points, _, (bars,) = above.containers[0].lines
    np.testing.assert_array_equal(points.get_xydata(), [[0.1, 0.05], [0.3, 0.5], [0.9, 1.0]])
    ends = np.array(bars.get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, [[0.01, 0.15], [0.2, 0.8], [0.8, 1.0]])
    (counts,) = named(below, "counts")
    values, edges = counts.get_data().values, counts.get_data().edges
    np.testing.assert_allclose(edges, np.linspace(0, 1, 21))
    assert values.sum() == 100
    assert values[np.searchsorted(edges, 0.1, "right") - 1] == 90
    assert above.get_xlim() == below.get_xlim()
    # Gaps of 0.05, 0.2 and 0.1, by the records of the bins.
    assert "as trained\nexpected calibration error 0.056" in texts(figure)
    legible(figure)


@pytest.mark.parametrize("scale", [1, 1000])
def test_before_and_after_calibration(scale, named, texts, legible):
    long = "isotonic regression on the validation records of all three repetitions"
    figure = reliability_plot({"as trained": kept(scale), long: kept()})
    assert len(named(figure.axes[1], "counts")) == 2
    assert "perfect" in texts(figure)
    legible(figure)
