"""What the scheduler decides: which runs are next, who is given up, what the sampler is told."""

from __future__ import annotations

import math

import pytest
from boards import ListSampler, Table, ToldGridSampler, asked, entry, told

from ecg_mlflow.grids import Grid, Option
from ecg_mlflow.search.objective import Objective
from ecg_mlflow.search.pruners import Hyperband, Median, SuccessiveHalving
from ecg_mlflow.search.sampler import TrialState
from ecg_mlflow.study.grid_update import GridUpdate
from ecg_mlflow.study.resume import KnownRuns, ResumeAction
from ecg_mlflow.training.schedule import Schedule

COMPLETE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED
ASHA = SuccessiveHalving(eta=3, min_epochs=1)


def layouts(n):
    return Option("layout", [f"c{i}" for i in range(n)])


def actions(decisions):
    return [(decision.run.key, decision.action) for decision in decisions]


# --- What is next --------------------------------------------------------------------------------


def test_a_grid_is_listed_at_once_repetitions_outermost_and_the_longest_first():
    table = Table(layouts(3), exhaustive=True, repetitions=2)
    for config, seconds in zip(table.scheduler._known.values(), (1.0, 9.0, 5.0), strict=True):
        object.__setattr__(config, "seconds", seconds)
    assert [one.run.key for one in table.open()] == [
        "01-r0", "02-r0", "00-r0", "01-r1", "02-r1", "00-r1"
    ]  # fmt: skip
    assert table.next_keys() == []
    assert table.scheduler.n_runs == 6


def test_a_part_of_a_grid_keeps_its_numbers():
    table = Table(layouts(4), exhaustive=True, chosen=[1, 3])
    assert [one.run.key for one in table.open()] == ["01-r0", "03-r0"]
    assert table.scheduler.n_runs == 2


def test_a_sampler_is_asked_when_runs_are_wanted_and_not_before():
    table = Table(layouts(3), repetitions=2)
    assert table.open() == []
    assert table.sampler.n_asked == 0
    assert table.next_keys() == ["00-r0", "00-r1"]
    assert table.next_keys() == ["01-r0", "01-r1"]
    assert table.scheduler.n_runs == 6
    assert table.next_keys() == ["02-r0", "02-r1"]
    assert table.next_keys() == []


def test_a_trial_that_cannot_be_trained_is_told_and_the_next_one_asked_for():
    table = Table(layouts(1))
    table.sampler.configs += list(layouts(2))[1:]
    table.scheduler._plan.planner.refused = ["layout_c1"]
    table.scheduler._known.clear()
    table.open()
    assert table.next_keys() == ["00-r0"]
    assert table.next_keys() == []
    assert table.sampler.told == {1: ("failed", [], "it can't be")}
    assert table.notes == ["trial 1 can't be trained: it can't be"]


# --- What is told --------------------------------------------------------------------------------


def test_the_value_of_a_trial_is_the_mean_over_its_repetitions():
    table = Table(layouts(1), repetitions=3)
    table.open()
    for key, f1 in zip(table.next_keys(), (0.5, 0.6, 1.0), strict=True):
        assert table.sampler.told == {}
        table.finish(key, f1)
    assert table.sampler.told == {0: ("complete", [pytest.approx(0.7)], "")}


def test_a_repetition_that_failed_is_left_out_of_the_mean():
    table = Table(layouts(1), repetitions=2)
    table.open()
    first, second = table.next_keys()
    table.fail(first)
    table.finish(second, 0.25)
    assert table.sampler.told == {0: ("complete", [0.25], "")}


def test_a_trial_fails_with_all_its_repetitions_or_without_the_objective():
    table = Table(layouts(2), repetitions=2)
    table.open()
    for key in table.next_keys():
        table.fail(key)
    for key in table.next_keys():
        table.scheduler.finished(table.run(key), {"accuracy": 1.0})
    assert table.sampler.told == {
        0: ("failed", [], "all 2 runs failed"),
        1: ("failed", [], "its runs have no value of f1"),
    }


