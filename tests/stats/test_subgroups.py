"""Groups of records: who is in which, and their metrics."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import equal_models

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.subgroups import subgroups

METRICS = ("f1", "sensitivity", "specificity")


@pytest.fixture(scope="module")
def model():
    (found,) = equal_models(np.random.default_rng(0), 1, n=400, share=0.3)
    return found


def table(model, values, **options):
    return subgroups(model, values, "column", METRICS, n_resamples=200, **options)


def test_words_are_groups_and_their_metrics_those_of_their_records(model):
    values = ["F" if i % 4 else "M" for i in range(400)]
    rows = table(model, values)
    assert [row.group for row in rows] == ["F", "M"]
    assert [row.n_records for row in rows] == [300, 100]
    men = model.take(np.arange(0, 400, 4))
    assert rows[1].n_positive == men.is_positive.sum()
    for name in METRICS:
        assert rows[1].metrics[name] == pytest.approx(men.metrics[name])
        assert rows[1].metrics[name] in rows[1].intervals[name]
    assert rows[1].intervals["specificity"].high - rows[1].intervals["specificity"].low > (
        rows[0].intervals["specificity"].high - rows[0].intervals["specificity"].low
    )


@pytest.mark.parametrize(
    ("values", "expected"),  # numbers are cut at their quartiles
    [
        ([5] * 100 + [6] * 200 + list(range(7, 107)), {"<6": 100, "6": 200, ">=7": 100}),
        ([0] * 350 + list(range(1, 51)), {"<1": 350, ">=1": 50}),
        (
            [str(10**6 + i) for i in range(400)],
            {"<1000100": 100, "1000100-1000199": 100, "1000200-1000299": 100, ">=1000300": 100},
        ),
        (
            [i / 8 for i in range(400)],
            {"<12.5": 100, "12.5-25": 100, "25-37.5": 100, ">=37.5": 100},
        ),
        ([str(10 * (i % 4)) for i in range(400)], {"0": 100, "10": 100, "20": 100, "30": 100}),
        ([None] * 400, {"unknown": 400}),
        ([None, "", "x", float("nan")] * 100, {"x": 100, "unknown": 300}),
        (["inf"] * 100 + ["3"] * 300, {"3": 300, "inf": 100}),
        # The rarest of many words are together.
        (
            [chr(97 + i % 20) for i in range(380)] + ["t"] * 20,
            {**dict.fromkeys("abcdefghij", 19), "t": 39, "other": 171},
        ),
    ],
)
def test_groups_are_called_by_what_is_in_them(model, values, expected):
    found = {row.group: row.n_records for row in table(model, values)}
    assert list(found.items()) == list(expected.items())


def test_a_group_without_positive_records_has_no_f1(model):
    values = ["positive" if one else "negative" for one in model.is_positive]
    negative = table(model, values)[0]
    assert negative.n_positive == 0
    assert np.isnan(negative.metrics["sensitivity"])
    # It would be 0, for its false alarms alone.
    assert np.isnan(negative.metrics["f1"])
    assert np.isnan(negative.intervals["f1"].low)
    assert np.isnan(negative.intervals["sensitivity"].low)
    assert 0 < negative.metrics["specificity"] < 1
    cells = negative.cells()
    assert cells["column"] == "column"
    assert {"group", "records", "positive", "f1", "f1_low", "f1_high"} <= set(cells)


def test_as_many_values_as_records(model):
    with pytest.raises(PredictionsError, match="column has 399 values for 400 records"):
        table(model, ["x"] * 399)
