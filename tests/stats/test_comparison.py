"""Comparisons: figures against those of the tables, groups and winners in domain terms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated import answers, better, difficulties, equal_models, table

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.comparison import Candidate, compare, winner


def candidates(seed: int = 0, extras=(1.5, 0.0, 0.0), n: int = 600, repetitions: int = 3):
    """Configurations that find more and alarm less by so much, three trainings each."""
    rng = np.random.default_rng(seed)
    records = difficulties(rng, n, share=0.2)
    found = []
    for i, extra in enumerate(extras):
        trained = tuple(answers(rng, records, **better(extra)) for _ in range(repetitions))
        found.append(Candidate(f"net {i}", trained, 1000.0 * (i + 1), 10.0 - i))
    return found


def by_name(comparison):
    return {one.name: one for one in comparison.standings}


def test_means_and_spreads_are_those_of_the_repetitions():
    given = candidates()
    found = compare(given, ["roc_auc", "log_loss"], "f1", n_resamples=200)
    assert found.metrics == ("f1", "roc_auc", "log_loss")
    for candidate in given:
        one = by_name(found)[candidate.name]
        for name in found.metrics:
            each = [repetition.metrics[name] for repetition in candidate.repetitions]
            estimate = one.estimates[name]
            assert estimate.mean == pytest.approx(np.mean(each))
            assert estimate.sd == pytest.approx(np.std(each, ddof=1))
            assert estimate.each == pytest.approx(each)
            assert estimate.mean in estimate.over_records
            assert estimate.mean in estimate.over_repetitions
    assert found.leader.name == "net 0"
    f1 = [one.estimates["f1"].mean for one in found.standings]
    assert f1 == sorted(f1, reverse=True)


def test_pairs_are_told_from_both_sides():
    found = compare(candidates(), [], "f1", n_resamples=400)
    pairs = found.pairs
    means = [one.estimates["f1"].mean for one in found.standings]
    assert pairs.differences[0, 1] == pytest.approx(means[0] - means[1])
    assert pairs.differences[0, 1] > 0
    assert pairs.p_values[0, 1] == pairs.p_values[1, 0]
    one, other = pairs.interval(0, 1), pairs.interval(1, 0)
    assert one.low == pytest.approx(-other.high)
    assert (one.low + one.high) / 2 == pytest.approx(pairs.differences[0, 1])
    # The order of the candidates changes nothing.
    turned = compare(candidates()[::-1], [], "f1", n_resamples=400)
    assert [s.name for s in turned.standings] == [s.name for s in found.standings]
    np.testing.assert_allclose(turned.pairs.p_values, pairs.p_values, atol=0.02)


def test_who_is_clearly_worse_is_not_in_the_group():
    found = compare(candidates(extras=(2.0, 1.9, -0.5)), [], "f1", n_resamples=1000)
    assert {one.name for one in found.group} == {"net 0", "net 1"}
    assert by_name(found)["net 2"].p_value < 0.05


def test_rules_take_different_winners():
    found = compare(candidates(extras=(0.0, 0.3, 0.3)), [], "f1", n_resamples=400)
    assert winner(found, "mean") is found.leader
    lows = {one.name: one.estimates["f1"].over_records.low for one in found.standings}
    assert winner(found).name == max(lows, key=lows.get)
    assert winner(found, "smallest") is found.smallest
    with pytest.raises(PredictionsError, match="none of lower_bound, mean, smallest"):
        winner(found, "largest")


def test_the_highest_lower_bound_is_not_always_that_of_the_best_mean():
    """Three trainings that err in the same records make a mean less sure than three that don't."""
    alike = Candidate("alike", (table(range(40)),) * 3)
    apart = Candidate("apart", tuple(table(range(i, i + 42)) for i in (0, 42, 84)))
    found = compare([alike, apart], [], "accuracy")
    bounds = {one.name: one.estimates["accuracy"].over_records for one in found.standings}
    assert bounds["alike"].low < bounds["apart"].low < bounds["apart"].high < bounds["alike"].high
    assert winner(found, "mean").name == "alike"
    assert winner(found, "lower_bound").name == "apart"


def test_of_losses_the_lowest_upper_bound_wins_and_not_the_lowest_lower_bound():
    """One model is never sure, another one very sure and sometimes wrong: 0.511 and 0.502 nats."""
    careful = Candidate("careful", (table(sure=0.6),))
    bold = Candidate("bold", (table(range(45), sure=0.98),))
    found = compare([careful, bold], [], "log_loss")
    losses = {one.name: one.estimates["log_loss"] for one in found.standings}
    assert losses["careful"].mean == pytest.approx(-np.log(0.6))
    assert losses["bold"].mean == pytest.approx((-45 * np.log(0.02) - 355 * np.log(0.98)) / 400)
    assert losses["bold"].mean < losses["careful"].mean < losses["bold"].over_records.high
    assert losses["bold"].over_records.low < losses["careful"].over_records.low
    assert winner(found, "mean").name == "bold"
    assert winner(found, "lower_bound").name == "careful"


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_the_smallest_and_the_fastest_are_of_the_group_of_the_best(metric):
    """Two models err in 20 and 21 records; one that errs in 120 is the smallest and fastest."""
    given = [
        Candidate("poor", (table(range(120)),), parameters=10.0, ms_per_record=1.0),
        Candidate("fast", (table(range(21)),), parameters=3000.0, ms_per_record=2.0),
        Candidate("small", (table(range(380, 400)),), parameters=2000.0, ms_per_record=3.0),
    ]
    found = compare(given, [], metric)
    assert [one.name for one in found.group] == ["small", "fast"]
    assert found.leader is found.smallest is winner(found, "smallest")
    assert (found.leader.name, found.fastest.name) == ("small", "fast")
    larger = [given[1], replace(given[2], parameters=None)]
    assert winner(compare(larger, [], metric), "smallest").name == "fast"


