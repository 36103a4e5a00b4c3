from __future__ import annotations

import math

import pytest

from ecg_mlflow import Option, Pipeline, Research, ResNet, load_corpus
from ecg_mlflow.reports.text_tables import result_table
from ecg_mlflow.study.plan_table import plan_table
from ecg_mlflow.study.planning import plan_study
from ecg_mlflow.study.request import Overrides
from ecg_mlflow.study.search_config import SearchConfig


@pytest.fixture
def plan(beats):
    research = Research(
        grid=Option("layout", ["cna", "cnacna"]),
        model=ResNet,
        model_arguments={"blocks": [1], "filters": [4], "input_filters": 4},
        train=Pipeline().random_split_signals(100, 2),
        test=Pipeline().split_signals(100, 100),
        classes=["A", "N"],
        repetitions=3,
        name="waves",
    )
    return plan_study(research, load_corpus(str(beats)), Overrides())


def test_a_plan_has_one_line_per_configuration_and_a_sum(plan):
    lines = plan_table(plan, SearchConfig(), 2).splitlines()
    assert lines[0].split() == [
        "#",
        "configuration",
        "parameters",
        "iterations",
        *["time", "of", "one", "run"],
    ]
    assert lines[1].split()[:5] == ["0", "ResNet", "cna", "102", "1"]
    assert lines[2].split()[:5] == ["1", "ResNet", "cnacna", "158", "1"]
    assert "waves: 2 configurations x 3 repetitions = 6 runs" in lines[4]
    assert "records: 16 train, 4 test of 20" in lines[5]
    assert "with 2 CPU workers" in lines[6]


def test_the_time_is_shared_by_the_workers(plan):
    def seconds(n_workers):
        return int(plan_table(plan, SearchConfig(), n_workers).splitlines()[-1].split()[2])

    assert seconds(1) == pytest.approx(2 * seconds(2), abs=1)
    assert seconds(1000) == pytest.approx(max(one.seconds for one in plan.configs), abs=1)


def row(rank, options, f1):
    return {"rank": rank, **options, "runs": 2, "test_f1": f1, "test_f1_std": 0.1, "test_ppv": 1.0}


def test_a_leaderboard_shows_the_options_of_all_rows_and_few_metrics():
    lines = result_table([row(1, {"layout": "cna"}, 0.9), row(2, {"blocks": "[1]"}, math.nan)])
    assert [line.split() for line in lines.splitlines()] == [
        ["rank", "layout", "blocks", "runs", "test_f1"],
        ["1", "cna", "-", "2", "0.9000", "±", "0.1000"],
        ["2", "-", "[1]", "2", "-"],
    ]


def test_a_long_leaderboard_is_cut():
    rows = [row(i, {"layout": str(i)}, 0.5) for i in range(1, 14)]
    assert result_table(rows).splitlines()[-1] == "... and 3 more"
    assert result_table([]) == "no run has finished"
