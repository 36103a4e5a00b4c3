"""The training loop with a step that only pretends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ecg_mlflow.errors import DivergedError, StorageFullError
from ecg_mlflow.training import Branch, Paused, TrainingLoop
from ecg_mlflow.training import loop as loop_module
from ecg_mlflow.training.schedule import Schedule


class Step:
    """The loss of iteration i is i, unless `special` says otherwise: ``{(branch, i): loss}``."""

    def __init__(self, special: dict[tuple[int, int], float] | None = None) -> None:
        self.special = special or {}
        self.trained: list[tuple[int, ...]] = []
        self.batches: list[int] = []
        self.fetches = 0

    def train(self, active, windows, targets):
        self.trained.append(tuple(active))
        self.batches.append(windows)
        return [self.special.get((i, windows), float(windows)) for i in active]

    def fetch(self, losses):
        self.fetches += 1
        return np.array(losses, dtype=np.float32)


class Observer:
    """Keeps what it is told, in words."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.seen: list[float] = []
        self.events: list[object] = []
        self.error: Exception | None = None

    def losses(self, first_iteration, values, times_ms):
        assert first_iteration == self.first + len(self.seen)
        assert len(values) == len(times_ms)
        assert times_ms == sorted(times_ms)
        self.seen.extend(values.tolist())
        self.events.append(len(values))

    def test(self, iteration):
        self.events.append(f"test {iteration}")

    def save(self):
        self.events.append("save")

    def end(self):
        self.events.append("end")

    def fail(self, error):
        self.error = error
        self.events.append("fail")

    def withdraw(self, reason):
        self.events.append(f"withdraw: {reason}")

    def told(self, *words: str) -> list[object]:
        return [event for event in self.events if str(event).startswith(words)]


def make_branch(n_iterations=10, rules="last", epoch=None, observer=None, iteration=0, **more):
    observer = observer or Observer(iteration)
    return Branch(observer, n_iterations, Schedule.parse(rules, epoch), iteration, **more)


def make_loop(step, *branches, **more):
    first = min(branch.iteration for branch in branches)
    return TrainingLoop(step, branches, ((i, None) for i in itertools.count(first)), **more)


def run_one(step, **more):
    branch = make_branch(**more)
    assert make_loop(step, branch).run()
    return branch.observer


def test_losses_are_handed_over_in_bulk_before_each_test_and_saved_after_it():
    step = Step()
    observer = run_one(step, rules=["%4", "last"])
    assert observer.events == [4, "test 3", "save", 4, "test 7", "save", 2, "test 9", "save", "end"]
    assert observer.seen == list(range(10))
    assert step.batches == list(range(10))
    assert step.fetches == 3


def test_rules_of_the_reference():
    observer = run_one(Step(), n_iterations=6, rules=["%2", 0, -1])
    assert observer.told("test") == ["test 0", "test 1", "test 3", "test 5"]


def test_tests_in_epochs():
    observer = run_one(Step(), n_iterations=9, rules="2 epochs", epoch=2)
    assert observer.events == [4, "test 3", "save", 4, "test 7", "save", 1, "end"]


def test_losses_come_at_least_every_few_seconds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop_module, "FETCH_SECONDS", -1.0)
    observer = run_one(Step(), n_iterations=3)
    assert observer.events == [1, 1, 1, "test 2", "save", "end"]


def test_checkpoints_come_at_least_every_few_minutes_and_not_always():
    branch = make_branch(n_iterations=3)
    make_loop(Step(), branch, save_every_s=-1.0).run()
    assert branch.observer.told("save", "test") == ["save", "save", "test 2", "save"]
    branch = make_branch(n_iterations=3)
    make_loop(Step(), branch).run()
    assert branch.observer.told("save", "test") == ["test 2", "save"]


