"""Which run of a study is promoted, and how many others it was picked from on the test records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from comparisons import configuration, results_of
from simulated import table

from ecg_mlflow.errors import PromotionError
from ecg_mlflow.reports.study_results import ComparisonOptions, Results
from ecg_mlflow.reports.winner import choose_run
from ecg_mlflow.stats.predictions import Predictions

N_RECORDS = 200


def wrong(*counts: int) -> list[Predictions]:
    """Models that err in so many of the first records."""
    return [table(range(count), N_RECORDS) for count in counts]


def chosen(results: Results, metric: str = "accuracy", rule: str = "lower_bound") -> str:
    options = ComparisonOptions(metric, resamples=200, rule=rule)
    return choose_run(results, options).run.record.run_id


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
@pytest.mark.parametrize("rule", ["lower_bound", "mean"])
def test_the_best_repetition_of_the_best_configuration_wins(metric, rule):
    # The single best run is of the configuration that is worse in the mean.
    good = configuration("good", wrong(12, 8, 16))
    poor = configuration("poor", wrong(40, 4, 40))
    for given in ((good, poor), (poor, good)):
        assert chosen(results_of(*given), metric, rule) == "good-1"


@pytest.mark.parametrize("metric", ["f1", "log_loss"])
def test_both_are_chosen_by_validation_records_where_there_are_some(metric):
    # By the test records it would be lucky-0.
    good = configuration("good", tested=wrong(20, 30, 40), validated=wrong(9, 6, 3))
    lucky = configuration("lucky", tested=wrong(0, 0, 0), validated=wrong(30, 31, 32))
    found = choose_run(results_of(lucky, good), ComparisonOptions(metric, resamples=200))
    assert found.run.record.run_id == "good-2"
    assert found.configuration is good
    assert found.candidates == ()


def test_runs_that_were_picked_with_a_look_at_the_test_records_are_the_candidates():
    good, poor = configuration("good", wrong(12, 8)), configuration("poor", wrong(40, 41, 42))
    found = choose_run(results_of(good, poor), ComparisonOptions("accuracy", resamples=200))
    assert found.run.record.run_id == "good-1"
    assert list(found.candidates) == [run.test for one in (good, poor) for run in one.runs]
    # Who chooses by hand has seen all test figures.
    good, poor = (configuration(f"{n}", wrong(n, 8), wrong(n, 8)) for n in (12, 40))
    found = choose_run(results_of(good, poor), ComparisonOptions("accuracy"), "40-1")
    assert (found.configuration, found.run) == (poor, poor.runs[1])
    assert list(found.candidates) == [run.test for one in (good, poor) for run in one.runs]
    with pytest.raises(PromotionError, match=r"run 40-2 is no run of waves .* 12-0, 40-0"):
        choose_run(results_of(good, poor), ComparisonOptions("accuracy"), "40-2")


def test_by_size_the_smallest_of_the_group_of_the_best_wins():
    # 9 and 10 errors don't differ significantly; 90 do.
    large = configuration("large", wrong(9), parameters=3000)
    small = configuration("small", wrong(10), parameters=2000)
    tiny = configuration("tiny", wrong(90), parameters=10)
    for metric in ("accuracy", "log_loss"):
        assert chosen(results_of(large, tiny, small), metric, "smallest") == "small-0"
        assert chosen(results_of(large, tiny, small), metric, "mean") == "large-0"


def test_a_repetition_that_does_not_define_the_metric_is_not_promoted():
    # Of no record predicted as A there is no precision.
    never = replace(table((), N_RECORDS), probabilities=np.tile([0.1, 0.9], (N_RECORDS, 1)))
    good = configuration("good", [never, *wrong(60), never])
    assert chosen(results_of(good), "precision") == "good-1"
    assert chosen(results_of(configuration("never", [never]), good), "precision") == "good-1"