def test_several_objectives_are_told_in_their_order():
    objectives = (Objective("f1", True), Objective("loss", False))
    table = Table(layouts(1), repetitions=2, objectives=objectives)
    table.open()
    first, second = table.next_keys()
    table.finish(first, 0.5, loss=2.0)
    table.finish(second, 0.7, loss=4.0)
    assert table.sampler.told == {0: ("complete", [pytest.approx(0.6), 3.0], "")}


# --- Pruning -------------------------------------------------------------------------------------


def test_trials_are_compared_at_equal_epochs_and_all_repetitions_are_given_up():
    table = Table(layouts(3), repetitions=2, pruner=ASHA)
    table.open()
    good, bad = table.next_keys(), table.next_keys()
    for key in good:
        table.test(key, 1, 0.8)
        table.test(key, 2, 0.9)
    table.test(bad[0], 1, 0.85)  # better than the mean at epoch 1, worse than that at epoch 2
    assert table.given_up() == []
    table.test(bad[1], 1, 0.70)
    assert table.given_up() == bad
    state, (value,), note = table.sampler.told[1]
    assert (state, value) == ("pruned", pytest.approx(0.775))
    assert note == "pruned at epoch 1: f1 0.7750 there, where 1 of 1 others were better"
    assert table.scheduler.n_runs == 6


def test_nobody_is_judged_by_the_faster_of_two_repetitions():
    table = Table(layouts(2), repetitions=2, pruner=ASHA)
    table.open()
    good, late = table.next_keys(), table.next_keys()
    for key in good:
        table.test(key, 1, 0.8)
    table.test(late[0], 1, 0.1)
    assert table.given_up() == []
    table.test(late[1], 1, 0.9)  # the mean is 0.5
    assert table.given_up() == late


def test_with_the_second_repetition_a_trial_is_judged_again_among_those_that_have_one():
    table = Table(layouts(3), exhaustive=True, repetitions=2, pruner=ASHA)
    (a0, b0, c0, a1, b1, _) = (one.run.key for one in table.open())
    for key, f1 in ((a0, 0.5), (b0, 0.6), (c0, 0.7)):
        table.scheduler.handed_out(table.run(key))
        table.test(key, 1, f1)
        table.finish(key, f1)
    # Less than each of the three first repetitions, but nobody else has a second one yet.
    table.scheduler.handed_out(table.run(a1))
    table.test(a1, 1, 0.3)
    assert table.given_up() == []
    # b was better than a with the first repetition; the mean of both is not.
    table.scheduler.handed_out(table.run(b1))
    table.test(b1, 1, 0.1)
    assert table.given_up() == [b1]
    assert table.sampler.told[1][2].endswith("where 1 of 1 others were better")


def test_who_has_failed_is_waited_for_no_longer_and_does_not_count():
    table = Table(layouts(3), repetitions=2, pruner=ASHA)
    table.open()
    good, late, torn = table.next_keys(), table.next_keys(), table.next_keys()
    for key in good:
        table.test(key, 1, 0.5)
    table.test(late[0], 1, 0.1)
    table.fail(late[1])
    assert table.given_up() == [late[0]]
    table.test(torn[1], 1, 1.0)
    table.fail(torn[1])
    table.test(torn[0], 1, 0.1)  # the mean with the other would be 0.55
    assert table.given_up() == [torn[0]]


def test_who_has_come_further_is_judged_by_where_it_stands():
    table = Table(layouts(2), pruner=ASHA)
    table.open()
    (first,), (second,) = table.next_keys(), table.next_keys()
    table.test(first, 1, 0.5)
    table.test(first, 3, 0.6)
    # A run that is gone on with tells all its evaluations at once.
    table.scheduler.tested(table.run(second), [(9, {"f1": 0.1}), (29, {"f1": 0.9})])
    assert table.given_up() == []


