"""The gate: who may take the champion's place, and all that stands against the others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from ecg_mlflow.reports.study_results import ComparisonOptions
from ecg_mlflow.serving.gate import GateDecision, Requirements, apply_gate
from ecg_mlflow.stats.predictions import Predictions

FEW = ComparisonOptions(resamples=400)


def gate(challenger, champion=None, options=FEW, requirements=None, **more) -> GateDecision:
    """Apply the gate to a model of half a megabyte that takes a millisecond."""
    cost = {"size_mb": 0.5, "ms_per_record": 1.0}
    return apply_gate(challenger, champion, options, requirements or Requirements(), cost, **more)


def predictions(n_wrong: int, n: int = 400, seed: int = 0) -> Predictions:
    """Classify 100 A and 300 N, and err in some of them, half in each class."""
    rng = np.random.default_rng(seed)
    targets = np.repeat([0, 1], [n // 4, n - n // 4])
    wrong = np.concatenate(
        [rng.choice(n // 4, n_wrong // 2, False), n // 4 + rng.choice(n // 2, n_wrong // 2, False)]
    )
    said = targets.copy()
    said[wrong] = 1 - said[wrong]
    p = np.where(said == 0, 0.9, 0.1)
    names = tuple(f"r{i:03d}" for i in range(n))
    return Predictions(names, targets, np.stack([p, 1 - p], 1), ("A", "N"), "A", 0.5)


def test_who_is_the_first_or_better_beyond_chance_is_promoted():
    first = gate(predictions(40))
    assert (first.promoted, str(first)) == (True, "there was no champion")
    better = gate(predictions(10), predictions(60, seed=1))
    assert better.promoted
    assert better.figures["p_value"] <= 0.05
    assert "against the champion, 95% interval +" in str(better)
    a_little = gate(predictions(38), predictions(40, seed=1))
    assert a_little.figures["gain"] > 0
    assert not a_little.promoted
    assert str(a_little).startswith("not significantly better than the champion: f1 +0.0")


def right_but_in(wrong: Iterable[int], n: int = 400) -> Predictions:
    """Classify as many A as N without doubt, and err in these records."""
    targets = np.arange(n) % 2
    said = np.where(np.isin(np.arange(n), list(wrong)), 1 - targets, targets)
    names = tuple(f"r{i:03d}" for i in range(n))
    return Predictions(names, targets, np.eye(2)[said], ("A", "N"), "A")


@pytest.mark.parametrize(
    ("gained", "lost", "p_value", "level", "promoted"),
    [
        # p-values of the sign test, one-sided: 1/32, 9/256, 7/64 and 1/8.
        (5, 0, 0.0275, {}, True),
        (7, 1, 0.0275, {"level": 0.95}, True),
        (5, 1, 0.0765, {}, False),
        (3, 0, 0.0805, {"level": 0.95}, False),
        (5, 1, 0.0765, {"level": 0.90}, True),
        (5, 0, 0.0275, {"level": 0.98}, False),
    ],
)
def test_the_level_decides_how_few_records_are_enough(gained, lost, p_value, level, promoted):
    """The champion errs in 40 records; the challenger is right in some of them, wrong in others."""
    champion = right_but_in(range(40))
    challenger = right_but_in([*range(gained, 40), *range(100, 100 + lost)])
    decision = gate(challenger, champion, ComparisonOptions("accuracy", **level))
    assert decision.figures["gain"] == pytest.approx((gained - lost) / 400)
    assert decision.figures["p_value"] == pytest.approx(p_value, abs=0.015)
    assert decision.promoted is promoted


def test_five_recordings_of_a_patient_count_as_one_for_what_is_asked_for():
    """In 4 of 40 patients with A all recordings are missed: 36 of 40 is sure to 0.75 at most."""
    single = right_but_in(range(0, 8, 2), n=80)
    recordings = single.take(np.repeat(np.arange(80), 5))
    by_patient = replace(recordings, groups=np.repeat(np.arange(80), 5))
    asked = {"options": ComparisonOptions("accuracy"), "requirements": Requirements(0.8)}
    figures = [gate(one, **asked).figures for one in (single, by_patient)]
    for name in ("accuracy", "sensitivity", "specificity"):
        for bound in ("low", "high"):
            values = [found[f"{name}_{bound}"] for found in figures]
            assert values[1] == pytest.approx(values[0], abs=1e-9), name
    assert figures[1]["sensitivity"] == 0.9
    assert figures[1]["sensitivity_low"] == pytest.approx(0.75, abs=0.02)
    assert not gate(by_patient, **asked).promoted
    # As 400 records of as many patients they would be enough.
    assert gate(recordings, **asked).promoted


def test_the_best_of_many_has_to_be_better_by_more():
    champion, best = predictions(48, seed=99), predictions(30)
    alone = gate(best, champion)
    many = tuple(predictions(48, seed=seed) for seed in range(1, 40))
    among = gate(best, champion, candidates=(best, *many))
    assert alone.promoted
    assert not among.promoted
    assert among.figures["p_value"] > alone.figures["p_value"]
    assert "corrected: the best of 40 models" in str(among)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"min_sensitivity": 0.85},
            r"sensitivity 0\.870, lower bound of the 95% interval 0\.7\d\d; required",
        ),
        (
            {"min_specificity": 0.99},
            r"specificity 0\.957, lower bound of the 95% interval 0\.9\d\d; required",
        ),
        ({"max_calibration_error": 0.001}, r"calibration_error 0\.0\d+; allowed is 0\.001"),
        ({"max_size_mb": 0.4}, r"size_mb 0\.5 MB; allowed is 0\.4 MB"),
        ({"max_ms_per_record": 0.5}, r"ms_per_record 1 ms; allowed is 0\.5 ms"),
    ],
)
def test_what_is_asked_for_and_not_reached_is_said(asked, said):
    decision = gate(predictions(26), requirements=Requirements(**asked))
    assert not decision.promoted
    (reason,) = decision.reasons
    assert re.search(said, reason), reason
    # All that stands against a model is said at once.
    no_better = gate(predictions(26), predictions(26, seed=1), requirements=Requirements(**asked))
    assert len(no_better.reasons) == 2
    name = next(iter(asked))
    enough = 0.75 if name.startswith("min") else 100.0
    assert gate(predictions(26), requirements=Requirements(**{name: enough})).promoted


def test_calibration_is_judged_by_the_calibrated_probabilities():
    raw = gate(predictions(40))
    # At 0.9 and 0.1 the labels are right in 90 % of the records: softer is worse.
    soft = gate(predictions(40), temperature=4.0)
    assert soft.figures["calibration_error"] > raw.figures["calibration_error"] + 0.1
    assert soft.figures["f1"] == raw.figures["f1"]
