from __future__ import annotations

import math

import pytest

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.reports.figures import Subgroup, subgroup_plot

ALL = Subgroup("", "all records", 872, 136, 0.776, (0.72, 0.83))
GROUPS = [
    Subgroup("age", "under 40", 120, 9, 0.81, (0.6, 0.95)),
    Subgroup("age", "unknown", 12, 0, math.nan),
    Subgroup("sex", "F", 400, 60, 0.77, (0.7, 0.84)),
    Subgroup("site", "a hospital with a name that is far too long for a column of a plot", 3, 1, 1),
]


def test_rows_are_in_the_given_order(named, texts, legible):
    figure = subgroup_plot(GROUPS, "test_f1", overall=ALL, title="ResNet18")
    shown = texts(figure)
    names = [text for text in shown if ": " in text or text == "all records"]
    assert names[:4] == ["all records", "age: under 40", "age: unknown", "sex: F"]
    assert names[4].startswith("site: a hospital")
    assert "…" in names[4]
    for text in ("872", "136", "120", "9", "12", "0", "0.810 [0.600, 0.950]", "not defined"):
        assert text in shown
    assert [tuple(line.get_xdata()) for line in named(figure, "interval")] == [
        (0.72, 0.83), (0.6, 0.95), (0.7, 0.84),
    ]  # fmt: skip
    assert [line.get_ydata()[0] for line in named(figure, "interval")] == [0, 1, 3]
    (line,) = named(figure, "overall")
    assert line.get_xdata() == [0.776, 0.776]
    # Between all and age, age and sex, sex and site.
    assert [line.get_ydata()[0] for line in named(figure, "column")] == [0.5, 2.5, 3.5]
    legible(figure)


def test_too_many_are_left_out(texts, legible):
    figure = subgroup_plot(GROUPS[:1] * 60, "a metric with a very long name indeed " * 5)
    assert texts(figure).count("age: under 40") == 40
    assert "20 of 60 subgroups are left out" in texts(figure)
    legible(figure)


def test_metrics_that_are_nowhere_defined(legible):
    legible(subgroup_plot([GROUPS[1]], "test_f1"))


def test_nothing_to_draw():
    with pytest.raises(PredictionsError, match="at least one"):
        subgroup_plot([], "test_f1")