def test_a_trial_is_judged_at_the_first_evaluation_after_a_rung():
    pruner = SuccessiveHalving(eta=2, min_epochs=1)  # rungs 1, 2, 4, 8
    table = Table(layouts(2), pruner=pruner, test_every="3 epochs")
    table.open()
    (first,), (second,) = table.next_keys(), table.next_keys()
    assert table.scheduler.trials[0].rungs == (3.0, 6.0)
    table.test(first, 3, 0.9)
    table.test(second, 3, 0.1)
    assert table.given_up() == [second]


def test_a_nan_is_worse_than_anything_and_ties_go_on():
    table = Table(layouts(3), pruner=ASHA)
    table.open()
    (a,), (b,), (c,) = (table.next_keys() for _ in range(3))
    table.test(a, 1, 0.0)
    table.test(b, 1, 0.0)
    assert table.given_up() == []
    table.test(c, 1, math.nan)
    assert table.given_up() == [c]


def test_of_a_loss_less_is_better():
    loss = Objective("f1", maximize=False)
    table = Table(layouts(2), pruner=ASHA, objectives=(loss,))
    table.open()
    (a,), (b,) = table.next_keys(), table.next_keys()
    table.test(a, 1, 0.2)
    table.test(b, 1, 0.3)
    assert table.given_up() == [b]


def test_brackets_are_compared_among_themselves():
    pruner = Hyperband(eta=3, min_epochs=1)
    table = Table(layouts(20), pruner=pruner)
    table.open()
    keys = [table.next_keys()[0] for _ in range(20)]
    brackets = {key: table.scheduler.trials[int(key[:2])].bracket for key in keys}
    assert set(brackets.values()) == {0, 1, 2}
    best: dict[int, str] = {}
    for key in keys:
        for epoch in range(1, 9):
            if table.scheduler.trials[int(key[:2])].is_running:
                table.test(key, epoch, 1 / (1 + int(key[:2])))
        best.setdefault(brackets[key], key)
    # Of each bracket with rungs, the first to come is the best and survives.
    survivors = {key for key in keys if table.scheduler.trials[int(key[:2])].is_running}
    assert {best[0], best[1]} <= survivors
    assert {key for key in keys if brackets[key] == 2} <= survivors, "it has no rung before the end"


def test_the_median_waits_for_enough_others():
    table = Table(layouts(5), pruner=Median(min_epochs=1, min_trials=3))
    table.open()
    keys = [table.next_keys()[0] for _ in range(5)]
    for key, f1 in zip(keys, (0.5, 0.1, 0.9, 0.6, 0.4), strict=True):
        table.test(key, 1, f1)
    assert table.given_up() == [keys[4]]


def test_what_ends_before_it_hears_of_it_is_finished_all_the_same():
    table = Table(layouts(2), pruner=ASHA, repetitions=2)
    table.open()
    good, bad = table.next_keys(), table.next_keys()
    for key in (*good, *bad):
        table.test(key, 1, 0.9 if key in good else 0.1)
    table.finish(bad[0], 0.2)
    assert table.sampler.told == {1: table.sampler.told[1]}
    assert table.scheduler.trials[1].n_runs == 2


# --- Repetitions for those in contention ---------------------------------------------------------


def test_a_grid_repeats_the_best_third_after_a_first_pass():
    table = Table(layouts(9), exhaustive=True, repetitions=3, adaptive=True)
    first = [one.run.key for one in table.open()]
    assert len(first) == 9
    for i, key in enumerate(first):
        assert table.next_keys() == []
        table.finish(key, i / 10)
    second = table.next_keys()
    assert second == ["06-r1", "07-r1", "08-r1"]
    assert {table.sampler.told[i][0] for i in range(6)} == {"complete"}
    assert table.scheduler.n_runs == 12
    table.finish("06-r1", 1.0)  # mean 0.8, and the others 0.4
    table.finish("07-r1", 0.1)
    table.finish("08-r1", 0.0)
    assert table.next_keys() == ["06-r2"]
    table.finish("06-r2", 0.0)
    assert table.sampler.told[6] == ("complete", [pytest.approx((0.6 + 1.0 + 0.0) / 3)], "")
    assert len(table.sampler.told) == 9


