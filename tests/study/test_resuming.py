"""A plan held against what the ledger says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from stored_runs import stored_run

from ecg_mlflow.study.resuming import Action, Standing, Stock, summary, superfluous


def planned(identity):
    return SimpleNamespace(identity=identity)


def entry(status="FINISHED", identity="a", run_id="run 1", **more):
    return stored_run(run_id, status, identity=identity, **more)


def stand(entries, reusable=None, retry_failed=False):
    standing = Stock(entries, reusable, retry_failed=retry_failed).standing(planned("a"))
    return standing.action, standing.entry and standing.entry.run_id


@pytest.mark.parametrize(
    ("entries", "action"),
    [
        ([], Action.START),
        ([entry("FINISHED")], Action.SKIP),
        ([entry("RUNNING", is_complete=True)], Action.SKIP),
        ([entry("RUNNING")], Action.CONTINUE),
        ([entry("KILLED")], Action.CONTINUE),
        ([entry("FAILED")], Action.LEAVE),
        ([entry("FAILED", has_died=True)], Action.LEAVE),
        ([entry("KILLED", is_replaced=True)], Action.START),
        ([entry("FINISHED", identity="b")], Action.START),
        ([entry("KILLED", is_pruned=True)], Action.PRUNED),
        ([entry("RUNNING", is_pruned=True)], Action.PRUNED),
        ([entry("FINISHED", is_pruned=True)], Action.SKIP),
    ],
)
def test_what_is_done_about_a_run(entries, action):
    assert stand(entries)[0] is action


def test_a_finished_run_counts_before_all_others():
    entries = [entry("FINISHED", run_id="old"), entry("RUNNING", run_id="new")]
    assert stand(entries) == (Action.SKIP, "old")


def test_the_newest_that_is_not_replaced_is_gone_on_with():
    entries = [
        entry("KILLED", run_id="1", is_replaced=True),
        entry("RUNNING", run_id="2"),
        entry("RUNNING", run_id="3"),
    ]
    assert stand(entries) == (Action.CONTINUE, "3")


def test_failed_runs_are_tried_again_only_if_asked_for():
    own_error, death = entry("FAILED"), entry("FAILED", has_died=True)
    assert stand([own_error], retry_failed=True)[0] is Action.REPLACE
    assert stand([death], retry_failed=True)[0] is Action.CONTINUE


def test_finished_runs_of_other_studies_are_taken_over():
    other = entry(run_id="other", study_id="other study")
    assert stand([], {"a": other}) == (Action.REUSE, "other")
    assert stand([entry("FAILED")], {"a": other}) == (Action.REUSE, "other")
    assert stand([entry("FINISHED", run_id="own")], {"a": other}) == (Action.SKIP, "own")
    assert stand([], {"b": other})[0] is Action.START
    # What was decided in this study stays so, whatever others have trained since.
    assert stand([entry("KILLED", is_pruned=True)], {"a": other})[0] is Action.PRUNED


def test_runs_that_nobody_goes_on_with_are_left_over():
    old, new = entry("RUNNING", run_id="old"), entry("RUNNING", run_id="new")
    gone = entry("RUNNING", run_id="gone", identity="z")
    pruned = entry("RUNNING", run_id="pruned", identity="p", is_pruned=True)
    done = entry("FINISHED", run_id="done", identity="y")
    entries = [old, new, gone, done, pruned]
    standings = [Stock(entries).standing(planned(name)) for name in "ap"]
    assert [e.run_id for e in superfluous(standings, entries)] == ["old", "gone"]


def test_the_summary_counts():
    actions = [Action.SKIP, Action.SKIP, Action.CONTINUE, Action.START, Action.REPLACE]
    standings = [Standing(planned("a"), action) for action in actions]
    assert summary(standings) == "of 5 runs: 2 finished, 1 to go on with, 2 to begin"
    assert summary([Standing(planned("a"), Action.START)]) is None
