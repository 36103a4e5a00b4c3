"""Configurations chosen by number or alias."""

from __future__ import annotations

import pytest

from ecg_mlflow import Option
from ecg_mlflow.errors import ResearchError
from ecg_mlflow.grids.selection import choose

GRID = Option("model", ["ResNet18", "ResNet34"]) * Option("layout", ["cna", "cnacna", "nac"])
CONFIGS = list((GRID + Option("blocks", [[1, 1]])).gen_configs())


@pytest.mark.parametrize(
    ("which", "chosen"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6]),
        ("0", [0]),
        ("0,3,5-6", [0, 3, 5, 6]),
        (" 3 , 1 - 2 ", [1, 2, 3]),
        ("2,2,2", [2]),
        ("model=ResNet34", [3, 4, 5]),
        ("model=ResNet34 & layout=cnacna", [4]),
        ("layout = nac", [2, 5]),
        ("blocks=[1, 1]", [6]),
    ],
)
def test_choices(which, chosen):
    assert choose(CONFIGS, which) == chosen


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("7", "numbered 0 to 6"),
        ("0-99999999999999", "numbered 0 to 6"),
        ("5-3", "a range must ascend; '5-3' is invalid"),
        ("model=ResNet50", "model: ResNet18, ResNet34; layout: cna"),
        ("kernel=3", r"'kernel=3' is neither\. The options are model: .*; blocks: \[1, 1\]"),
        ("model=ResNet18 & model=ResNet34", "each option once"),
        ("-1", "must be numbers"),
        ("ResNet18", "'ResNet18' is neither"),
        ("model=ResNet18 & blocks=[1, 1]", "matches none of the 7"),
    ],
)
def test_choices_that_can_not_be_read(which, message):
    with pytest.raises(ResearchError, match=message):
        choose(CONFIGS, which)
