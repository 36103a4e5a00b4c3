"""The training loop with a step that only pretends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ecg_mlflow.errors import DivergedError
from ecg_mlflow.schedule import Schedule
from ecg_mlflow.training import TrainingLoop
from ecg_mlflow.training import loop as loop_module


class Step:
    """The loss of iteration i is i, unless told otherwise."""

    def __init__(self, **losses: float) -> None:
        self.special = {int(name[1:]): value for name, value in losses.items()}
        self.trained: list[int] = []
        self.fetches = 0

    def train(self, windows, targets):
        self.trained.append(windows)
        return self.special.get(windows, float(windows))

    def fetch(self, losses):
        self.fetches += 1
        return np.array(losses, dtype=np.float32)


class Observer:
    def __init__(self) -> None:
        self.seen: list[float] = []
        self.events: list[object] = []

    def losses(self, first_iteration, values, times_ms):
        assert first_iteration == len(self.seen)
        assert len(values) == len(times_ms)
        assert times_ms == sorted(times_ms)
        self.seen.extend(values.tolist())
        self.events.append(len(values))

    def test(self, iteration):
        self.events.append(f"test {iteration}")


def make_loop(step, n_iterations, rules, iterations_per_epoch=None, **more):
    batches = ((i, None) for i in itertools.count())
    tests = Schedule.parse(rules, iterations_per_epoch)
    return TrainingLoop(step, batches, n_iterations, tests, Observer(), **more)


def test_losses_are_handed_over_in_bulk_before_each_test():
    step = Step()
    loop = make_loop(step, 10, ["%4", "last"])
    loop.run()
    assert loop.observer.events == [4, "test 3", 4, "test 7", 2, "test 9"]
    assert loop.observer.seen == list(range(10))
    assert step.trained == list(range(10))
    assert step.fetches == 3


def test_rules_of_the_reference():
    loop = make_loop(Step(), 6, ["%2", 0, -1])
    loop.run()
    tests = [event for event in loop.observer.events if isinstance(event, str)]
    assert tests == ["test 0", "test 1", "test 3", "test 5"]


def test_tests_in_epochs():
    loop = make_loop(Step(), 9, "2 epochs", iterations_per_epoch=2)
    loop.run()
    assert loop.observer.events == [4, "test 3", 4, "test 7", 1]


def test_a_loop_that_stops_early_has_its_last_test_there():
    step = Step()
    loop = make_loop(step, 100, "last")
    loop.run(should_stop=lambda: len(step.trained) == 7)
    assert loop.observer.events == [7, "test 6"]
    assert loop.iteration == 7


def test_losses_come_at_least_every_few_seconds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop_module, "FETCH_SECONDS", -1.0)
    loop = make_loop(Step(), 3, "last")
    loop.run()
    assert loop.observer.events == [1, 1, 1, "test 2"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_diverged_loss_names_its_iteration_and_comes_after_the_good_ones(value):
    loop = make_loop(Step(i6=value, i7=1.0), 10, ["%4", "last"])
    with pytest.raises(DivergedError, match=f"the loss of iteration 6 is {value}; a smaller lear"):
        loop.run()
    assert loop.observer.seen == [0, 1, 2, 3, 4, 5]
    assert loop.observer.events == [4, "test 3", 2]


def test_a_loss_that_diverges_at_once_hands_nothing_over():
    loop = make_loop(Step(i0=np.nan), 10, "%4")
    with pytest.raises(DivergedError, match="iteration 0 is nan"):
        loop.run()
    assert loop.observer.events == []


def test_the_time_of_tests_is_not_training_time(monkeypatch: pytest.MonkeyPatch):
    now = itertools.count()
    clock = {"now": 0.0}

    class SlowStep(Step):
        def train(self, windows, targets):
            clock["now"] += 2
            return super().train(windows, targets)

    class SlowObserver(Observer):
        def test(self, iteration):
            clock["now"] += 100
            super().test(iteration)

    def batches():
        for i in now:
            clock["now"] += 1
            yield i, None

    monkeypatch.setattr(loop_module.time, "perf_counter", lambda: clock["now"])
    loop = TrainingLoop(SlowStep(), batches(), 6, Schedule.parse("%3"), SlowObserver())
    loop.run()
    assert loop.seconds == 18
    assert loop.step_seconds == 12


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_losses_before_an_interruption_are_handed_over(error):
    def interrupted():
        yield from ((i, None) for i in range(6))
        raise error("now")

    loop = TrainingLoop(Step(), interrupted(), 10, Schedule.parse("%4"), Observer())
    with pytest.raises(error, match="now"):
        loop.run()
    assert loop.observer.events == [4, "test 3", 2]
    assert loop.observer.seen == [0, 1, 2, 3, 4, 5]


def test_a_loop_can_begin_anywhere():
    loop = make_loop(Step(), 10, "%4", iteration=6)
    loop.observer.seen = [0.0] * 6
    loop.run()
    assert loop.observer.events == [2, "test 7", 2]
