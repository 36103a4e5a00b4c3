"""The training loop with a step that only pretends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ecg_mlflow.errors import DivergedError, RunGoneError, StorageError
from ecg_mlflow.training import loop as loop_module
from ecg_mlflow.training.loop import Branch, Paused, TrainingLoop
from ecg_mlflow.training.schedule import Schedule


class Step:
    """The loss of iteration i is i, unless `special` says otherwise: ``{(branch, i): loss}``."""

    def __init__(self, special: dict[tuple[int, int], float] | None = None) -> None:
        self.special = special or {}
        self.trained: list[tuple[int, ...]] = []
        self.batches: list[int] = []

    def train(self, active, windows, targets):
        self.trained.append(tuple(active))
        self.batches.append(windows)
        return [self.special.get((i, windows), float(windows)) for i in active]

    def fetch(self, losses):
        return np.array(losses, dtype=np.float32)


class Noting(Branch):
    """Keeps what it is told, in words; `raises` says what fails at which event."""

    def __init__(self, n_iterations=10, rules="last", epoch=None, raises=(), **state):
        super().__init__(n_iterations, Schedule.parse(rules, epoch))
        vars(self).update(state)
        self.raises = dict(raises)
        self.first = self.iteration
        self.seen, self.events, self.error = [], [], None

    def note(self, event, words):
        if event in self.raises:
            raise self.raises[event]
        self.events.append(words)

    def log_losses(self, first_iteration, values, times_ms):
        assert first_iteration == self.first + len(self.seen)
        assert len(values) == len(times_ms)
        assert times_ms == sorted(times_ms)
        self.note("losses", len(values))
        self.seen.extend(values.tolist())

    def test(self, iteration):
        self.note("test", f"test {iteration}")

    def save(self):
        self.note("save", "save")

    def end(self):
        self.note("end", "end")

    def fail(self, error):
        self.error = error
        self.events.append("fail")

    def withdraw(self):
        self.note("withdraw", f"withdraw: {self.withdrawn}")


def run(*branches, step=None, should_stop=lambda: False, **more):
    first = min(branch.iteration for branch in branches)
    batches = ((i, None) for i in itertools.count(first))
    return TrainingLoop(step or Step(), branches, batches, **more).run(should_stop)


@pytest.mark.parametrize(
    ("n_iterations", "rules", "epoch", "events"),
    [
        (10, ["%4", "last"], None,
         [4, "test 3", "save", 4, "test 7", "save", 2, "test 9", "save", "end"]),
        (6, ["%4", 0, -1], None,
         [1, "test 0", "save", 3, "test 3", "save", 2, "test 5", "save", "end"]),
        (9, "2 epochs", 2, [4, "test 3", "save", 4, "test 7", "save", 1, "end"]),
    ],
)  # fmt: skip
def test_losses_come_in_bulk_before_each_test_and_are_saved_after_it(
    n_iterations, rules, epoch, events
):
    branch, step = Noting(n_iterations, rules, epoch), Step()
    assert run(branch, step=step)
    assert branch.events == events
    assert branch.seen == step.batches == list(range(n_iterations))


def test_losses_and_checkpoints_come_at_least_every_so_often(monkeypatch: pytest.MonkeyPatch):
    branch = Noting(3)
    run(branch, save_every_s=-1.0)
    assert branch.events == [1, "save", 1, "save", 1, "test 2", "save", "end"]
    monkeypatch.setattr(loop_module, "FETCH_SECONDS", -1.0)
    branch = Noting(3)
    run(branch)
    assert branch.events == [1, 1, 1, "test 2", "save", "end"]


def test_a_loop_that_is_stopped_finishes_the_iteration_and_saves_without_a_test():
    step, branch = Step(), Noting(100)
    assert not run(branch, step=step, should_stop=lambda: len(step.trained) == 7)
    assert branch.events == [7, "save"]
    assert (branch.iteration, branch.tested, branch.is_over) == (7, -1, False)


def test_a_test_that_is_interrupted_is_made_when_the_training_goes_on():
    branch = Noting(rules="%4", raises={"test": Paused()})
    assert not run(branch)
    assert branch.events == [4, "save"]
    assert (branch.iteration, branch.tested) == (4, -1)


@pytest.mark.parametrize(
    ("iteration", "tested", "events"),
    [
        (4, -1, ["test 3", "save", 4, "test 7", "save", 2, "test 9", "save", "end"]),
        (4, 3, [4, "test 7", "save", 2, "test 9", "save", "end"]),
        (10, 9, ["end"]),
    ],
)
def test_a_training_goes_on_with_what_was_not_done_before(iteration, tested, events):
    resumed = Noting(rules=["%4", "last"], iteration=iteration, tested=tested)
    assert run(resumed)
    assert resumed.events == events
    assert resumed.seen == list(range(iteration, 10))


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_diverged_loss_names_its_iteration_and_comes_after_the_good_ones(value):
    bad, good = Noting(rules=["%4", "last"]), Noting(rules=["%4", "last"])
    step = Step({(0, 6): value, (0, 7): 1.0})
    assert run(bad, good, step=step)
    assert isinstance(bad.error, DivergedError)
    assert str(bad.error).startswith(f"the loss of iteration 6 is {value}; a smaller lear")
    assert bad.seen == [0, 1, 2, 3, 4, 5]
    assert bad.events == [4, "test 3", "save", 2, "fail"]
    assert good.seen == list(range(10)), "the others go on"
    assert step.trained == [(0, 1)] * 8 + [(1,)] * 2


def test_the_time_of_tests_and_checkpoints_is_not_training_time(monkeypatch: pytest.MonkeyPatch):
    clock = {"now": 0.0}

    def slow(function, seconds):
        def slowed(*args):
            clock["now"] += seconds
            return function(*args)

        return slowed

    step = Step()
    branch = Noting(6, ["%3", "last"], seconds=5.0, step_seconds=4.0)
    step.train = slow(step.train, 2)
    branch.test, branch.save = slow(branch.test, 100), slow(branch.save, 1000)
    batches = iter(slow(lambda: (0, None), 1), None)
    monkeypatch.setattr(loop_module.time, "perf_counter", lambda: clock["now"])
    TrainingLoop(step, [branch], batches).run()
    assert branch.seconds == 5 + 18
    assert branch.step_seconds == 4 + 12


def test_losses_before_an_interruption_are_handed_over():
    def interrupted():
        yield from ((i, None) for i in range(6))
        raise KeyboardInterrupt("now")

    branch = Noting(rules="%4")
    with pytest.raises(KeyboardInterrupt, match="now"):
        TrainingLoop(Step(), [branch], interrupted()).run()
    assert branch.events == [4, "test 3", "save", 2]
    assert branch.seen == [0, 1, 2, 3, 4, 5]


def test_branches_see_the_same_batches_and_end_each_at_its_own_time():
    step = Step()
    short, long = Noting(2), Noting(4, ["%3", "last"])
    assert run(short, long, step=step)
    assert step.batches == [0, 1, 2, 3]
    assert step.trained == [(0, 1), (0, 1), (1,), (1,)]
    assert short.events == [2, "test 1", "save", "end"]
    # All are saved together, so that they stand at one iteration when they are gone on with.
    assert long.events == [2, "save", 1, "test 2", "save", 1, "test 3", "save", "end"]


@pytest.mark.parametrize("where", ["losses", "test", "save", "end"])
@pytest.mark.parametrize("error", [RuntimeError("a lead is off"), RunGoneError("a lead is off")])
def test_a_branch_that_fails_leaves_the_others_running(where, error):
    bad = Noting(6, ["%3", "last"], raises={where: error})
    good = Noting(6, ["%3", "last"])
    assert run(bad, good)
    assert "a lead is off" in str(bad.error)
    assert (bad.is_over, bad.events[-1]) == (True, "fail")
    assert good.seen == list(range(6))
    assert (good.error, good.events[-1]) == (None, "end")


def test_what_is_wrong_with_the_machine_ends_the_whole_loop():
    branch = Noting(raises={"save": StorageError("no space left")})
    with pytest.raises(StorageError):
        run(branch, Noting())
    assert branch.error is None


@pytest.mark.parametrize(
    ("special", "rules", "batches", "trained"),
    [
        ({}, "last", [3, 4, 5, 6, 7], [(0,), (0,), (0,), (0, 1), (0, 1)]),
        # Batches go by unused where the branch behind has failed.
        ({(0, 3): np.nan}, "%1", [3, 6, 7], [(0,), (1,), (1,)]),
    ],
)
def test_branches_that_are_ahead_join_in_when_the_others_have_caught_up(
    special, rules, batches, trained
):
    step = Step(special)
    behind, ahead = Noting(8, rules, iteration=3), Noting(8, iteration=6)
    assert run(behind, ahead, step=step)
    assert (step.batches, step.trained) == (batches, trained)
    assert behind.seen == ([] if special else [3, 4, 5, 6, 7])
    assert ahead.seen == [6, 7]


def test_a_branch_that_is_withdrawn_ends_before_its_next_iteration():
    step, lost, kept = Step(), Noting(), Noting()

    def give_up():
        if kept.iteration == 4:
            lost.withdrawn = "others are better"
        return False

    assert run(lost, kept, step=step, should_stop=give_up)
    assert lost.seen == [0.0, 1.0, 2.0, 3.0]
    assert lost.events == [4, "withdraw: others are better"]
    assert kept.seen == [float(i) for i in range(10)]
    assert kept.events[-1] == "end"
    assert step.trained == [(0, 1)] * 4 + [(1,)] * 6


def test_a_loop_whose_branches_are_all_withdrawn_is_over():
    lost = Noting(withdrawn="others are better")
    broken = Noting(raises={"withdraw": ValueError("no")}, withdrawn="bad")
    assert run(lost, broken)
    assert lost.events == ["withdraw: others are better"]
    assert str(broken.error) == "no"
    assert lost.is_over
    assert broken.is_over
