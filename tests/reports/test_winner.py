"""Which run of a study is promoted, and how many others it was picked from on the test records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from simulated import table

from ecg_mlflow.errors import PromotionError
from ecg_mlflow.reports.options import ComparisonOptions
from ecg_mlflow.reports.study_results import Configuration, Results, TrainedRun
from ecg_mlflow.reports.winner import choose_run
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.stored_study import StoredStudy

STUDY = StoredStudy(None, "study", "0", "waves", "FINISHED", {}, {}, "")
N_RECORDS = 200


def configuration(
    name: str,
    tested: Sequence[Predictions],
    validated: Sequence[Predictions] | None = None,
    parameters: float = 1000.0,
) -> Configuration:
    """Make a configuration's repetitions, called name-0, name-1, ..."""
    rows = []
    for i, test in enumerate(tested):
        child = StoredRun(
            f"{name}-{i}",
            "FINISHED",
            metrics={"trainable_parameters": parameters},
            configuration={"options": {}, "repetition": i},
        )
        rows.append(TrainedRun(child, "best", test, validated[i] if validated else None))
    return Configuration(name, tuple(rows))


def study(*configurations: Configuration) -> Results:
    side = "validation" if configurations[0].runs[0].validation else "test"
    return Results((STUDY,), configurations, side, ())


def wrong(*counts: int) -> list[Predictions]:
    """Models that err in so many of the first records."""
    return [table(range(count), N_RECORDS) for count in counts]


def chosen(results: Results, metric: str = "accuracy", rule: str = "lower_bound") -> str:
    return choose_run(
        results, ComparisonOptions(metric, resamples=200, rule=rule)
    ).run.record.run_id


@pytest.mark.parametrize("metric", ["f1", "accuracy", "log_loss", "brier"])
@pytest.mark.parametrize("rule", ["lower_bound", "mean"])
def test_the_best_repetition_of_the_best_configuration_wins(metric, rule):
    # The single best run is of the configuration that is worse in the mean.
    good = configuration("good", wrong(12, 8, 16))
    poor = configuration("poor", wrong(40, 4, 40))
    for given in ((good, poor), (poor, good)):
        assert chosen(study(*given), metric, rule) == "good-1"


@pytest.mark.parametrize("metric", ["f1", "log_loss"])
def test_both_are_chosen_by_validation_records_where_there_are_some(metric):
    # By the test records it would be lucky-0.
    good = configuration("good", tested=wrong(20, 30, 40), validated=wrong(9, 6, 3))
    lucky = configuration("lucky", tested=wrong(0, 0, 0), validated=wrong(30, 31, 32))
    found = choose_run(study(lucky, good), ComparisonOptions(metric, resamples=200))
    assert found.run.record.run_id == "good-2"
    assert found.configuration is good
    assert found.candidates == ()


def test_runs_that_were_picked_with_a_look_at_the_test_records_are_the_candidates():
    good, poor = configuration("good", wrong(12, 8)), configuration("poor", wrong(40, 41, 42))
    found = choose_run(study(good, poor), ComparisonOptions("accuracy", resamples=200))
    assert found.run.record.run_id == "good-1"
    assert list(found.candidates) == [run.test for one in (good, poor) for run in one.runs]
    # Who chooses by hand has seen all test figures.
    good, poor = (configuration(f"{n}", wrong(n, 8), wrong(n, 8)) for n in (12, 40))
    found = choose_run(study(good, poor), ComparisonOptions("accuracy"), "40-1")
    assert (found.configuration, found.run) == (poor, poor.runs[1])
    assert list(found.candidates) == [run.test for one in (good, poor) for run in one.runs]
    with pytest.raises(PromotionError, match=r"run 40-2 is no run of waves .* 12-0, 40-0"):
        choose_run(study(good, poor), ComparisonOptions("accuracy"), "40-2")


def test_by_size_the_smallest_of_the_group_of_the_best_wins():
    # 9 and 10 errors don't differ significantly; 90 do.
    large = configuration("large", wrong(9), parameters=3000)
    small = configuration("small", wrong(10), parameters=2000)
    tiny = configuration("tiny", wrong(90), parameters=10)
    for metric in ("accuracy", "log_loss"):
        assert chosen(study(large, tiny, small), metric, "smallest") == "small-0"
        assert chosen(study(large, tiny, small), metric, "mean") == "large-0"


def test_of_losses_the_lowest_upper_bound_wins():
    # Never sure: 0.511 nats, always. Very sure and sometimes wrong: 0.49 on the average.
    careful = configuration("careful", [table((), N_RECORDS, sure=0.6)])
    bold = configuration("bold", [table(range(22), N_RECORDS, sure=0.98)])
    assert chosen(study(careful, bold), "log_loss", "mean") == "bold-0"
    assert chosen(study(careful, bold), "log_loss", "lower_bound") == "careful-0"


def test_a_repetition_that_does_not_define_the_metric_is_not_promoted():
    # Of no record predicted as A there is no precision.
    never = replace(table((), N_RECORDS), probabilities=np.tile([0.1, 0.9], (N_RECORDS, 1)))
    good = configuration("good", [never, *wrong(60), never])
    assert chosen(study(good), "precision") == "good-1"
    assert chosen(study(configuration("never", [never]), good), "precision") == "good-1"
