from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures import Score, interval_plot


def scores(n, seed=0, long=False):
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        repetitions = tuple(rng.uniform(0.6, 0.9) + rng.normal(0, 0.02, 3))
        mean = float(np.mean(repetitions))
        name = f"layout=cna, filters=[8, 16, {i}]" + ", dropout=0.123456789" * (8 * long)
        found.append(
            Score(name, mean, (mean - 0.06, mean + 0.05), (mean - 0.03, mean + 0.03), repetitions,
                  mean > 0.85, ("smallest", "fastest") if i == n // 2 else (), 10 * i + 7)
        )  # fmt: skip
    return found


def data(artists):
    return [tuple(np.round(artist.get_xdata(), 9)) for artist in artists]


@pytest.mark.parametrize(("n", "long"), [(1, False), (2, False), (4, True), (26, True)])
def test_best_come_first_with_all_their_intervals(n, long, named, legible):
    given = scores(n, long=long)
    figure = interval_plot(given, "test_f1", title="A study " * 40)
    (axes,) = figure.axes
    order = sorted(given, key=lambda score: -score.mean)
    means = named(axes, "mean")
    assert [mean.get_ydata()[0] for mean in means] == list(range(n))
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is the upper one
    assert data(means) == [(round(score.mean, 9),) for score in order]
    assert data(named(axes, "over records")) == [tuple(np.round(s.over_records, 9)) for s in order]
    assert data(named(axes, "over repetitions")) == [
        tuple(np.round(s.over_repetitions, 9)) for s in order
    ]
    assert data(named(axes, "repetitions")) == [tuple(np.round(s.repetitions, 9)) for s in order]
    thick, thin = named(axes, "over records")[0], named(axes, "over repetitions")[0]
    assert thick.get_linewidth() > 3 * thin.get_linewidth()
    low, high = axes.get_xlim()
    assert low < min(s.mean - 0.06 for s in given)
    assert high > max(s.mean + 0.05 for s in given)
    legible(figure)


def test_rows_and_their_texts_are_at_one_height(texts):
    figure = interval_plot(scores(7), "test_f1")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    ranks = [text for text in figure.texts if text.get_text().isdigit()]
    assert [text.get_text() for text in ranks] == ["1", "2", "3", "4", "5", "6", "7"]
    for row, rank in enumerate(ranks):
        height = rank.get_transform().transform(rank.get_position())[1]
        assert height == pytest.approx(axes.transData.transform((0, row))[1], abs=0.5)


def test_group_is_shaded_and_marks_are_written(named, texts):
    given = scores(26)
    figure = interval_plot(given, "test_f1")
    order = sorted(given, key=lambda score: -score.mean)
    shaded = [patch.get_y() + patch.get_height() / 2 for patch in named(figure, "group")]
    assert shaded == [row for row, score in enumerate(order) if score.in_group]
    assert "smallest, fastest" in texts(figure)
    assert "can't be told from the best" in texts(figure)
    assert "can't be told from the best" not in texts(interval_plot([Score("a", 0.5)], "f1"))


def test_of_130_the_best_and_the_marked_are_drawn(named, texts, legible):
    given = scores(130, long=True)
    figure = interval_plot(given, "test_f1", title="A large study")
    order = sorted(given, key=lambda score: -score.mean)
    (marked,) = [rank for rank, score in enumerate(order, 1) if score.marks]
    assert marked > 40
    ranks = [int(text.get_text()) for text in figure.texts if text.get_text().isdigit()]
    assert ranks == [*range(1, 40), marked]
    assert "90 of 130 configurations, worse ones, are left out" in texts(figure)
    assert len(named(figure, "left out")) == 1  # a line where ranks are missing
    legible(figure)


def test_lower_may_be_better(named):
    figure = interval_plot(
        [Score("a", 0.3), Score("b", 0.1), Score("c", 0.2)], "log_loss", higher_is_better=False
    )
    assert data(named(figure, "mean")) == [(0.1,), (0.2,), (0.3,)]


def test_undefined_metrics_come_last(texts, named, legible):
    figure = interval_plot([Score("a", float("nan")), Score("b", 0.1)], "roc_auc")
    shown = texts(figure)
    assert shown.index("b") < shown.index("a")
    assert "not defined" in shown
    legible(figure)


def test_names_are_not_formulas(texts, legible):
    figure = interval_plot([Score("_cost $5 to $10 {x", 0.5)], "f_1 $x$", title="$a$ $b")
    assert {"_cost $5 to $10 {x", "f_1 $x$", "$a$ $b"} <= set(texts(figure))
    legible(figure)


def test_nothing_to_draw():
    with pytest.raises(PredictionsError, match="at least one"):
        interval_plot([], "test_f1")