def test_a_loop_that_is_stopped_finishes_the_iteration_and_saves_without_a_test():
    step, branch = Step(), make_branch(n_iterations=100)
    assert not make_loop(step, branch).run(should_stop=lambda: len(step.trained) == 7)
    assert branch.observer.events == [7, "save"]
    assert (branch.iteration, branch.tested, branch.is_over) == (7, -1, False)


def test_a_test_that_is_interrupted_is_made_when_the_training_goes_on():
    class Hurried(Observer):
        def test(self, iteration):
            raise Paused

    branch = make_branch(rules="%4", observer=Hurried())
    assert not make_loop(Step(), branch).run()
    assert branch.observer.events == [4, "save"]
    assert (branch.iteration, branch.tested) == (4, -1)
    resumed = make_branch(rules=["%4", "last"], iteration=4)
    assert make_loop(Step(), resumed).run()
    assert resumed.observer.events[:3] == ["test 3", "save", 4]
    assert resumed.observer.seen == [4, 5, 6, 7, 8, 9]


def test_a_test_that_was_made_is_not_made_again():
    resumed = make_branch(rules=["%4", "last"], iteration=4, tested=3)
    assert make_loop(Step(), resumed).run()
    assert resumed.observer.told("test") == ["test 7", "test 9"]


def test_a_training_that_only_lacks_its_end_has_it():
    step, branch = Step(), make_branch(iteration=10, tested=9)
    assert make_loop(step, branch).run()
    assert branch.observer.events == ["end"]
    assert step.trained == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_diverged_loss_names_its_iteration_and_comes_after_the_good_ones(value):
    branch = make_branch(rules=["%4", "last"])
    assert make_loop(Step({(0, 6): value, (0, 7): 1.0}), branch).run()
    observer = branch.observer
    assert isinstance(observer.error, DivergedError)
    assert str(observer.error).startswith(f"the loss of iteration 6 is {value}; a smaller lear")
    assert observer.seen == [0, 1, 2, 3, 4, 5]
    assert observer.events == [4, "test 3", "save", 2, "fail"]


def test_a_loss_that_diverges_at_once_hands_nothing_over():
    branch = make_branch(rules="%4")
    make_loop(Step({(0, 0): np.nan}), branch).run()
    assert branch.observer.events == ["fail"]
    assert "iteration 0 is nan" in str(branch.observer.error)


def test_the_time_of_tests_and_checkpoints_is_not_training_time(monkeypatch: pytest.MonkeyPatch):
    clock = {"now": 0.0}

    class SlowStep(Step):
        def train(self, active, windows, targets):
            clock["now"] += 2
            return super().train(active, windows, targets)

    class SlowObserver(Observer):
        def test(self, iteration):
            clock["now"] += 100

        def save(self):
            clock["now"] += 1000

    def batches():
        for i in itertools.count():
            clock["now"] += 1
            yield i, None

    monkeypatch.setattr(loop_module.time, "perf_counter", lambda: clock["now"])
    branch = make_branch(6, ["%3", "last"], observer=SlowObserver(), seconds=5.0, step_seconds=4.0)
    TrainingLoop(SlowStep(), [branch], batches()).run()
    assert branch.seconds == 5 + 18
    assert branch.step_seconds == 4 + 12


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_losses_before_an_interruption_are_handed_over(error):
    def interrupted():
        yield from ((i, None) for i in range(6))
        raise error("now")

    branch = make_branch(rules="%4")
    with pytest.raises(error, match="now"):
        TrainingLoop(Step(), [branch], interrupted()).run()
    assert branch.observer.events == [4, "test 3", "save", 2]
    assert branch.observer.seen == [0, 1, 2, 3, 4, 5]


def test_branches_see_the_same_batches_and_end_each_at_its_own_time():
    step = Step()
    short, long = make_branch(2), make_branch(4, ["%3", "last"])
    assert make_loop(step, short, long).run()
    assert step.batches == [0, 1, 2, 3]
    assert step.trained == [(0, 1), (0, 1), (1,), (1,)]
    assert short.observer.events == [2, "test 1", "save", "end"]
    # All are saved together, so that they stand at one iteration when they are gone on with.
    assert long.observer.events == [2, "save", 1, "test 2", "save", 1, "test 3", "save", "end"]


