"""Which run of a study is promoted, and how many others it was picked from on the test records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from ecg_mlflow.errors import PromotionError
from ecg_mlflow.reports.options import ComparisonOptions
from ecg_mlflow.reports.study_results import Configuration, Results, TrainedRun
from ecg_mlflow.reports.winner import choose_run
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.stored_study import StoredStudy

STUDY = StoredStudy(None, "study", "0", "waves", "FINISHED", {}, {}, "")
N_RECORDS = 200


def right_but_in(n_wrong: int, sure: float = 0.9) -> Predictions:
    """Classify as many A as N, err in the first records, and be so sure of every answer."""
    targets = np.arange(N_RECORDS) % 2
    predicted = np.where(np.arange(N_RECORDS) < n_wrong, 1 - targets, targets)
    p = np.where(predicted == 0, sure, 1 - sure)
    names = tuple(f"r{i:03d}" for i in range(N_RECORDS))
    return Predictions(names, targets, np.stack([p, 1 - p], axis=1), ("A", "N"), "A")


def configuration(
    name: str,
    tested: Sequence[Predictions],
    validated: Sequence[Predictions] | None = None,
    parameters: float = 1000.0,
) -> Configuration:
    """Make a configuration's repetitions, called name-0, name-1, ..."""
    metrics = {"trainable_parameters": parameters}
    runs = tuple(
        TrainedRun(
            StoredRun(
                f"{name}-{i}",
                "FINISHED",
                metrics=metrics,
                configuration={"options": {}, "repetition": i},
            ),
            "best",
            test,
            None if validated is None else validated[i],
        )
        for i, test in enumerate(tested)
    )
    return Configuration(name, {"net": name}, STUDY, runs)


def study(*configurations: Configuration) -> Results:
    side = "validation" if configurations[0].runs[0].validation else "test"
    return Results((STUDY,), configurations, side, ())


def wrong(*counts: int) -> list[Predictions]:
    return [right_but_in(count) for count in counts]


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


def test_without_validation_records_it_is_picked_from_all_runs_by_their_test_records():
    good, poor = configuration("good", wrong(12, 8)), configuration("poor", wrong(40, 41, 42))
    found = choose_run(study(good, poor), ComparisonOptions("accuracy", resamples=200))
    assert found.run.record.run_id == "good-1"
    expected = [run.test for one in (good, poor) for run in one.runs]
    assert list(found.candidates) == expected


def test_who_chooses_by_hand_has_seen_all_test_figures():
    good = configuration("good", tested=wrong(12, 8), validated=wrong(12, 8))
    poor = configuration("poor", tested=wrong(40, 41), validated=wrong(40, 41))
    found = choose_run(study(good, poor), ComparisonOptions("accuracy"), "poor-1")
    assert (found.configuration, found.run) == (poor, poor.runs[1])
    assert list(found.candidates) == [run.test for one in (good, poor) for run in one.runs]
    with pytest.raises(PromotionError, match=r"run poor-2 is no run of waves .* good-0, poor-0"):
        choose_run(study(good, poor), ComparisonOptions("accuracy"), "poor-2")


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
    careful = configuration("careful", [right_but_in(0, sure=0.6)])
    bold = configuration("bold", [right_but_in(22, sure=0.98)])
    assert chosen(study(careful, bold), "log_loss", "mean") == "bold-0"
    assert chosen(study(careful, bold), "log_loss", "lower_bound") == "careful-0"


def test_a_repetition_that_does_not_define_the_metric_is_not_promoted():
    # Of no record predicted as A there is no precision.
    never = replace(right_but_in(0), probabilities=np.tile([0.1, 0.9], (N_RECORDS, 1)))
    good = configuration("good", [never, right_but_in(60), never])
    assert chosen(study(good), "precision") == "good-1"
    assert chosen(study(configuration("never", [never]), good), "precision") == "good-1"
