"""All pairs at once, against Tukey's range test and Student's distribution."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from ecg_mlflow.stats.pairs import SeedSpread, compare_pairs

LOTS = 10**9


def compared(values, resampled, spread=None, repetitions=1, freedom=LOTS, level=0.95):
    return compare_pairs(
        np.asarray(values, float),
        resampled,
        np.full(len(values), repetitions),
        spread or SeedSpread(),
        freedom=freedom,
        level=level,
        seed=0,
    )


def normal_resamples(values, error: float, n: int = 20_000) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, error, (len(values), n))
    return np.asarray(values)[:, None] + noise


@pytest.mark.parametrize("freedom", [LOTS, 20])
def test_independent_normal_values_get_tukeys_p_values(freedom):
    values, error = [0.9, 0.87, 0.84, 0.8, 0.79], 0.015
    found = compared(values, normal_resamples(values, error), freedom=freedom)
    for i, j in combinations(range(5), 2):
        ratio = (values[i] - values[j]) / (error * 2**0.5)
        ratio = stats.norm.isf(stats.t.sf(ratio, freedom))
        expected = stats.studentized_range.sf(ratio * 2**0.5, 5, np.inf)
        assert found.differences[i, j] == pytest.approx(values[i] - values[j])
        assert found.errors[i, j] == pytest.approx(error * 2**0.5, rel=0.03)
        assert found.p_values[i, j] == pytest.approx(expected, abs=0.015)
        assert found.p_values[i, j] == found.p_values[j, i]
    reach = stats.studentized_range.ppf(0.95, 5, np.inf) / 2**0.5
    assert found.critical == pytest.approx(stats.t.isf(stats.norm.sf(reach), freedom), rel=0.02)
    half, interval = found.critical * found.errors[0, 3], found.interval(0, 3)
    assert (interval.low, interval.high) == pytest.approx((0.1 - half, 0.1 + half))


def test_what_candidates_share_is_no_difference():
    values = [0.9, 0.88]
    shared = np.random.default_rng(1).normal(0, 0.1, 5000)
    resampled = normal_resamples(values, 0.002, 5000) + shared
    found = compared(values, resampled)
    assert found.errors[0, 1] == pytest.approx(0.002 * 2**0.5, rel=0.05)


def test_undefined_values_tell_nothing_and_one_candidate_has_no_pairs():
    resampled = normal_resamples([0.9, 0.8], 0.01, 500)[[0, 0, 1]]
    resampled[2] = np.nan
    found = compared([0.9, 0.9, np.nan], resampled)
    assert (found.p_values[0, 1], found.errors[0, 1]) == (1, 0)  # the same one twice
    assert np.isnan(found.p_values[2]).all()
    resampled = normal_resamples([0.9, 0.8], 0.02, 5000)
    whole = compared([0.9, 0.8], resampled).p_values[0, 1]
    resampled[0, :50] = np.nan
    assert compared([0.9, 0.8], resampled).p_values[0, 1] == pytest.approx(whole, abs=0.01)
    assert compared([0.9], normal_resamples([0.9], 0.01, 100)).p_values.tolist() == [[1]]


def test_the_seed_s_changes_are_students():
    spread = SeedSpread(total=0.04, freedom=6)
    drawn = spread.draw(np.random.default_rng(0), 40_000, np.array([4.0, 1.0]))
    for row, repetitions in zip(drawn, (4, 1), strict=True):
        shares = stats.t.cdf(row / (0.2 / repetitions**0.5), 6)
        assert stats.kstest(shares, "uniform").statistic < 0.01
    # One variance for all: where one changes much, others do.
    assert np.corrcoef(np.abs(drawn))[0, 1] > 0.1
    assert abs(np.corrcoef(drawn)[0, 1]) < 0.03


def test_what_the_records_do_is_not_counted_twice():
    large, none = SeedSpread(0.04, 0.01, 10_000), SeedSpread()
    for spread, variance in ((large, 0.03), (SeedSpread(0.01, 0.04, 6), 0), (none, 0)):
        assert spread.variance == pytest.approx(variance)
    for spread, variance in ((large, 0.03), (none, 0)):
        drawn = spread.draw(np.random.default_rng(0), 20_000, np.array([1.0]))
        assert drawn.var() == pytest.approx(variance, rel=0.05)


def test_of_the_seed_only_what_the_records_do_not_show_makes_differences_less_sure():
    values = [0.9, 0.86]
    resampled = normal_resamples(values, 0.01, 5000)
    sure = compared(values, resampled, repetitions=3)
    # Of a variance of 0.0020 between repetitions, 0.0008 is due to these records: 0.0012 is left.
    for total, by_records, left in ((12, 0, 12), (20, 8, 12), (20, 20, 0)):
        spread = SeedSpread(total / 10_000, by_records / 10_000, 20)
        found = compared(values, resampled, spread, repetitions=3)
        expected = (2 * (0.0001 + left / 30_000)) ** 0.5
        assert found.errors[0, 1] == pytest.approx(expected, rel=0.03)
        assert found.errors[0, 0] == 0
        if left:
            assert found.p_values[0, 1] > 0.05 > sure.p_values[0, 1]
