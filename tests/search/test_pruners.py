"""The rules by which trials are given up."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from ecg_mlflow.errors import SearchError
from ecg_mlflow.search.pruners import (
    Hyperband,
    Median,
    SuccessiveHalving,
    is_among_best,
    make_pruner,
)


@pytest.mark.parametrize(
    ("pruner", "epochs", "rungs"),
    [
        (SuccessiveHalving(), 60, [2, 6, 18, 54]),
        (SuccessiveHalving(), 9, [1, 3]),
        (SuccessiveHalving(), 2, [1]),
        (SuccessiveHalving(), 1, []),
        (SuccessiveHalving(eta=2, min_epochs=3), 24, [3, 6, 12]),
        (Median(), 60, list(range(6, 60))),
        (Median(), 3, [1, 2]),
        (Median(min_epochs=2), 3, [2]),
    ],
)
def test_rungs_lie_before_the_end(pruner, epochs, rungs):
    assert pruner.rungs(0, epochs) == rungs


def test_the_brackets_of_hyperband_begin_later_one_after_the_other():
    pruner, rungs = Hyperband(), [2, 6, 18, 54]
    for number in range(50):
        assert pruner.rungs(number, 60) == rungs[pruner.bracket(number, 60) :]


def test_hyperband_shares_its_trials_out_as_published():
    # n_s is proportional to eta**s / (s + 1), s counted from the last bracket: 81/5, 27/4, 9/3, ...
    counts = Counter(Hyperband().bracket(number, 60) for number in range(5000))
    shares = [math.ceil(5 * 3**s / (s + 1)) for s in (4, 3, 2, 1, 0)]
    for bracket, share in enumerate(shares):
        assert counts[bracket] / 5000 == pytest.approx(share / sum(shares), abs=0.03)


@pytest.mark.parametrize(
    ("merit", "others", "kept"),
    [
        (0.5, [], True),
        (0.5, [0.6], False),
        (0.6, [0.5], True),
        (0.5, [0.6, 0.4, 0.3, 0.2], False),
        (0.5, [0.6, 0.4, 0.3, 0.2, 0.1], True),  # the second of six
        (0.5, [0.5, 0.5], True),
        (math.nan, [], False),
        (-math.inf, [], False),
    ],
)
def test_the_best_third_goes_on(merit, others, kept):
    assert is_among_best(merit, others, 3) is kept
    assert SuccessiveHalving().keeps(merit, others) is kept
    assert Hyperband().keeps(merit, others) is kept


def test_the_median_gives_up_the_worse_half():
    others = [0.1, 0.2, 0.3, 0.4]
    assert Median().keeps(0.25, others)
    assert not Median().keeps(0.24, others)
    assert Median().keeps(0.0, others[:3]), "three are too few to tell"
    assert not Median().keeps(-math.inf, [])


@pytest.mark.parametrize(
    ("text", "pruner"),
    [
        ("asha:eta=3", SuccessiveHalving()),
        ("asha:eta=4,min_epochs=2", SuccessiveHalving(4, 2)),
        ("hyperband:eta=2", Hyperband(2)),
        ("median:min_trials=4", Median()),
    ],
)
def test_pruners_are_read_and_written_alike(text, pruner):
    found = make_pruner(text)
    assert (type(found), found, str(found)) == (type(pruner), pruner, text)
    assert make_pruner(text.partition(":")[0]) == type(pruner)()
    assert make_pruner("none") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ashe", "there are asha, hyperband, median and none"),
        ("none:eta=3", "there are asha"),
        ("asha:eta", "'eta' must be one of eta, min_epochs"),
        ("asha:eta=x", "a whole number, as in asha:eta=4"),
        ("median:eta=3", "one of min_epochs, min_trials"),
        ("asha:eta=1", "eta=1 must be at least 2"),
        ("median:min_trials=0", "min_trials=0 must be at least 1"),
    ],
)
def test_what_is_no_pruner_is_refused(text, says):
    with pytest.raises(SearchError, match=says):
        make_pruner(text)