def test_a_search_repeats_who_is_among_the_best_third_so_far():
    table = Table(layouts(4), repetitions=2, adaptive=True)
    table.open()
    assert table.next_keys() == ["00-r0"]
    table.finish("00-r0", 0.5)
    assert table.next_keys() == ["00-r1"]
    table.finish("00-r1", 0.1)
    assert table.sampler.told[0] == ("complete", [pytest.approx(0.3)], "")
    assert table.next_keys() == ["01-r0"]
    table.finish("01-r0", 0.4)  # less than the first one's first repetition
    assert table.sampler.told[1] == ("complete", [0.4], "")
    assert table.next_keys() == ["02-r0"]
    table.finish("02-r0", 0.6)
    assert table.next_keys() == ["02-r1"]


# --- What the ledger has -------------------------------------------------------------------------


def test_what_is_finished_is_told_and_not_trained():
    known_runs = KnownRuns(
        [entry("layout_c0 r0", metrics={"f1": 0.5})],
        {"layout_c1 r0": entry("layout_c1 r0", metrics={"f1": 0.75})},
    )
    table = Table(layouts(3), known_runs=known_runs)
    assert table.open() == []
    assert actions(table.scheduler.next_runs()) == [("00-r0", ResumeAction.SKIP)]
    assert actions(table.scheduler.next_runs()) == [("01-r0", ResumeAction.REUSE)]
    assert table.sampler.told == {0: ("complete", [0.5], ""), 1: ("complete", [0.75], "")}
    assert actions(table.scheduler.next_runs()) == [("02-r0", ResumeAction.START)]


def test_trials_of_an_earlier_session_are_told_again_as_they_were_then():
    configs = list(layouts(5))
    known_runs = KnownRuns(
        [
            # Told when two trials had been asked for, with a value that its runs have no more.
            entry(
                "layout_c0 r0",
                metrics={"f1": 0.5},
                tags=told(0, configs[0], COMPLETE, [0.4], n_asked=2, order=0),
            ),
            entry("layout_c1 r0", metrics={"f1": 0.7}, tags=asked(1, configs[1])),
            entry("layout_c3 r0", "KILLED", tags=asked(3, configs[3])),
        ]
    )
    events = []
    sampler = Recorder(configs, events)
    table = Table(layouts(5), known_runs=known_runs, sampler=sampler)
    assert actions(table.open()) == [
        ("00-r0", ResumeAction.SKIP),
        ("02-r0", ResumeAction.START),  # had not been started when the driver died
        ("01-r0", ResumeAction.SKIP),
        ("03-r0", ResumeAction.CONTINUE),
    ]
    assert events == [
        *("ask 0", "ask 1", "tell 0 complete [0.4]", "ask 2", "ask 3"),
        "tell 1 complete [0.7]",  # its end was seen, and not stored any more
    ]
    (stored,) = table.scheduler.ends()
    assert (stored[1].number, stored[1].n_asked, stored[1].order) == (1, 4, 1)
    assert table.next_keys() == ["04-r0"]


class Recorder(ListSampler):
    """Keeps the order of what it is asked and told."""

    def __init__(self, configs, events):
        super().__init__(configs)
        self.events = events

    def ask(self):
        trial = super().ask()
        if trial is not None:
            self.events.append(f"ask {trial.number}")
        return trial

    def tell(self, number, state, values=(), note=""):
        super().tell(number, state, values, note)
        self.events.append(f"tell {number} {state.value} {[*values]}")


