"""The test of a gain: against tables that are written out, and in simulations of luck."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from simulated import answers, better, difficulties, equal_models, predictions_of
from sklearn.metrics import f1_score

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.bootstrap import resample_weights
from ecg_mlflow.stats.comparison import Candidate, compare, winner
from ecg_mlflow.stats.gain import GainTest, gain_test
from ecg_mlflow.stats.metrics import higher_is_better
from ecg_mlflow.stats.predictions import Predictions


def certain(targets: np.ndarray, predicted: np.ndarray) -> Predictions:
    return predictions_of(targets, np.eye(2)[predicted], ("NO", "A"))


def test_the_p_value_is_that_of_tables_written_out():
    champion, *rivals = equal_models(np.random.default_rng(4), 4, 120, share=0.3)
    found = gain_test(rivals[0], champion, candidates=rivals, n_resamples=300, seed=2)

    def f1(one, rows):
        return f1_score(one.targets[rows], one.predicted[rows])

    everything = np.arange(120)
    gains = np.array([f1(one, everything) - f1(champion, everything) for one in rivals])
    drawn = [np.repeat(everything, w) for w in resample_weights(120, 300, 2)]
    resampled = np.array([[f1(one, rows) - f1(champion, rows) for rows in drawn] for one in rivals])
    errors = resampled.std(axis=1, ddof=1)
    largest = ((resampled - gains[:, None]) / errors[:, None]).max(axis=0)
    freedom = min(champion.is_positive.sum(), (~champion.is_positive).sum()) - 1
    own = stats.norm.isf(stats.t.sf(gains[0] / errors[0], freedom))
    assert found.gain == pytest.approx(gains[0])
    assert found.p_value == pytest.approx((1 + (largest >= own).sum()) / 301)
    reach = stats.t.isf(stats.norm.sf(np.quantile(largest, 0.975)), freedom) * errors[0]
    assert found.interval.low == pytest.approx(gains[0] - reach)


@pytest.mark.parametrize("better", [3, 5, 8])
def test_a_few_records_count_as_in_the_sign_test(better):
    # The challenger is right where the champion is, and in a few records more. Resampled, their
    # number is Poisson's.
    targets = np.arange(1000) % 2
    wrong = np.where(np.arange(1000) < 100, 1 - targets, targets)
    less_wrong = np.where(np.arange(1000) < 100 - better, 1 - targets, targets)
    found = gain_test(
        certain(targets, less_wrong), certain(targets, wrong), "accuracy", n_resamples=9999
    )
    assert found.p_value == pytest.approx(stats.poisson.sf(2 * better - 1, better), abs=0.01)
    assert found.p_value == pytest.approx(0.5**better, abs=0.05)


def test_the_same_answers_are_no_gain_and_what_does_not_vary_is_no_evidence():
    one, other = equal_models(np.random.default_rng(0), 2, 100)
    found = gain_test(one, one, candidates=[one, other])
    assert (found.gain, found.p_value) == (0, 1)
    targets = np.arange(40) % 2
    found = gain_test(certain(targets, targets), certain(targets, 1 - targets), "accuracy")
    assert (found.gain, found.p_value) == (1, 1)


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_a_gain_is_for_the_challenger_where_less_is_better(metric):
    records = difficulties(np.random.default_rng(0), 500)
    poor, good = (answers(np.random.default_rng(1), records, own=own) for own in (3.0, 0.1))
    assert not higher_is_better(metric)
    found = gain_test(good, poor, metric, n_resamples=500)
    assert found.gain == pytest.approx(poor.metrics[metric] - good.metrics[metric])
    assert found.gain > found.interval.low > 0
    assert found.p_value == 1 / 501
    assert gain_test(poor, good, metric, n_resamples=500).p_value == 1


def test_who_was_picked_of_many_needs_a_larger_gain():
    champion, *rivals = equal_models(np.random.default_rng(3), 21, 400)
    best = max(rivals, key=lambda one: one.metrics["f1"])
    found = [gain_test(best, champion, candidates=rivals[:n]) for n in (0, 5, 20)]
    p_values = [one.p_value for one in found]
    assert p_values == sorted(p_values)
    assert p_values[2] > 2 * p_values[0]
    widths = [one.interval.high - one.interval.low for one in found]
    assert widths == sorted(widths)


def test_the_challenger_is_one_of_the_candidates_anyway():
    champion, *rivals = equal_models(np.random.default_rng(3), 6, 200)
    again = replace(rivals[0], records=tuple(rivals[0].records))
    found = gain_test(again, champion, candidates=rivals)
    assert found == gain_test(rivals[0], champion, candidates=rivals[1:])


def test_records_of_one_patient_are_one_piece_of_evidence():
    champion, rival = equal_models(np.random.default_rng(5), 2, 300)

    patients, alone = np.repeat(np.arange(300), 3), gain_test(rival, champion)
    without = rival.take(patients), champion.take(patients)
    found = gain_test(*(replace(one, groups=patients) for one in without))
    assert found == GainTest(pytest.approx(alone.gain), alone.interval, alone.p_value)
    assert gain_test(*without).p_value < alone.p_value


def test_a_metric_that_is_not_defined_is_an_error():
    champion, rival = equal_models(np.random.default_rng(0), 2, 50)
    never = replace(rival, probabilities=np.tile([1.0, 0.0], (50, 1)))
    with pytest.raises(PredictionsError, match=r"precision is not defined .* they have accuracy"):
        gain_test(never, champion, "precision")
    # Nor was such a candidate picked.
    assert gain_test(rival, champion, "precision", candidates=[never]).p_value <= 1
    with pytest.raises(PredictionsError, match="f3: no metric"):
        gain_test(rival, champion, "f3")
    with pytest.raises(PredictionsError, match="only where they are of the same records"):
        gain_test(rival.take(np.arange(49)), champion)


# Simulations: 40 configurations and a champion, on 1,000 test records with 100 positive ones.

ALPHA = 0.05


def best_of(models) -> int:
    """Which model the stated rule takes."""
    candidates = [Candidate(str(i), (one,)) for i, one in enumerate(models)]
    return int(winner(compare(candidates, [], "f1", n_resamples=400), "lower_bound").name)


def promotions(extra: float, n_seeds: int) -> dict[str, float]:
    """How often a promotion happens where one of 40 models may be better than the champion."""
    models = [better(0)] * 39 + [better(extra)]
    promoted = dict.fromkeys(("corrected", "not corrected", "validated"), 0)
    for seed in range(n_seeds):
        rng = np.random.default_rng([seed, 7])
        records, others = difficulties(rng, 1000), difficulties(rng, 500)
        champion = answers(rng, records)
        test = [answers(rng, records, **model) for model in models]
        validation = [answers(rng, others, **model) for model in models]
        picked, validated = test[best_of(test)], test[best_of(validation)]
        for name, challenger, candidates in zip(
            promoted, (picked, picked, validated), (test, (), ()), strict=True
        ):
            options = {"candidates": candidates, "n_resamples": 1000, "seed": seed}
            promoted[name] += gain_test(challenger, champion, **options).p_value <= ALPHA
    return {name: count / n_seeds for name, count in promoted.items()}


@pytest.mark.parametrize("n_seeds", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_of_equal_models_few_are_promoted(n_seeds):
    shares = promotions(0, n_seeds)
    # What it may be by the luck of so many seeds.
    at_most = ALPHA + 3 * (ALPHA * (1 - ALPHA) / n_seeds) ** 0.5
    assert max(shares["corrected"], shares["validated"]) <= at_most
    # What the correction is for.
    assert shares["not corrected"] > 5 * ALPHA


@pytest.mark.parametrize(
    ("n_seeds", "least"), [(20, 0.55), pytest.param(200, 0.8, marks=pytest.mark.nightly)]
)
def test_a_difference_that_the_intervals_resolve_is_promoted(n_seeds, least):
    # The F1 of such a model is above the others' by the width of its own interval over records.
    shares = promotions(0.827, n_seeds)
    assert min(shares["corrected"], shares["validated"]) >= least
