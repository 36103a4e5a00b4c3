"""What the scheduler decides: which runs are next, who is given up, what the sampler is told."""

from __future__ import annotations

import math

import pytest
from boards import F1, Table, asked, entry, evaluation, told

from ecg_mlflow.errors import ResearchError
from ecg_mlflow.grids import Grid, Option
from ecg_mlflow.search.objective import Objective
from ecg_mlflow.search.pruners import Hyperband, Median, SuccessiveHalving
from ecg_mlflow.search.sampler import TrialState
from ecg_mlflow.study.descriptions import Counts
from ecg_mlflow.study.resume import KnownRuns, ResumeAction

COMPLETE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED
ASHA = SuccessiveHalving(eta=3, min_epochs=1)


def layouts(n):
    return Option("layout", [f"c{i}" for i in range(n)])


def keys(decisions):
    return [one.run.key for one in decisions]


def actions(decisions):
    return [(one.run.key, one.action) for one in decisions]


# --- What is next --------------------------------------------------------------------------------


def test_a_grid_is_listed_at_once_repetitions_outermost_and_the_longest_first():
    table = Table(layouts(3), exhaustive=True, repetitions=2)
    for config, seconds in zip(table.scheduler._known.values(), (1.0, 9.0, 5.0), strict=True):
        object.__setattr__(config, "seconds", seconds)
    assert keys(table.open()) == ["01-r0", "02-r0", "00-r0", "01-r1", "02-r1", "00-r1"]
    assert table.next_keys() == []
    assert table.scheduler.counts == Counts(6)


def test_a_part_of_a_grid_keeps_its_numbers():
    table = Table(layouts(4), exhaustive=True, chosen=[1, 3])
    assert keys(table.open()) == ["01-r0", "03-r0"]
    assert table.scheduler.counts.n_runs == 2


def test_a_sampler_is_asked_when_runs_are_wanted_and_not_before():
    table = Table(layouts(3), repetitions=2)
    assert table.open() == []
    assert table.events == []
    assert [table.next_keys() for _ in range(2)] == [["00-r0", "00-r1"], ["01-r0", "01-r1"]]
    assert table.scheduler.counts.n_runs == 6
    assert [table.next_keys() for _ in range(2)] == [["02-r0", "02-r1"], []]


def test_a_trial_that_cannot_be_trained_is_told_and_the_next_one_asked_for(capsys):
    table = Table(layouts(3), refused=["layout_c1"], chosen=[0])
    table.open()
    assert [table.next_keys() for _ in range(3)] == [["00-r0"], ["02-r0"], []]
    assert table.told == {1: ("failed", [], "it can't be")}
    assert capsys.readouterr().err == "note: trial 1 can't be trained: it can't be\n"


# --- What is told --------------------------------------------------------------------------------

BOTH = (F1, Objective("loss", False))


@pytest.mark.parametrize(
    ("reached", "objectives", "expected"),
    [
        ([{"f1": 0.5}, {"f1": 0.6}, {"f1": 1.0}], (F1,), ("complete", [0.7], "")),
        ([None, {"f1": 0.25}], (F1,), ("complete", [0.25], "")),
        ([None, None], (F1,), ("failed", [], "all 2 runs failed")),
        ([{"accuracy": 1.0}], (F1,), ("failed", [], "its runs have no value of f1")),
        ([{"f1": 0.5, "loss": 2}, {"f1": 0.7, "loss": 4}], BOTH, ("complete", [0.6, 3.0], "")),
    ],
)
@pytest.mark.parametrize("exhaustive", [False, True])
def test_the_value_of_a_trial_is_the_mean_over_its_finished_repetitions(
    reached, objectives, expected, exhaustive
):
    table = Table(
        layouts(1), repetitions=len(reached), objectives=objectives, exhaustive=exhaustive
    )
    for key, metrics in zip(keys(table.open()) or table.next_keys(), reached, strict=True):
        assert table.told == {}
        if metrics is None:
            table.fail(key)
        else:
            table.scheduler.finished(table.run(key), metrics)
    state, values, note = expected
    assert table.told == {0: (state, pytest.approx(values), note)}
    n_failed = reached.count(None)
    assert table.scheduler.counts == Counts(len(reached), len(reached) - n_failed, n_failed)