def test_runs_that_were_taken_over_are_so_again_between_the_same_choices():
    """They have no child in the study that could tell of them."""
    configs = list(layouts(4))
    known_runs = KnownRuns(
        [
            entry("layout_c0 r0", tags=told(0, configs[0], FAILED, n_asked=3, order=2)),
            entry("layout_c3 r0", "KILLED", tags=asked(3, configs[3])),
        ],
        {f"layout_c{i} r0": entry(f"layout_c{i} r0", metrics={"f1": i / 10}) for i in (1, 2)},
    )
    events = []
    table = Table(layouts(4), known_runs=known_runs, sampler=Recorder(configs, events))
    table.open()
    assert events == [
        *("ask 0", "ask 1", "tell 1 complete [0.1]", "ask 2", "tell 2 complete [0.2]"),
        *("tell 0 failed []", "ask 3"),
    ]


@pytest.mark.parametrize("told_before", [True, False])
def test_a_pruned_trial_stays_so_where_its_driver_died_in_the_middle_of_it(told_before):
    (config,) = layouts(1)
    known = told(0, config, PRUNED, [0.25], n_asked=1, order=0)
    known_runs = KnownRuns(
        [
            entry(
                "layout_c0 r0",
                "KILLED",
                is_pruned=not told_before,
                tags=known if told_before else asked(0, config),
            ),
            entry("layout_c0 r1", "RUNNING", tags=asked(0, config)),
        ]
    )
    table = Table(layouts(1), known_runs=known_runs, repetitions=3, pruner=ASHA)
    assert actions(table.open()) == [("00-r0", ResumeAction.PRUNED), ("00-r1", ResumeAction.PRUNED)]
    assert table.next_keys() == []
    assert table.sampler.told[0][:2] == ("pruned", [0.25] if told_before else [])


def test_the_curves_of_finished_runs_count_when_others_are_judged():
    known_runs = KnownRuns([entry("layout_c0 r0", metrics={"f1": 0.9})])
    table = Table(
        layouts(2),
        exhaustive=True,
        known_runs=known_runs,
        pruner=ASHA,
        read_tests=lambda one: [(9, {"f1": 0.8}), (89, {"f1": 0.9})],
    )
    table.open()
    table.scheduler.handed_out(table.run("01-r0"))
    table.test("01-r0", 1, 0.7)
    assert table.given_up() == ["01-r0"]


def test_a_failed_run_that_is_tried_again_changes_nothing_that_was_told():
    (config,) = layouts(1)
    tags = told(0, config, FAILED, n_asked=1, order=0)
    known_runs = KnownRuns([entry("layout_c0 r0", "FAILED", tags=tags)], retry_failed=True)
    table = Table(layouts(1), known_runs=known_runs)
    assert actions(table.open()) == [("00-r0", ResumeAction.REPLACE)]
    table.finish("00-r0", 0.5)
    assert table.sampler.told == {0: ("failed", [], "")}
    assert table.scheduler.ends() == []


# --- The grid changes ----------------------------------------------------------------------------


def grid_update(function, rule="last"):
    return GridUpdate(function, Schedule.parse(rule))


def test_a_grid_can_grow_when_all_of_it_is_done():
    seen = []

    def once_more(results):
        seen.append(list(results["f1"]))
        return Grid(layouts(4)) if len(results) == 2 else None

    table = Table(layouts(2), exhaustive=True, grid_update=grid_update(once_more))
    for i, decision in enumerate(table.open()):
        table.finish(decision.run.key, float(i))
    assert seen == [[0.0, 1.0]]
    assert table.next_keys() == ["02-r0", "03-r0"]
    table.finish("02-r0", 2.0)
    assert len(seen) == 1
    table.finish("03-r0", 3.0)
    assert seen[1:] == [[0.0, 1.0, 2.0, 3.0]]
    assert table.next_keys() == []


