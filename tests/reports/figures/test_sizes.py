from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures import Score, size_plot
from ecg_mlflow.reports.figures.scores import count, pareto_front


def scores(n, seed=0, sizes=(500, 500_000)):
    rng = np.random.default_rng(seed)
    exponents = rng.uniform(*np.log10(sizes), n)
    exponents[n // 2 :] = exponents[0]  # many configurations differ in what costs no parameters
    means = rng.uniform(0.6, 0.9, n)
    return [
        Score(f"filters={i}" + ", dropout=0.5" * 12, mean, (mean - 0.05, mean + 0.05), (), (),
              mean > 0.85, ("smallest",) if i == 3 else (), round(10**exponent))
        for i, (mean, exponent) in enumerate(zip(means, exponents, strict=True))
    ]  # fmt: skip


def ranks_at(figure, named):
    """Where each rank is written, in pixels."""
    return {
        text.get_text(): text.get_transform().transform(text.get_position())
        for text in named(figure, "rank")
    }


@pytest.mark.parametrize("n", [1, 2, 4, 26, 130])
@pytest.mark.parametrize("sizes", [(500, 500_000), (1000, 1100), (10, 10**8), (800, 4000)])
def test_points_bars_and_ranks(n, sizes, named, legible):
    given = scores(n, sizes=sizes)
    figure = size_plot(given, "test_f1", title=f"{n} configurations")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    points = sorted(tuple(box.lines[0].get_xydata()[0]) for box in axes.containers)
    assert points == sorted((score.parameters, score.mean) for score in given)
    heights = [np.ptp(np.array(box.lines[2][0].get_segments())[0, :, 1]) for box in axes.containers]
    np.testing.assert_allclose(heights, 0.1)
    ticks = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] < tick < axes.get_xlim()[1]]
    assert 1 <= len(ticks) <= 12
    assert "1" in ranks_at(figure, named)
    assert len(named(figure, "marked")) == (n > 3)
    legible(figure)


def test_a_rank_stands_nearest_to_its_point(named):
    given = [Score("a", 0.9, parameters=100), Score("b", 0.8, parameters=10_000)]
    figure = size_plot(given, "f1")
    (axes,) = figure.axes
    for rank, score in (("1", given[0]), ("2", given[1])):
        point = axes.transData.transform((score.parameters, score.mean))
        assert np.linalg.norm(ranks_at(figure, named)[rank] - point) < 6 * 6  # 6 mm


def test_ranks_are_clear_of_points(named):
    figure = size_plot(scores(26), "test_f1")
    (axes,) = figure.axes
    figure.draw_without_rendering()
    for text in named(figure, "rank"):
        box = text.get_window_extent()
        for one in axes.containers:
            x, y = axes.transData.transform(one.lines[0].get_xydata()[0])
            assert not (box.x0 < x < box.x1 and box.y0 < y < box.y1)


def test_key_names_best_marked_and_front(texts):
    given = scores(130)
    figure = size_plot(given, "test_f1")
    order = sorted(given, key=lambda score: -score.mean)
    ranks = {rank for rank, score in enumerate(order, 1) if score.marks or rank == 1}
    ranks |= {order.index(score) + 1 for score in pareto_front(given)}
    listed = [text.get_text() for text in figure.texts if text.get_text().isdigit()]
    assert {f"{rank}" for rank in ranks} <= set(listed)
    assert "smallest" in texts(figure)


def test_front_is_what_nothing_smaller_beats(named):
    given = [
        Score("a", 0.7, parameters=100), Score("b", 0.8, parameters=1000),
        Score("c", 0.75, parameters=5000), Score("d", 0.9, parameters=9000),
        Score("e", 0.6, parameters=100), Score("f", 0.9, parameters=20_000),
    ]  # fmt: skip
    assert [score.name for score in pareto_front(given)] == ["a", "b", "d"]
    assert [score.name for score in pareto_front(given, higher_is_better=False)] == ["e"]
    (line,) = named(size_plot(given, "f1"), "front")
    assert line.get_xdata().tolist() == [100, 1000, 9000]
    assert line.get_drawstyle() == "steps-post"


def test_group_looks_different():
    inside = Score("a", 0.9, in_group=True, parameters=9)
    figure = size_plot([inside, Score("b", 0.8, parameters=9)], "f1")
    first, second = (box.lines[0] for box in figure.axes[0].containers)
    assert first.get_marker() != second.get_marker()
    assert first.get_markerfacecolor() != second.get_markerfacecolor()


def test_unknown_sizes_are_left_out(texts, legible):
    given = [Score("a", 0.9, parameters=9), Score("b", 0.95), Score("c", np.nan, parameters=9)]
    figure = size_plot(given, "f1")
    assert "2 of 3 configurations have no such number and are left out" in texts(figure)
    assert [text.get_text() for text in figure.texts].count("2") == 1  # as interval_plot ranks it
    legible(figure)
    with pytest.raises(PredictionsError, match="none of 1"):
        size_plot(given[1:2], "f1")


@pytest.mark.parametrize(
    ("parameters", "text"), [(850, "850"), (2400, "2.4k"), (11_200_000, "11.2M"), (999, "999")]
)
def test_counts(parameters, text):
    assert count(parameters) == text
