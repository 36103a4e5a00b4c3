from __future__ import annotations

from types import SimpleNamespace

import pytest

from ecg_mlflow.search.objective import Objective
from ecg_mlflow.study.descriptions import Counts
from ecg_mlflow.study.jobs import Noted, StoreAway, Trained
from ecg_mlflow.study.progress import StudyProgress

F1, LOSS = Objective("test_f1", maximize=True), Objective("test_log_loss", maximize=False)


def planned(key, seconds):
    config = SimpleNamespace(name=f"net {key}", seconds=seconds, n_iterations=100)
    return SimpleNamespace(key=key, config=config)


SHORT, LONG = planned("00-r0", 10.0), planned("01-r0", 30.0)


class Scheduler:
    """Knows what it is given."""

    def __init__(self, objective=F1, n_runs=2):
        self.counts, self.search = Counts(n_runs), SimpleNamespace(first=objective)
        self.trials = {}

    def end(self, *values, **ends):
        """Let runs finish with these values, and others end."""
        metric, runs = self.search.first.metric, (SHORT, LONG)
        for i, value in enumerate(values):
            self.trials[i] = SimpleNamespace(metrics={0: {metric: value}}, runs=(runs[i % 2],))
        self.counts = Counts(self.counts.n_runs, len(values), **ends)


@pytest.fixture
def show():
    opened = []

    def make(*args):
        scheduler = Scheduler(*args)
        opened.append(StudyProgress(scheduler, 20.0))
        return scheduler, opened[-1]

    yield make
    for progress in opened:
        progress.close()


def share(progress):
    progress.refresh()
    return progress._bar.n


def test_a_run_weighs_what_it_costs(show):
    scheduler, progress = show()
    progress.reported(LONG, Trained(LONG.key, 50, 0.5))
    assert share(progress) == pytest.approx(0.5 * 30 / (30 + 20))  # the other one in the mean
    scheduler.end(0.8)
    progress.finished(SHORT, {"test_f1": 0.8})
    assert share(progress) == pytest.approx(0.375 + 0.25)
    scheduler.end(0.8, failed=1)
    progress.ended(LONG, "FAILED: no")
    assert share(progress) == pytest.approx(1.0)


def test_what_had_ended_before_is_done(show):
    scheduler, progress = show()
    scheduler.end(0.8)
    assert share(progress) == pytest.approx(0.5)


def test_ended_runs_are_told_in_one_line_each(show, capsys):
    scheduler, progress = show()
    scheduler.end(0.8)
    progress.finished(SHORT, {"test_f1": 0.81234})
    scheduler.end(0.8, failed=1)
    progress.ended(LONG, "FAILED: ValueError: no beats")
    progress.reported(LONG, Noted(LONG.key, "stopped"))
    for seconds in (1.0, 2.0, 61.0):
        progress.reported(LONG, StoreAway(LONG.key, seconds, "no route"))
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] 00-r0 net 00-r0: test_f1 0.8123",
        "[2/2] 01-r0 net 01-r0: FAILED: ValueError: no beats",
        "01-r0 net 01-r0: stopped",
        "01-r0 net 01-r0: waits for the store (1 s so far): no route",
        "01-r0 net 01-r0: waits for the store (61 s so far): no route",
    ]


@pytest.mark.parametrize(
    ("objective", "values", "ends", "text"),
    [
        (F1, (0.5, 0.9, 0.7, float("nan")), {"failed": 1},
         "4/5 runs, 1 failed, best test_f1 0.9000 (01-r0)"),
        (LOSS, (0.7, 0.5), {"pruned": 1},
         "2/5 runs, 1 pruned, best test_log_loss 0.5000 (01-r0)"),
        (F1, (), {}, "0/5 runs"),
    ],
)  # fmt: skip
def test_the_bar_tells_the_best_so_far(show, objective, values, ends, text):
    scheduler, progress = show(objective, 5)
    scheduler.end(*values, **ends)
    progress.refresh()
    assert progress._bar.desc == text


def test_nothing_but_lines_where_there_is_no_terminal(show, capsys):
    _, progress = show()
    progress.reported(SHORT, Trained(SHORT.key, 3, 0.5))
    progress.refresh()
    assert capsys.readouterr().err == ""
