from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import EcgMlflowError
from ecg_mlflow.reports.figures.counts import MOST_BARS, bar_chart, histogram, round_edges


def test_bars_have_names_and_numbers(texts, legible):
    figure = bar_chart({"N": 5050, "A": 738, "a $very$ long name " * 9: 1}, title="Classes")
    shown = texts(figure)
    assert {"N", "A", "5,050", "738", "1", "Classes"} <= set(shown)
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [5050, 738, 1]
    legible(figure)


def test_many_bars_are_cut(texts):
    figure = bar_chart({str(i): 100 - i for i in range(MOST_BARS + 5)})
    assert len(figure.axes[0].patches) == MOST_BARS
    assert "The first 40 of 45 are shown." in texts(figure)


def test_a_histogram_holds_all_values(legible):
    values = np.array([9.0, 9.5, 30.0, 30.0, 30.2, 60.0, 61.0])
    figure = histogram(values, "length in s", title="Lengths")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert sum(heights) == len(values)
    legible(figure)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([9.0, 61.0], [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65]),
        ([10.0, 10.0], [10, 11]),
        ([0.0, 1.0], [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ([7.0, 1800.0], [0, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800]),
    ],
)
def test_edges_are_round(values, expected):
    assert round_edges(values).tolist() == pytest.approx(expected)


def test_any_range_is_covered():
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.lognormal(0, 3, 5)
        edges = round_edges(values, 10)
        assert edges[0] <= values.min()
        assert values.max() <= edges[-1]
        assert len(edges) <= 11
        assert np.histogram(values, edges)[0].sum() == 5


def test_nothing_to_draw():
    with pytest.raises(EcgMlflowError, match=r"given are \{\}"):
        bar_chart({})
    with pytest.raises(EcgMlflowError, match="a histogram is drawn of numbers"):
        histogram([], "s")
