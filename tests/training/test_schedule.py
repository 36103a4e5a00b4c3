from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import ScheduleError
from ecg_mlflow.training.schedule import Schedule


@pytest.mark.parametrize(
    ("rules", "fires_at"),
    [
        ("%1", [0, 1, 2, 3, 4, 5]),
        ("%2", [1, 3, 5]),
        (" %3 ", [2, 5]),
        (0, [0]),
        (np.int64(4), [4]),
        (-1, [5]),
        ("last", [5]),
        (["%2", 0, -1], [0, 1, 3, 5]),
        (("%4", "last"), [3, 5]),
        ([5, -1, "%6"], [5]),
        ("epoch", [1, 3, 5]),
        ("2 epochs", [3]),
        (["2 epochs", 0, "last"], [0, 3, 5]),
    ],
)
def test_rules_over_three_epochs_of_two_iterations(rules, fires_at):
    assert Schedule.parse(rules, iterations_per_epoch=2).iterations(6) == fires_at


@pytest.mark.parametrize(
    ("rule", "cause"),
    [
        ("%0", "at least 1"),
        ("0 epochs", "at least 1"),
        ("%", "after '%' comes a whole number"),
        ("foo", "not a rule"),
        ("-1 epochs", "not a rule"),
        ("3", "write 3 without quotes"),
        (-2, "only negative iteration is -1"),
        (True, "type bool"),
        (["%2", ["last"]], "type list"),
        ([], "never fires"),
        (["%2", "twice", 0], "can't read the schedule rule 'twice'"),
    ],
)
def test_what_is_not_a_rule_is_refused(rule, cause):
    with pytest.raises(ScheduleError, match="allowed are '%N'") as caught:
        Schedule.parse(rule, iterations_per_epoch=2)
    assert cause in str(caught.value)


def test_last_fires_where_a_run_stops_early_and_no_other_rule_does():
    found = Schedule.parse(["%4", -1])
    assert not found.fires(1, last=False)
    assert found.fires(1, last=True)
    assert not Schedule.parse(3).fires(1, last=True)


def test_testing_every_20_epochs_does_not_drift():
    # The old workflow took 6822 // 32 + 1 = 214 iterations for an epoch of 213: see
    # "%4280", whose 15th test came 300 iterations after the end of epoch 300.
    n = 6822 // 32
    found = Schedule.parse("20 epochs", n).iterations(300 * n)
    assert [(iteration + 1) / n for iteration in found] == list(range(20, 301, 20))
    assert Schedule.parse("%4280").iterations((n + 1) * 300)[-1] + 1 == 300 * n + 300


def test_epochs_need_a_length():
    with pytest.raises(ScheduleError, match="iterations in an epoch is not known"):
        Schedule.parse("20 epochs")
    with pytest.raises(ScheduleError, match="an epoch has 0 iterations"):
        Schedule.parse("epoch", iterations_per_epoch=0)
