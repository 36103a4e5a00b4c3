from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures import Curve, ranking_plot

X = np.linspace(0, 1, 101)


def curves(n, long=False):
    return [
        Curve(f"configuration {i}" + " of a long name" * (12 * long), X, X ** (0.1 * (i + 1)),
              X ** (0.1 * (i + 1)) - 0.05, X ** (0.1 * (i + 1)) + 0.05, "0.932 [0.901, 0.951]")
        for i in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize(("n", "long"), [(1, False), (4, True), (6, True)])
def test_curves_and_bands(n, long, named, texts, legible):
    given = curves(n, long)
    figure = ranking_plot(given, given, 0.1, title="Leading")
    for axes in figure.axes:
        lines, bands = named(axes, "curve"), named(axes, "band")
        assert len(lines) == len(bands) == n
        for line, band, curve in zip(lines, bands, given, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), curve.y)
            corners = band.get_paths()[0].vertices
            assert corners[:, 1].min() == pytest.approx(curve.low.min())
            assert corners[:, 1].max() == pytest.approx(curve.high.max())
            np.testing.assert_allclose(band.get_facecolor()[0, :3], to_rgb(line.get_color()))
        looks = {(line.get_color(), line.get_linestyle()) for line in lines}
        assert len(looks) == n
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (0, 1))
    assert sum(text.endswith("   AUC 0.932 [0.901, 0.951]") for text in texts(figure)) == n
    assert sum(text.endswith("   AP 0.932 [0.901, 0.951]") for text in texts(figure)) == n
    legible(figure)


def test_chance_is_the_diagonal_and_the_prevalence(named, texts):
    figure = ranking_plot(curves(1), curves(1), 0.095)
    roc, precision = (named(axes, "chance")[0] for axes in figure.axes)
    assert roc.get_ydata().tolist() == [0, 1]
    assert precision.get_ydata().tolist() == [0.095, 0.095]
    assert "prevalence 0.095" in texts(figure)


def test_more_than_six_are_left_out(named, texts, legible):
    figure = ranking_plot(curves(9), curves(9), 0.1, level=0.9)
    assert [len(named(axes, "curve")) for axes in figure.axes] == [6, 6]
    assert "bands: 90%; 3 more configurations are left out" in texts(figure)
    legible(figure)


def test_curves_without_bands(named):
    figure = ranking_plot([Curve("a", X, X)], [Curve("a", X, X)], 0.5)
    assert not named(figure, "band")


def test_names_are_not_formulas_nor_hidden(texts, legible):
    curve = Curve("_costs $5 or $6", X, X)
    figure = ranking_plot([curve], [curve], 0.5)
    assert sum("_costs $5 or $6" in text for text in texts(figure)) == 2
    legible(figure)


def test_nothing_to_draw():
    with pytest.raises(PredictionsError, match="at least one"):
        ranking_plot([], curves(1), 0.1)