def test_a_score_on_the_test_records_is_added_to_what_a_run_has_reached():
    table = Table(layouts(1), exhaustive=True)
    table.finish(*keys(table.open()), 0.5)
    table.scheduler.scored(table.run("00-r0"), {"test_f1": 0.25})
    assert table.scheduler.trials[0].metrics == {0: {"f1": 0.5, "test_f1": 0.25}}
    assert table.scheduler.n_scored == 1


# --- Pruning -------------------------------------------------------------------------------------


def under_way(n, **options):
    """Return a table with the runs of so many trials under way, and their keys by trial."""
    table = Table(layouts(n), **options)
    table.open()
    return table, *(table.next_keys() for _ in range(n))


def test_trials_are_compared_at_equal_epochs_and_all_repetitions_are_given_up():
    table, good, bad = under_way(2, repetitions=2, pruner=ASHA)
    for key in good:
        table.test(key, 1, 0.8)
        table.test(key, 2, 0.9)
    table.test(bad[0], 1, 0.85)  # better than the mean at epoch 1, worse than that at epoch 2
    assert table.given_up() == []
    table.test(bad[1], 1, 0.70)
    assert table.given_up() == bad
    assert table.told == {
        1: (
            "pruned",
            [pytest.approx(0.775)],
            "pruned at epoch 1: f1 0.7750 there, where 1 of 1 others were better",
        )
    }
    assert table.scheduler.counts == Counts(4, pruned=2)
    table.finish(bad[0], 0.2)  # before it heard of it
    assert table.scheduler.counts == Counts(4, finished=1, pruned=1)
    assert len(table.told) == 1


def test_nobody_is_judged_by_the_faster_of_two_repetitions():
    table, good, late = under_way(2, repetitions=2, pruner=ASHA)
    for key in good:
        table.test(key, 1, 0.8)
    table.test(late[0], 1, 0.1)
    assert table.given_up() == []
    table.test(late[1], 1, 0.9)  # the mean is 0.5
    assert table.given_up() == late


def test_with_the_second_repetition_a_trial_is_judged_again_among_those_that_have_one():
    table = Table(layouts(3), exhaustive=True, repetitions=2, pruner=ASHA)
    (a0, b0, c0, a1, b1, _) = keys(table.open())
    for key, f1 in ((a0, 0.5), (b0, 0.6), (c0, 0.7)):
        table.test(table.hand_out(key), 1, f1)
        table.finish(key, f1)
    # Less than each of the three first repetitions, but nobody else has a second one yet.
    table.test(table.hand_out(a1), 1, 0.3)
    assert table.given_up() == []
    # b was better than a with the first repetition; the mean of both is not.
    table.test(table.hand_out(b1), 1, 0.1)
    assert table.given_up() == [b1]
    assert table.told[1][2].endswith("where 1 of 1 others were better")


def test_a_first_repetition_is_compared_with_first_ones():
    table = Table(layouts(2), exhaustive=True, repetitions=2, pruner=ASHA)
    (a0, b0, a1, b1) = keys(table.open())
    for key, f1 in ((a0, 0.9), (a1, 0.1)):
        table.test(table.hand_out(key), 1, f1)
    table.test(table.hand_out(b0), 1, 0.6)  # more than the mean of both
    assert table.given_up() == [b0, b1]


def test_who_has_failed_is_waited_for_no_longer_and_does_not_count():
    table, good, late, torn = under_way(3, repetitions=2, pruner=ASHA)
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
    table, (first,), (second,) = under_way(2, pruner=ASHA)
    table.test(first, 1, 0.5)
    table.test(first, 3, 0.6)
    # A run that is gone on with tells all its evaluations at once.
    table.scheduler.tested(table.run(second), [(9, {"f1": 0.1}), (29, {"f1": 0.9})])
    assert table.given_up() == []