def test_what_has_not_begun_and_has_left_the_grid_is_dropped():
    table = Table(
        layouts(5),
        exhaustive=True,
        repetitions=2,
        grid_update=grid_update(lambda results: Grid(Option("layout", ["c0", "c4"])), 0),
    )
    table.open()
    for key in ("00-r0", "00-r1", "01-r0"):
        table.scheduler.handed_out(table.run(key))
    table.finish("00-r0", 0.5)
    table.finish("00-r1", 0.5)
    assert table.given_up() == ["02-r0", "02-r1", "03-r0", "03-r1"]
    assert sorted(table.scheduler.trials) == [0, 1, 4], "what has begun goes on"
    assert table.scheduler.n_runs == 6
    assert table.notes == ["after 1 configurations the grid file has changed the grid"]


def test_the_results_tell_options_state_and_means():
    seen = {}
    grid = Option("layout", ["c0"]) * Option("lr", [0.1, 0.2])

    def look(results):
        seen.update(results.to_dict("list"))

    table = Table(grid, exhaustive=True, repetitions=2, grid_update=grid_update(look))
    for decision in table.open():
        key = decision.run.key
        table.finish(key, 0.5 + decision.run.repetition / 10) if key[1] == "0" else table.fail(key)
    assert seen["state"] == ["complete", "failed"]
    assert seen["lr"] == [0.1, 0.2]
    assert seen["layout"] == ["c0", "c0"]
    assert seen["runs"] == [2, 0]
    assert seen["f1"][0] == pytest.approx(0.55)
    assert math.isnan(seen["f1"][1])


def test_a_study_that_is_gone_on_with_changes_its_grid_as_it_did_before():
    calls = []

    def second_half(results):
        calls.append(list(results["layout"]))
        return Grid(layouts(4)) if len(results) == 2 else None

    # The second ended before the first.
    known_runs = KnownRuns(
        [
            entry("layout_c0 r0", metrics={"f1": 0.1}, ended_ms=20),
            entry("layout_c1 r0", metrics={"f1": 0.2}, ended_ms=10),
            entry("layout_c2 r0", metrics={"f1": 0.3}, ended_ms=30),
        ]
    )
    table = Table(
        layouts(2),
        exhaustive=True,
        known_runs=known_runs,
        grid_update=grid_update(second_half, "%2"),
    )
    assert actions(table.open()) == [
        ("00-r0", ResumeAction.SKIP),
        ("01-r0", ResumeAction.SKIP),
        ("02-r0", ResumeAction.SKIP),
        ("03-r0", ResumeAction.START),
    ]
    assert calls == [["c1", "c0"]]


def test_the_last_is_the_one_after_which_nothing_is_left_also_when_gone_on_with():
    calls = []
    known_runs = KnownRuns(
        [entry(f"layout_c{i} r0", metrics={"f1": 0.5}, ended_ms=i) for i in range(3)]
    )
    look = grid_update(lambda results: calls.append(len(results)))
    Table(layouts(3), exhaustive=True, known_runs=known_runs, grid_update=look).open()
    assert calls == [3]


def test_what_was_begun_in_an_earlier_session_is_not_dropped():
    known_runs = KnownRuns([entry("layout_c2 r0", "KILLED")])
    table = Table(
        layouts(4),
        exhaustive=True,
        known_runs=known_runs,
        grid_update=grid_update(lambda results: Grid(Option("layout", ["c0"])), 0),
    )
    table.open()
    table.finish("00-r0", 0.5)
    assert table.given_up() == ["01-r0", "03-r0"]


def test_a_sampler_goes_on_with_the_new_grid():
    new = Grid(Option("layout", ["x", "y"]))
    table = Table(layouts(3), grid_update=grid_update(lambda results: new, 0))
    table.open()
    table.finish(table.next_keys()[0], 0.5)
    assert table.sampler.grids == [new]
    assert table.next_keys() == ["01-r0"]
    assert table.scheduler.trials[1].options() == {"layout": "x"}


def test_the_grid_sampler_is_told_of_everything():
    table = Table(layouts(2), exhaustive=True)
    assert isinstance(table.sampler, ToldGridSampler)
    for decision in table.open():
        table.finish(decision.run.key, 1.0)
    assert set(table.sampler.told) == {0, 1}
