"""Forest plots: which rows there are, in which order, with which intervals and texts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from comparisons import comparison_of, several, standing

from ecg_mlflow.reports.figures import interval_plot, subgroup_plot
from ecg_mlflow.stats.intervals import UNKNOWN, Interval
from ecg_mlflow.stats.subgroups import Subgroup


def data(artists):
    return [tuple(np.round(artist.get_xdata(), 9)) for artist in artists]


def ends(interval):
    return tuple(np.round((interval.low, interval.high), 9))


@pytest.mark.parametrize(("n", "long"), [(1, False), (2, False), (4, True), (26, True)])
def test_best_come_first_with_all_their_intervals(n, long, named, texts, legible):
    given = several(n, words=12 * long)
    figure = interval_plot(given, title="A study " * 40)
    (axes,) = figure.axes
    estimates = [one.estimates["f1"] for one in given.standings]
    means, over = named(axes, "mean"), named(axes, "over repetitions")
    assert [mean.get_ydata()[0] for mean in means] == list(range(n))
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is the upper one
    assert data(means) == [(round(one.mean, 9),) for one in estimates]
    assert data(named(axes, "over records")) == [ends(one.over_records) for one in estimates]
    assert data(over) == [ends(one.over_repetitions) for one in estimates]
    assert data(named(axes, "repetitions")) == [tuple(np.round(one.each, 9)) for one in estimates]
    assert named(axes, "over records")[0].get_linewidth() > 3 * over[0].get_linewidth()
    low, high = axes.get_xlim()
    assert low < min(one.over_records.low for one in estimates)
    assert high > max(one.over_records.high for one in estimates)
    shaded = [patch.get_y() + patch.get_height() / 2 for patch in named(figure, "group")]
    assert shaded == [row for row, one in enumerate(given.standings) if one.in_group]
    assert ("smallest" in texts(figure)) is (len(shaded) > 1)
    ranks = [text for text in figure.texts if text.get_text().isdigit()]
    assert [text.get_text() for text in ranks] == [f"{rank + 1}" for rank in range(n)]
    for row, rank in enumerate(ranks):
        height = rank.get_transform().transform(rank.get_position())[1]
        assert height == pytest.approx(axes.transData.transform((0, row))[1], abs=0.5)
    legible(figure)


def test_many_are_cut_but_the_marked_stay(named, texts, legible):
    given = several(130, words=12)
    figure = interval_plot(given, title="A large study")
    (marked,) = [rank for rank, one in enumerate(given.standings, 1) if given.marks(one)]
    assert marked > 40
    ranks = [int(text.get_text()) for text in figure.texts if text.get_text().isdigit()]
    assert ranks == [*range(1, 40), marked]
    assert "90 of 130 configurations, worse ones, are left out" in texts(figure)
    assert len(named(figure, "left out")) == 1  # a line where ranks are missing
    legible(figure)


def test_undefined_metrics_come_last_and_names_are_not_formulas(texts, legible):
    name = "_cost $5 to $10 {x"
    given = comparison_of(standing("a", math.nan), standing(name, 0.1))
    figure = interval_plot(given, title="$a$ $b")
    shown = texts(figure)
    assert shown.index(name) < shown.index("a")
    assert {"not defined", "0.100", "$a$ $b"} <= set(shown)
    legible(figure)


def group(column, name, n, positive, value, low=math.nan, high=math.nan):
    interval = UNKNOWN if math.isnan(low) else Interval(low, high)
    return Subgroup(column, name, n, positive, {"f1": value}, {"f1": interval})


ALL = group("", "all records", 872, 136, 0.776, 0.72, 0.83)
GROUPS = [
    group("age", "under 40", 120, 9, 0.81, 0.6, 0.95),
    group("age", "unknown", 12, 0, math.nan),
    group("sex", "F", 400, 60, 0.77, 0.7, 0.84),
    group("site", "a hospital with a name that is far too long for a column of a plot", 3, 1, 1),
]


def test_subgroups_are_in_the_given_order(named, texts, legible):
    figure = subgroup_plot(GROUPS, "f1", overall=ALL, title="ResNet18")
    shown = texts(figure)
    names = [text for text in shown if ": " in text or text == "all records"]
    assert names[:4] == ["all records", "age: under 40", "age: unknown", "sex: F"]
    assert names[4].startswith("site: a hospital")
    assert "…" in names[4]
    assert {"872", "136", "120", "9", "12", "0", "0.810 [0.600, 0.950]", "not defined"} <= {*shown}
    intervals = named(figure, "interval")
    expected = [(0.72, 0.83), (0.6, 0.95), (math.nan,) * 2, (0.7, 0.84), (math.nan,) * 2]
    np.testing.assert_array_equal([line.get_xdata() for line in intervals], expected)
    assert [line.get_ydata()[0] for line in intervals] == [0, 1, 2, 3, 4]
    assert named(figure, "overall")[0].get_xdata() == [0.776, 0.776]
    # Between all and age, age and sex, sex and site.
    assert [line.get_ydata()[0] for line in named(figure, "column")] == [0.5, 2.5, 3.5]
    legible(figure)


def test_many_subgroups_and_undefined_ones(texts, legible):
    figure = subgroup_plot(GROUPS[:1] * 60, "f1", title="a very long title indeed " * 20)
    assert texts(figure).count("age: under 40") == 40
    assert "20 of 60 subgroups are left out" in texts(figure)
    legible(figure)
    legible(subgroup_plot([GROUPS[1]], "f1"))
