"""Which configurations a search ends with, and how they are scored."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import pytest
from boards import F1, Table

from ecg_mlflow.executors import Event, Outcome, OutcomeState
from ecg_mlflow.grids import Option
from ecg_mlflow.search.objective import Objective
from ecg_mlflow.study.finalists import TRIES, finalists, is_scored, score_finalists
from ecg_mlflow.study.search_config import SearchConfig
from ecg_mlflow.study.trials import SelectionRule


def make_scheduler(values, repetitions=1, objectives=(F1,)):
    table = Table(
        Option("layout", [f"c{i}" for i in range(len(values))]),
        repetitions=repetitions,
        objectives=objectives,
    )
    table.open()
    for number, runs in enumerate(values):
        for key, metrics in zip(table.next_keys(), runs, strict=True):
            if metrics is None:
                table.fail(key)
            else:
                table.scheduler.finished(table.run(key), metrics)
        assert not table.scheduler.trials[number].is_running
    return table.scheduler


def numbers(scheduler, n, objectives=(F1,)):
    search = SearchConfig("tpe", finalists=n, rule=SelectionRule(objectives))
    return [trial.number for trial in finalists(scheduler, search)]


def test_the_best_are_the_finalists():
    scheduler = make_scheduler([[{"f1": 0.1}], [{"f1": 0.9}], [None], [{"f1": 0.5}]])
    assert numbers(scheduler, 2) == [1, 3]
    assert numbers(scheduler, 9) == [1, 3, 0]


def test_who_has_fewer_repetitions_is_none():
    lucky, steady = [{"f1": 0.9}, None], [{"f1": 0.5}, {"f1": 0.4}]
    assert numbers(make_scheduler([lucky, steady], repetitions=2), 2) == [1]


def test_the_whole_front_is_in_the_final():
    objectives = (F1, Objective("loss", False))
    values = [(0.9, 3.0), (0.8, 2.0), (0.7, 1.0), (0.85, 4.0)]
    scheduler = make_scheduler([[{"f1": a, "loss": b}] for a, b in values], objectives=objectives)
    assert numbers(scheduler, 1, objectives) == [0, 1, 2]


class Executor:
    """Answers each job by a script."""

    free_slots = 1

    def __init__(self, script):
        self.script, self.jobs, self.reports = script, [], deque()

    def submit(self, key):
        self.jobs.append(key)
        self.reports += [Event(key, {"run": key}), self.script(key, len(self.jobs))]

    def events(self, timeout):
        while self.reports:
            yield self.reports.popleft()


@pytest.fixture
def final():
    def go(script, already=()):
        scheduler = make_scheduler([[{"f1": 0.1}], [{"f1": 0.9}]])
        for number in already:
            scheduler.trials[number].metrics[0] = {"f1": 0.1, "test_f1": 0.2}
        scored, executor = {}, Executor(script)
        dispatcher = SimpleNamespace(
            score_job=lambda key, run: key,
            scored=lambda run, value: scored.update({run.key: value}),
            refresh=lambda: None,
        )
        stop = SimpleNamespace(check=lambda: None)
        trials = list(scheduler.trials.values())
        n_failed = score_finalists(trials, dispatcher, executor, stop)
        return n_failed, scored, executor.jobs

    return go


def done(key, n):
    return Outcome(key, OutcomeState.DONE, value={"test_f1": 0.5})


def test_each_run_of_a_finalist_is_scored_once(final):
    n_failed, scored, jobs = final(done)
    assert n_failed == 0
    assert scored == {"00-r0": {"test_f1": 0.5}, "01-r0": {"test_f1": 0.5}}
    assert len(jobs) == 2


def test_what_is_scored_is_not_scored_again(final):
    assert final(done, already=[1])[1].keys() == {"00-r0"}
    assert is_scored({"test_f1": 0.2})
    assert not is_scored({"validation_f1": 0.2, "best_test": 0.1})


def test_a_death_is_tried_again_and_an_error_is_told(final, capsys):
    def dies_once(key, n):
        return Outcome(key, OutcomeState.DIED, reason="it died") if n == 1 else done(key, n)

    n_failed, scored, jobs = final(dies_once)
    assert (n_failed, len(scored), len(jobs)) == (0, 2, 3)

    def dies(key, n):
        return Outcome(key, OutcomeState.DIED, reason="it died")

    n_failed, scored, jobs = final(dies)
    assert (n_failed, scored, len(jobs)) == (2, {}, 2 * TRIES)
    assert "00-r0: its test records could not be scored: it died" in capsys.readouterr().err

    def fails(key, n):
        return Outcome(key, OutcomeState.FAILED, reason="no model")

    assert final(fails)[0] == 2