@pytest.mark.parametrize(
    ("values", "given_up", "options"),
    [
        ([0.0, 0.0, math.nan], [2], {}),  # ties go on
        ([0.2, 0.3], [1], {"objectives": (Objective("f1", maximize=False),)}),
        ([0.5, 0.1, 0.9, 0.6, 0.4], [4], {"pruner": Median(min_epochs=1, min_trials=3)}),
    ],
    ids=["nan", "less is better", "the median waits for enough others"],
)
def test_who_is_given_up_at_the_first_rung(values, given_up, options):
    table, *trials = under_way(len(values), **{"pruner": ASHA, **options})
    for (key,), value in zip(trials, values, strict=True):
        table.test(key, 1, value)
    assert table.given_up() == [trials[i][0] for i in given_up]


def test_a_trial_is_judged_at_the_first_evaluation_after_a_rung():
    pruner = SuccessiveHalving(eta=2, min_epochs=1)  # rungs 1, 2, 4, 8
    table, (first,), (second,) = under_way(2, pruner=pruner, test_every="3 epochs")
    assert table.scheduler.trials[0].rungs == (3.0, 6.0)
    table.test(first, 3, 0.9)
    table.test(second, 3, 0.1)
    assert table.given_up() == [second]


def test_brackets_are_compared_among_themselves():
    pruner = Hyperband(eta=3, min_epochs=1)
    table, *runs = under_way(20, pruner=pruner)
    for number, (key,) in enumerate(runs):
        table.test(key, 3, 1 / (1 + number))
    kept: dict[int, list[bool]] = {}
    for number, trial in table.scheduler.trials.items():
        kept.setdefault(pruner.bracket(number, 9), []).append(trial.is_running)
    # The first to come is the best of each bracket; the last one is not judged before the end.
    assert (kept[0][0], kept[1][0], all(kept[2])) == (True, True, True)
    assert not any(kept[0][3:] + kept[1][3:])


# --- Repetitions for those in contention ---------------------------------------------------------


def test_a_grid_repeats_the_best_third_after_a_first_pass():
    table = Table(layouts(9), exhaustive=True, repetitions=3, adaptive=True)
    first = keys(table.open())
    assert len(first) == 9
    for i, key in enumerate(first):
        assert table.next_keys() == []
        table.finish(key, i / 10)
    assert table.next_keys() == ["06-r1", "07-r1", "08-r1"]
    assert {table.told[i][0] for i in range(6)} == {"complete"}
    assert table.scheduler.counts.n_runs == 12
    table.finish("06-r1", 1.0)  # mean 0.8, and the others 0.4
    table.finish("07-r1", 0.1)
    table.finish("08-r1", 0.0)
    assert table.next_keys() == ["06-r2"]
    table.finish("06-r2", 0.0)
    assert table.told[6] == ("complete", [pytest.approx((0.6 + 1.0 + 0.0) / 3)], "")
    assert len(table.told) == 9


def test_a_search_repeats_who_is_among_the_best_third_so_far():
    table = Table(layouts(4), repetitions=2, adaptive=True)
    table.open()
    # The second trial reaches less than the first one's first repetition, whatever its second.
    for key, f1 in (("00-r0", 0.5), ("00-r1", 0.1), ("01-r0", 0.4), ("02-r0", 0.6)):
        assert table.next_keys() == [key]
        table.finish(key, f1)
    assert table.told == {
        0: ("complete", [pytest.approx(0.3)], ""),
        1: ("complete", [0.4], ""),
    }
    assert table.next_keys() == ["02-r1"]


# --- What the store has --------------------------------------------------------------------------


def test_what_is_finished_is_told_and_not_trained():
    reused = entry("layout_c1 r0", metrics={"f1": 0.75})
    known_runs = KnownRuns([entry("layout_c0 r0", metrics={"f1": 0.5})], {"layout_c1 r0": reused})
    table = Table(layouts(3), known_runs=known_runs)
    assert table.open() == []
    assert [actions(table.scheduler.next_runs()) for _ in range(3)] == [
        [("00-r0", ResumeAction.SKIP)],
        [("01-r0", ResumeAction.REUSE)],
        [("02-r0", ResumeAction.START)],
    ]
    assert table.told == {0: ("complete", [0.5], ""), 1: ("complete", [0.75], "")}
    assert table.scheduler.counts == Counts(3, finished=2)
    assert table.scheduler.reused == [reused]
    stored = [run_ids for run_ids, _ in table.scheduler.ends()]
    assert stored == [["run of layout_c0 r0"]], "the other study's run stays as it is"


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
    table = Table(layouts(5), known_runs=known_runs)
    assert actions(table.open()) == [
        ("00-r0", ResumeAction.SKIP),
        ("02-r0", ResumeAction.START),  # had not been started when the driver died
        ("01-r0", ResumeAction.SKIP),
        ("03-r0", ResumeAction.CONTINUE),
    ]
    assert table.events == [
        *("ask 0", "ask 1", "tell 0 complete [0.4]", "ask 2", "ask 3"),
        "tell 1 complete [0.7]",  # its end was seen, and not stored any more
    ]
    ((run_ids, end),) = table.scheduler.ends()
    assert run_ids == ["run of layout_c1 r0"]
    assert (end.number, end.n_asked, end.order) == (1, 4, 1)
    assert table.next_keys() == ["04-r0"]


