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


REPLACED = entry("KILLED", run_id="replaced", is_replaced=True)
PRUNED = entry("KILLED", run_id="pruned", is_pruned=True)
SECOND = entry("RUNNING", run_id="run 2")
OTHERS = {"reusable": {"a": entry(run_id="other", study_id="other study")}}
RETRY = {"retry_failed": True}


@pytest.mark.parametrize(
    ("entries", "options", "action", "run_id"),
    [
        ([], {}, ResumeAction.START, None),
        ([entry("FINISHED")], {}, ResumeAction.SKIP, "run 1"),
        ([entry("RUNNING", is_complete=True)], {}, ResumeAction.SKIP, "run 1"),
        ([entry("RUNNING")], {}, ResumeAction.CONTINUE, "run 1"),
        ([entry("KILLED")], {}, ResumeAction.CONTINUE, "run 1"),
        ([entry("FAILED")], {}, ResumeAction.LEAVE, "run 1"),
        ([entry("FAILED", has_died=True)], {}, ResumeAction.LEAVE, "run 1"),
        ([REPLACED], {}, ResumeAction.START, None),
        ([entry("FINISHED", identity="b")], {}, ResumeAction.START, None),
        ([PRUNED], {}, ResumeAction.PRUNED, "pruned"),
        ([entry("RUNNING", is_pruned=True)], {}, ResumeAction.PRUNED, "run 1"),
        ([entry("FINISHED", is_pruned=True)], {}, ResumeAction.SKIP, "run 1"),
        # A finished run counts before all others, else the newest that is not replaced.
        ([entry(), entry("RUNNING", run_id="new")], {}, ResumeAction.SKIP, "run 1"),
        ([REPLACED, entry("RUNNING"), SECOND], {}, ResumeAction.CONTINUE, "run 2"),
        # Failed runs are tried again only if asked for.
        ([entry("FAILED")], RETRY, ResumeAction.REPLACE, "run 1"),
        ([entry("FAILED", has_died=True)], RETRY, ResumeAction.CONTINUE, "run 1"),
        # Finished runs of other studies are taken over, unless this one has decided.
        ([], OTHERS, ResumeAction.REUSE, "other"),
        ([entry("FAILED")], OTHERS, ResumeAction.REUSE, "other"),
        ([entry("FINISHED")], OTHERS, ResumeAction.SKIP, "run 1"),
        ([PRUNED], OTHERS, ResumeAction.PRUNED, "pruned"),
        ([], {"reusable": {"b": entry()}}, ResumeAction.START, None),
    ],
)
def test_what_is_done_about_a_run(entries, options, action, run_id):
    decision = KnownRuns(entries, **options).decide(planned("a"))
    assert (decision.action, decision.stored and decision.stored.run_id) == (action, run_id)


def test_runs_that_nobody_goes_on_with_are_left_over():
    old, new = entry("RUNNING", run_id="old"), entry("RUNNING", run_id="new")
    gone = entry("RUNNING", run_id="gone", identity="z")
    pruned = entry("RUNNING", run_id="pruned", identity="p", is_pruned=True)
    done = entry("FINISHED", run_id="done", identity="y")
    entries = [old, new, gone, done, pruned]
    decisions = [KnownRuns(entries).decide(planned(name)) for name in "ap"]
    assert [e.run_id for e in superfluous(decisions, entries)] == ["old", "gone"]


def test_the_summary_counts():
    names = ("SKIP", "SKIP", "CONTINUE", "START", "REPLACE")
    decisions = [RunDecision(planned("a"), ResumeAction[name]) for name in names]
    said = "of 5 runs: 2 finished, 1 to go on with, 1 to begin, 1 to begin anew"
    assert summary(decisions) == said
    assert summary([RunDecision(planned("a"), ResumeAction.START)]) is None
