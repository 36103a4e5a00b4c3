"""Bars with names and numbers, and histograms with round edges."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.reports.figures.counts import MOST_BARS, bar_chart, histogram, round_edges


def test_bars_have_names_and_numbers_and_many_are_cut(texts, legible):
    figure = bar_chart({"N": 5050, "A": 738, "a $very$ long name " * 9: 1}, title="Classes")
    assert {"N", "A", "5,050", "738", "1", "Classes"} <= set(texts(figure))
    assert [bar.get_width() for bar in figure.axes[0].patches] == [5050, 738, 1]
    legible(figure)
    many = bar_chart({str(i): 100 - i for i in range(MOST_BARS + 5)})
    assert len(many.axes[0].patches) == MOST_BARS
    assert "The first 40 of 45 are shown." in texts(many)


def test_a_histogram_holds_all_values(texts, legible):
    figure = histogram([9.0, 9.5, 30.0, 30.0, 30.2, 60.0, 61.0], "length in s", title="Lengths")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 2]
    assert {"Lengths", "7 records", "length in s"} <= set(texts(figure))
    legible(figure)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([9.0, 61.0], [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65]),
        ([0.0, 1.0], [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ([7.0, 1800.0], [0, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800]),
        ([4.9, 64.6], [0, 10, 20, 30, 40, 50, 60, 70]),
    ],
)
def test_edges_are_round(values, expected):
    assert round_edges(values).tolist() == pytest.approx(expected)


def test_any_range_is_covered():
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.lognormal(0, 3, 5)
        edges = round_edges(values, 10)
        assert len(edges) <= 11
        assert np.histogram(values, edges)[0].sum() == 5