def test_the_seed_is_charged_only_for_what_the_records_do_not_explain():
    """Trainings that err in other records differ by their records; in more records, by the seed."""
    equally_good = tuple(table(range(i, i + 20)) for i in (0, 20, 40))
    found = compare([Candidate("a", equally_good)], [], "accuracy").spread
    assert found.freedom == 2
    assert found.total == pytest.approx(0, abs=1e-12)
    # Of two such trainings the accuracies differ with 40 errors in 400: variance 40 / 400**2.
    assert found.by_records == pytest.approx(0.5 * 40 / 400**2, rel=0.1)
    assert found.variance == 0

    better_and_worse = tuple(table(range(n)) for n in (10, 20, 30))
    found = compare([Candidate("a", better_and_worse)], [], "accuracy").spread
    assert found.total == pytest.approx((10 / 400) ** 2)
    # By 10 errors from each to the next: the mean of the three pairs' variances, halved.
    by_pairs = [n / 400**2 - (n / 400) ** 2 / 400 for n in (10, 10, 20)]
    assert found.by_records == pytest.approx(np.mean(by_pairs) / 2, rel=0.1)
    assert found.variance == pytest.approx(found.total - found.by_records)


def test_one_repetition_says_nothing_of_the_seed_and_the_notes_say_so():
    found = compare(candidates(repetitions=1), [], "f1", n_resamples=200)
    assert "not with the seed of the training" in found.notes[0]
    estimate = found.leader.estimates["f1"]
    assert np.isnan(estimate.sd)
    assert not estimate.over_repetitions.is_known


def test_what_the_seed_does_widens_the_pairs_intervals():
    """Trainings that differ in quality make differences less sure; copies of one do not."""
    rng = np.random.default_rng(0)
    records = difficulties(rng, 600, share=0.2)
    steady, moody = [], []
    for i in range(3):
        first = answers(rng, records)
        steady.append(Candidate(f"{i}", (first,) * 3))
        moods = (-1.0, 0.0, 1.0)
        each = tuple(replace(first, probabilities=tilted(first, mood)) for mood in moods)
        moody.append(Candidate(f"{i}", each))
    narrow, wide = (compare(one, [], "f1", n_resamples=1000) for one in (steady, moody))
    assert wide.spread.freedom == narrow.spread.freedom == 6
    width = [one.pairs.interval(0, 1) for one in (narrow, wide)]
    assert width[1].high - width[1].low > 1.2 * (width[0].high - width[0].low)


def tilted(predictions, mood: float):
    odds = np.log(predictions.probabilities[:, 1] / predictions.probabilities[:, 0]) + mood
    p = 1 / (1 + np.exp(-odds))
    return np.stack([1 - p, p], axis=1)


def test_a_repetition_that_does_not_define_a_metric_is_left_out_of_the_mean():
    good, other = equal_models(np.random.default_rng(0), 2, 100)
    never = replace(other, probabilities=np.tile([1.0, 0.0], (100, 1)))
    given = [Candidate("some", (good, never)), Candidate("none", (never,))]
    found = compare(given, [], "precision", n_resamples=50)
    estimate = by_name(found)["some"].estimates["precision"]
    assert estimate.mean == pytest.approx(good.metrics["precision"])
    assert np.isnan(by_name(found)["none"].estimates["precision"].mean)
    assert found.standings[-1].name == "none"


def test_what_can_not_be_compared_is_an_error():
    given = candidates()
    with pytest.raises(PredictionsError, match="several candidates are called net 0"):
        compare([given[0], given[0]], [], "f1")
    with pytest.raises(PredictionsError, match="at least one repetition"):
        compare([Candidate("a", ())], [], "f1")
    (short,) = candidates(extras=(0.0,), n=100)
    with pytest.raises(PredictionsError, match="the same records"):
        compare([given[0], replace(short, name="short")], [], "f1")


@pytest.mark.parametrize("n_sets", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_equal_configurations_are_seldom_told_apart(n_sets):
    """Ten configurations, equal but for the luck of each training, in many test sets."""
    wrong = 0
    for seed in range(n_sets):
        rng = np.random.default_rng([seed, 5])
        records, given = difficulties(rng, 600, share=0.2), []
        for i in range(10):
            shifts = (3.2 + rng.normal(0, 0.15) for _ in range(3))
            each = tuple(answers(rng, records, shift=shift) for shift in shifts)
            given.append(Candidate(str(i), each))
        wrong += len(compare(given, [], "f1", n_resamples=500, seed=seed).group) < 10
    print("a configuration put out of the group:", wrong / n_sets)
    assert wrong / n_sets <= 0.05 + 3 * (0.05 * 0.95 / n_sets) ** 0.5
