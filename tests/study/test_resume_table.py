"""What is done about planned runs, by what the store has of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from stored_runs import stored_run

from ecg_mlflow.study.resume import KnownRuns, ResumeAction, RunDecision, summary, superfluous


def planned(identity):
    return SimpleNamespace(identity=identity)


def entry(status="FINISHED", identity="a", run_id="run 1", **more):
    return stored_run(run_id, status, identity=identity, **more)


def stand(entries, reusable=None, retry_failed=False):
    decision = KnownRuns(entries, reusable, retry_failed=retry_failed).decide(planned("a"))
    return decision.action, decision.stored and decision.stored.run_id


@pytest.mark.parametrize(
    ("entries", "action"),
    [
        ([], ResumeAction.START),
        ([entry("FINISHED")], ResumeAction.SKIP),
        ([entry("RUNNING", is_complete=True)], ResumeAction.SKIP),
        ([entry("RUNNING")], ResumeAction.CONTINUE),
        ([entry("KILLED")], ResumeAction.CONTINUE),
        ([entry("FAILED")], ResumeAction.LEAVE),
        ([entry("FAILED", has_died=True)], ResumeAction.LEAVE),
        ([entry("KILLED", is_replaced=True)], ResumeAction.START),
        ([entry("FINISHED", identity="b")], ResumeAction.START),
        ([entry("KILLED", is_pruned=True)], ResumeAction.PRUNED),
        ([entry("RUNNING", is_pruned=True)], ResumeAction.PRUNED),
        ([entry("FINISHED", is_pruned=True)], ResumeAction.SKIP),
    ],
)
def test_what_is_done_about_a_run(entries, action):
    assert stand(entries)[0] is action


def test_a_finished_run_counts_before_all_others():
    entries = [entry("FINISHED", run_id="old"), entry("RUNNING", run_id="new")]
    assert stand(entries) == (ResumeAction.SKIP, "old")


def test_the_newest_that_is_not_replaced_is_gone_on_with():
    entries = [
        entry("KILLED", run_id="1", is_replaced=True),
        entry("RUNNING", run_id="2"),
        entry("RUNNING", run_id="3"),
    ]
    assert stand(entries) == (ResumeAction.CONTINUE, "3")


def test_failed_runs_are_tried_again_only_if_asked_for():
    own_error, death = entry("FAILED"), entry("FAILED", has_died=True)
    assert stand([own_error], retry_failed=True)[0] is ResumeAction.REPLACE
    assert stand([death], retry_failed=True)[0] is ResumeAction.CONTINUE


def test_finished_runs_of_other_studies_are_taken_over():
    other = entry(run_id="other", study_id="other study")
    assert stand([], {"a": other}) == (ResumeAction.REUSE, "other")
    assert stand([entry("FAILED")], {"a": other}) == (ResumeAction.REUSE, "other")
    assert stand([entry("FINISHED", run_id="own")], {"a": other}) == (ResumeAction.SKIP, "own")
    assert stand([], {"b": other})[0] is ResumeAction.START
    # What was decided in this study stays so, whatever others have trained since.
    assert stand([entry("KILLED", is_pruned=True)], {"a": other})[0] is ResumeAction.PRUNED


def test_runs_that_nobody_goes_on_with_are_left_over():
    old, new = entry("RUNNING", run_id="old"), entry("RUNNING", run_id="new")
    gone = entry("RUNNING", run_id="gone", identity="z")
    pruned = entry("RUNNING", run_id="pruned", identity="p", is_pruned=True)
    done = entry("FINISHED", run_id="done", identity="y")
    entries = [old, new, gone, done, pruned]
    decisions = [KnownRuns(entries).decide(planned(name)) for name in "ap"]
    assert [e.run_id for e in superfluous(decisions, entries)] == ["old", "gone"]


def test_the_summary_counts():
    actions = [
        ResumeAction.SKIP,
        ResumeAction.SKIP,
        ResumeAction.CONTINUE,
        ResumeAction.START,
        ResumeAction.REPLACE,
    ]
    decisions = [RunDecision(planned("a"), action) for action in actions]
    assert (
        summary(decisions) == "of 5 runs: 2 finished, 1 to go on with, 1 to begin, 1 to begin anew"
    )
    assert summary([RunDecision(planned("a"), ResumeAction.START)]) is None