@pytest.mark.parametrize("told_before", [True, False])
def test_a_pruned_trial_stays_so_where_its_driver_died_in_the_middle_of_it(told_before):
    (config,) = layouts(1)
    tags = asked(0, config)
    known = told(0, config, PRUNED, [0.25], n_asked=1, order=0) if told_before else tags
    known_runs = KnownRuns(
        [
            entry("layout_c0 r0", "KILLED", is_pruned=not told_before, tags=known),
            entry("layout_c0 r1", "RUNNING", tags=tags),
        ]
    )
    table = Table(layouts(1), known_runs=known_runs, repetitions=3, pruner=ASHA)
    assert actions(table.open()) == [("00-r0", ResumeAction.PRUNED), ("00-r1", ResumeAction.PRUNED)]
    assert table.next_keys() == []
    assert table.told[0][:2] == ("pruned", [0.25] if told_before else [])
    assert table.scheduler.counts == Counts(2, pruned=2)


def test_the_curves_of_finished_runs_count_when_others_are_judged():
    table = Table(
        layouts(2),
        exhaustive=True,
        known_runs=KnownRuns([entry("layout_c0 r0", metrics={"f1": 0.9})]),
        pruner=ASHA,
        tests=lambda run_id: [evaluation(9, 0.8), evaluation(89, 0.9)],
    )
    table.open()
    table.test(table.hand_out("01-r0"), 1, 0.7)
    assert table.given_up() == ["01-r0"]


def test_a_failed_run_that_is_tried_again_changes_nothing_that_was_told():
    (config,) = layouts(1)
    tags = told(0, config, FAILED, n_asked=1, order=0)
    known_runs = KnownRuns([entry("layout_c0 r0", "FAILED", tags=tags)], retry_failed=True)
    table = Table(layouts(1), known_runs=known_runs)
    assert actions(table.open()) == [("00-r0", ResumeAction.REPLACE)]
    table.finish("00-r0", 0.5)
    assert table.told == {0: ("failed", [], "")}
    assert table.scheduler.ends() == []


def test_the_end_of_a_trial_is_not_told_by_a_child_that_another_is_to_replace():
    (config,) = layouts(1)
    states = ("FAILED", "KILLED")
    runs = [entry(f"layout_c0 r{i}", s, tags=asked(0, config)) for i, s in enumerate(states)]
    known_runs = KnownRuns(runs, retry_failed=True)
    table = Table(layouts(1), known_runs=known_runs, repetitions=2)
    for key in keys(table.open()):
        table.finish(key, 0.5)
    assert [run_ids for run_ids, _ in table.scheduler.ends()] == [["run of layout_c0 r1"]]


# --- The grid changes ----------------------------------------------------------------------------


def changing(n, function, rule="last", **options):
    """Return a table over a grid that the grid file changes."""
    more = {"update_grid": function, "update_every": rule, "exhaustive": True, **options}
    return Table(n if isinstance(n, Grid) else layouts(n), **more)


def test_a_grid_can_grow_when_all_of_it_is_done():
    seen = []

    def once_more(results):
        seen.append(list(results["f1"]))
        return layouts(4) if len(results) == 2 else None  # an option is a grid, too

    table = changing(2, once_more)
    for i, key in enumerate(keys(table.open())):
        table.finish(key, float(i))
    assert seen == [[0.0, 1.0]]
    assert table.next_keys() == ["02-r0", "03-r0"]
    table.finish("02-r0", 2.0)
    assert len(seen) == 1
    table.finish("03-r0", 3.0)
    assert seen[1:] == [[0.0, 1.0, 2.0, 3.0]]
    assert table.next_keys() == []


