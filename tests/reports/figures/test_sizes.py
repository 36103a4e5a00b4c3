"""Size plots: every point with its interval, ranks beside them, names in the list."""

from __future__ import annotations

import math

import numpy as np
import pytest
from comparisons import comparison_of, several, standing
from matplotlib.text import Text

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures import size_plot
from ecg_mlflow.reports.figures.sizes import Point, short_number, size_front


@pytest.mark.parametrize("n", [1, 26, 130])
@pytest.mark.parametrize("sizes", [(500, 500_000), (1000, 1100), (10, 10**8)])
def test_points_bars_ranks_and_the_list(n, sizes, named, legible):
    given = several(n, sizes, words=12)
    figure = size_plot(given, title=f"{n} configurations")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    at = [tuple(box.lines[0].get_xydata()[0]) for box in axes.containers]
    points = [
        Point(rank, one, one.parameters, one.estimates["f1"].mean)
        for rank, one in enumerate(given.standings, 1)
    ]
    assert sorted(at) == sorted((point.size, point.mean) for point in points)
    heights = [np.ptp(np.array(box.lines[2][0].get_segments())[0, :, 1]) for box in axes.containers]
    np.testing.assert_allclose(heights, 0.12)
    ticks = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] < tick < axes.get_xlim()[1]]
    assert 1 <= len(ticks) <= 12
    assert len(named(figure, "marked")) == sum(bool(given.marks(one)) for one in given.standings)
    wanted = {1, *(point.rank for point in points if given.marks(point.one))}
    wanted |= {point.rank for point in size_front(points)}
    listed = {text.get_text() for text in figure.texts if text.get_text().isdigit()}
    written = {text.get_text(): text for text in named(figure, "rank")}
    assert set(written) <= listed
    assert {str(rank) for rank in wanted} <= set(written)
    legible(figure)
    boxes = [Text.get_window_extent(text) for text in written.values()]  # without their lines
    assert all(axes.bbox.contains(*end) for box in boxes for end in box.corners())
    if n == 26:  # ranks are clear of points
        assert not any(box.contains(*xy) for box in boxes for xy in axes.transData.transform(at))


def test_a_rank_stands_nearest_to_its_point_and_the_group_looks_different(named, texts):
    figure = size_plot(
        comparison_of(
            standing("a", 0.9, parameters=100.0, half=0.01, in_group=True),
            standing("b", 0.8, parameters=10_000.0, half=0.01),
        )
    )
    (axes,) = figure.axes
    for text, at in zip(named(figure, "rank"), ((100, 0.9), (10_000, 0.8)), strict=True):
        box = text.get_window_extent()
        right, up = np.subtract((box.min + box.max) / 2, axes.transData.transform(at))
        assert 0 < right < 6 * 6  # 6 mm
        assert abs(up) < 6
    first, second = (box.lines[0] for box in axes.containers)
    assert first.get_marker() != second.get_marker()
    assert first.get_markerfacecolor() != second.get_markerfacecolor()
    assert "not significantly different from the best" in texts(figure)


def test_a_rank_stands_at_the_left_where_another_point_is_at_the_right(named):
    given = [("a", 0.9, 100.0), ("b", 0.9, 117.0), ("c", 0.8, 10_000.0)]
    figure = size_plot(
        comparison_of(*[standing(n, m, half=0.1, parameters=s) for n, m, s in given])
    )
    (axes,) = figure.axes
    assert named(figure, "rank")[0].get_window_extent().x1 < axes.transData.transform((100, 0.9))[0]


def test_a_small_one_on_the_front_is_named_before_the_many_in_the_group(named):
    group = [
        standing(f"{i}", 0.9 - i / 1000, in_group=True, parameters=1000.0 + i) for i in range(20)
    ]
    figure = size_plot(comparison_of(*group, standing("small", 0.5, parameters=10.0)))
    assert "21" in [text.get_text() for text in named(figure, "rank")]


def test_the_front_is_what_nothing_smaller_exceeds(named):
    given = [("a", 0.7, 100), ("b", 0.8, 1000), ("c", 0.75, 5000), ("d", 0.9, 9000),
             ("e", 0.6, 100), ("f", 0.9, 20_000)]  # fmt: skip
    points = [Point(1, standing(name, mean), size, mean) for name, mean, size in given]
    assert [point.one.name for point in size_front(points)] == ["a", "b", "d"]
    assert [point.one.name for point in size_front(points, higher_is_better=False)] == ["e"]
    drawn = comparison_of(*[standing(n, m, half=0.1, parameters=float(s)) for n, m, s in given])
    (line,) = named(size_plot(drawn), "front")
    assert list(line.get_xdata()) == [100, 1000, 9000]
    assert line.get_drawstyle() == "steps-post"


def test_unknown_sizes_are_left_out(texts, legible):
    without = standing("b", 0.95)
    undefined = standing("c", math.nan, parameters=9.0)
    figure = size_plot(comparison_of(standing("a", 0.9, parameters=9.0), without, undefined))
    assert "2 of 3 configurations have no such number and are left out" in texts(figure)
    assert [text.get_text() for text in figure.texts].count("2") == 1  # as interval_plot ranks it
    legible(figure)
    with pytest.raises(PredictionsError, match="none of 1 configurations"):
        size_plot(comparison_of(without))


def test_short_numbers():
    numbers = {850: "850", 2400: "2.4k", 11_200_000: "11.2M", 999: "999"}
    numbers |= {999_999: "1M", 1_500_000_000: "1500M", 0.5: "0.5"}
    assert {number: short_number(number) for number in numbers} == numbers