@pytest.mark.parametrize("where", ["losses", "test", "save", "end"])
def test_a_branch_that_fails_leaves_the_others_running(where):
    observer = Observer()

    def fail(*_):
        raise RuntimeError("a lead is off")

    setattr(observer, where, fail)
    bad, good = make_branch(6, ["%3", "last"], observer=observer), make_branch(6, ["%3", "last"])
    assert make_loop(Step(), bad, good).run()
    assert "a lead is off" in str(observer.error)
    assert bad.is_over
    assert observer.events[-1] == "fail"
    assert good.observer.seen == list(range(6))
    assert good.observer.events[-1] == "end"
    assert good.observer.error is None


def test_a_branch_that_diverges_leaves_the_others_running():
    step = Step({(0, 3): np.nan})
    bad, good = make_branch(8, "%2"), make_branch(8, "%2")
    make_loop(step, bad, good).run()
    assert bad.observer.seen == [0, 1, 2]
    assert good.observer.seen == list(range(8))
    assert step.trained == [(0, 1)] * 4 + [(1,)] * 4


def test_what_is_wrong_with_the_machine_ends_the_whole_loop():
    observer = Observer()

    def full():
        raise StorageFullError("no space left")

    observer.save = full
    with pytest.raises(StorageFullError):
        make_loop(Step(), make_branch(observer=observer), make_branch()).run()
    assert observer.error is None


def test_branches_that_are_ahead_join_in_when_the_others_have_caught_up():
    step = Step()
    behind, ahead = make_branch(8, iteration=3), make_branch(8, iteration=6)
    assert make_loop(step, behind, ahead).run()
    assert step.batches == [3, 4, 5, 6, 7]
    assert step.trained == [(0,), (0,), (0,), (0, 1), (0, 1)]
    assert behind.observer.seen == [3, 4, 5, 6, 7]
    assert ahead.observer.seen == [6, 7]


def test_batches_go_by_unused_where_the_branch_behind_has_failed():
    step = Step({(0, 3): np.nan})
    behind, ahead = make_branch(8, "%1", iteration=3), make_branch(8, iteration=6)
    assert make_loop(step, behind, ahead).run()
    assert step.batches == [3, 6, 7]
    assert ahead.observer.seen == [6, 7]


# --- Branches that are given up ------------------------------------------------------------------


def test_a_branch_that_is_withdrawn_ends_before_its_next_iteration():
    step = Step()
    lost, kept = make_branch(), make_branch()
    loop = make_loop(step, lost, kept)

    def give_up():
        if kept.iteration == 4:
            lost.withdrawn = "others are better"
        return False

    assert loop.run(give_up)
    assert lost.observer.seen == [0.0, 1.0, 2.0, 3.0]
    assert lost.observer.events[-1] == "withdraw: others are better"
    assert lost.observer.told("test", "end", "fail") == []
    assert kept.observer.seen == [float(i) for i in range(10)]
    assert kept.observer.events[-1] == "end"
    assert step.trained == [(0, 1)] * 4 + [(1,)] * 6


def test_a_loop_whose_branches_are_all_withdrawn_is_over():
    branch = make_branch()
    branch.withdrawn = "others are better"
    assert make_loop(Step(), branch).run()
    assert branch.observer.events == ["withdraw: others are better"]
    assert branch.is_over


def test_what_fails_while_a_branch_is_withdrawn_fails_that_branch():
    class Broken(Observer):
        def withdraw(self, reason):
            raise ValueError("no")

    lost, kept = make_branch(observer=Broken()), make_branch()
    lost.withdrawn = "others are better"
    assert make_loop(Step(), lost, kept).run()
    assert str(lost.observer.error) == "no"
    assert kept.observer.events[-1] == "end"