def test_what_has_not_begun_and_has_left_the_grid_is_dropped(capsys):
    smaller = Grid(Option("layout", ["c0", "c4"]))
    table = changing(5, lambda results: smaller, 0, repetitions=2)
    table.open()
    for key in ("00-r0", "00-r1", "01-r0"):
        table.hand_out(key)
    table.finish("00-r0", 0.5)
    table.finish("00-r1", 0.5)
    assert table.given_up() == ["02-r0", "02-r1", "03-r0", "03-r1"]
    assert sorted(table.scheduler.trials) == [0, 1, 4], "what has begun goes on"
    assert table.scheduler.counts == Counts(6, finished=2)
    said = "note: after 1 configurations the grid file has changed the grid\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (
            lambda results: results["f2"],
            "update_grid: it failed on the results of 1 configurations with KeyError: 'f2'",
        ),
        (lambda results: Option("layout", []), "update_grid: option 'layout' has no values"),
        (lambda results: ["c"], r"must return a grid, an option, or None .* not \['c'\]"),
    ],
)
def test_what_goes_wrong_in_the_function_that_changes_the_grid_says_so(function, says):
    table = changing(1, function)
    table.open()
    with pytest.raises(ResearchError, match=says):
        table.finish("00-r0", 0.5)


def test_the_results_tell_options_state_and_means():
    seen = {}
    grid = Option("layout", ["c0"]) * Option("lr", [0.1, 0.2])
    table = changing(grid, lambda results: seen.update(results.to_dict("list")), repetitions=2)
    for decision in table.open():
        key = decision.run.key
        table.finish(key, 0.5 + decision.run.repetition / 10) if key[1] == "0" else table.fail(key)
    assert seen["state"] == ["complete", "failed"]
    assert seen["lr"] == [0.1, 0.2]
    assert seen["layout"] == ["c0", "c0"]
    assert seen["runs"] == [2, 0]
    assert seen["f1"] == [pytest.approx(0.55), pytest.approx(math.nan, nan_ok=True)]


def test_a_study_that_is_gone_on_with_changes_its_grid_as_it_did_before():
    calls = []

    def second_half(results):
        calls.append(list(results["layout"]))
        return Grid(layouts(4)) if len(results) == 2 else None

    ended = {0: 20, 1: 10, 2: 30}  # the second ended before the first
    known_runs = KnownRuns(
        [entry(f"layout_c{i} r0", metrics={"f1": 0.1}, ended_ms=ms) for i, ms in ended.items()]
    )
    table = changing(2, second_half, "%2", known_runs=known_runs)
    assert actions(table.open()) == [
        *((f"0{i}-r0", ResumeAction.SKIP) for i in range(3)),
        ("03-r0", ResumeAction.START),
    ]
    assert calls == [["c1", "c0"]]


def test_the_last_is_the_one_after_which_nothing_is_left_also_when_gone_on_with():
    calls = []
    known_runs = KnownRuns(
        [entry(f"layout_c{i} r0", metrics={"f1": 0.5}, ended_ms=i) for i in range(3)]
    )
    changing(3, lambda results: calls.append(len(results)), known_runs=known_runs).open()
    assert calls == [3]


def test_what_was_begun_in_an_earlier_session_is_not_dropped():
    smaller = Grid(Option("layout", ["c0"]))
    known_runs = KnownRuns([entry("layout_c2 r0", "KILLED")])
    table = changing(4, lambda results: smaller, 0, known_runs=known_runs)
    table.open()
    table.finish("00-r0", 0.5)
    assert table.given_up() == ["01-r0", "03-r0"]


def test_a_sampler_goes_on_with_the_new_grid():
    new = Grid(Option("layout", ["x", "y"]))
    table = changing(3, lambda results: new, 0, exhaustive=False)
    table.open()
    table.finish(table.next_keys()[0], 0.5)
    assert table.next_keys() == ["01-r0"]
    assert table.scheduler.trials[1].options() == {"layout": "x"}
