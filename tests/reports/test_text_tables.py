from __future__ import annotations

import math

from ecg_mlflow.reports.text_tables import result_table


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
