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


def test_the_order_of_the_candidates_changes_nothing():
    found, turned = (
        compare(given, [], "f1", n_resamples=400) for given in (candidates(), candidates()[::-1])
    )
    means = [one.estimates["f1"].mean for one in found.standings]
    assert found.pairs.differences[0, 1] == pytest.approx(means[0] - means[1])
    assert [s.name for s in turned.standings] == [s.name for s in found.standings]
    np.testing.assert_allclose(turned.pairs.p_values, found.pairs.p_values, atol=0.02)


def test_the_highest_lower_bound_is_not_always_that_of_the_best_mean():
    # Trainings that err in the same records make a mean less sure than some that don't.
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
    assert found.standings[-1].p_value < 0.05
    assert found.leader is found.smallest is winner(found, "smallest")
    assert (found.leader.name, found.fastest.name) == ("small", "fast")
    larger = [given[1], replace(given[2], parameters=None)]
    assert winner(compare(larger, [], metric), "smallest").name == "fast"


def test_the_seed_is_charged_only_for_what_the_records_do_not_explain():
    """Trainings that err in other records differ by their records; in more records, by the seed."""

    def compared(*repetitions):
        """Compare two configurations with these same trainings: only the seed parts them."""
        found = compare([Candidate(name, repetitions) for name in "ab"], [], "accuracy")
        variance = found.spread.variance
        assert found.pairs.errors[0, 1] == pytest.approx((2 * variance / 3) ** 0.5, abs=1e-9)
        return found.spread

    found = compared(*(table(range(i, i + 20)) for i in (0, 20, 40)))
    assert found.freedom == 4
    assert found.total == pytest.approx(0, abs=1e-12)
    # Of two such trainings the accuracies differ with 40 errors in 400: variance 40 / 400**2.
    assert found.by_records == pytest.approx(0.5 * 40 / 400**2, rel=0.1)
    assert found.variance == 0

    found = compared(*(table(range(n)) for n in (10, 20, 30)))
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
    one, short = Candidate("a", (table(),)), Candidate("b", (table(n=100),))
    for given, message in (
        ((one, one), "several candidates are called a"),
        ((Candidate("a", ()),), "at least one repetition"),
        ((one, short), "the same records"),
    ):
        with pytest.raises(PredictionsError, match=message):
            compare(given, [], "f1")
    found = compare([one], [], "f1")
    for rule, message in (("largest", "none of lower_bound"), ("smallest", "parameter counts")):
        with pytest.raises(PredictionsError, match=message):
            winner(found, rule)


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
    assert wrong / n_sets <= 0.05 + 3 * (0.05 * 0.95 / n_sets) ** 0.5
