from __future__ import annotations

from types import SimpleNamespace

import pytest

from ecg_mlflow.search.objective import Objective
from ecg_mlflow.study.jobs import Noted, Trained
from ecg_mlflow.study.progress import StudyProgress


def planned(key, seconds):
    config = SimpleNamespace(name=f"net {key}", seconds=seconds, n_iterations=100)
    return SimpleNamespace(key=key, config=config)


SHORT, LONG = planned("00-r0", 10.0), planned("01-r0", 30.0)


@pytest.fixture
def progress():
    with StudyProgress(Objective("test_f1", maximize=True), lambda: 2, 20.0) as made:
        yield made


def test_a_run_weighs_what_it_costs(progress):
    progress.reported(LONG, Trained(LONG.key, 50, 0.5))
    progress.refresh()
    assert progress._bar.n == pytest.approx(0.5 * 30 / (30 + 20))  # the other one in the mean
    progress.finished(SHORT, {"test_f1": 0.8})
    progress.refresh()
    assert progress._bar.n == pytest.approx(0.375 + 0.25)
    progress.failed(LONG, "no")
    progress.refresh()
    assert progress._bar.n == pytest.approx(1.0)


def test_ended_runs_are_told_in_one_line_each(progress, capsys):
    progress.finished(SHORT, {"test_f1": 0.81234})
    progress.failed(LONG, "ValueError: no beats")
    progress.reported(LONG, Noted(LONG.key, "stopped"))
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] 00-r0 net 00-r0: test_f1 0.8123",
        "[2/2] 01-r0 net 01-r0: FAILED: ValueError: no beats",
        "01-r0 net 01-r0: stopped",
    ]


def test_the_bar_tells_the_best_so_far(progress):
    for value in (0.5, 0.9, 0.7, float("nan")):
        progress.finished(SHORT, {"test_f1": value})
    progress.failed(LONG, "no")
    progress.refresh()
    assert progress._bar.desc == "4/2 runs, 1 failed, best test_f1 0.9000 (00-r0)"


def test_nothing_but_lines_where_there_is_no_terminal(progress, capsys):
    progress.reported(SHORT, Trained(SHORT.key, 3, 0.5))
    progress.refresh()
    assert capsys.readouterr().err == ""


def test_what_was_given_up_is_told_and_of_a_loss_the_least_is_the_best(capsys):
    with StudyProgress(Objective("test_log_loss", maximize=False), lambda: 3, 20.0) as progress:
        progress.finished(SHORT, {"test_log_loss": 0.7})
        progress.finished(LONG, {"test_log_loss": 0.5})
        progress.pruned(planned("02-r0", 5.0), "pruned at epoch 1: worse")
        progress.refresh()
        assert progress._bar.desc == "2/3 runs, 1 pruned, best test_log_loss 0.5000 (01-r0)"
    assert capsys.readouterr().err.splitlines()[-1] == (
        "[3/3] 02-r0 net 02-r0: pruned at epoch 1: worse"
    )
