from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ecg_mlflow.provenance import HEARTBEAT_TAG, ProcessMark, living_process, seconds_since
from ecg_mlflow.tracking import stored_study
from ecg_mlflow.tracking.stored_run import (
    ATTEMPT_TAG,
    CORPUS_TAG,
    DIED_TAG,
    IDENTITY_TAG,
    PLAN_TAG,
    PRUNED_TAG,
    REPLACED_TAG,
)
from ecg_mlflow.tracking.stored_study import find_finished, read_children
from ecg_mlflow.tracking.study_run import Study

DEAD = replace(ProcessMark.own(), pid=2**22 + 1, birth="1").tags()


@pytest.fixture
def study(client, experiment):
    with Study.open(client, experiment, "study", tags={PLAN_TAG: "p", CORPUS_TAG: "c"}) as opened:
        yield opened


def status(client, run_id):
    return client.get_run(run_id).info.status


def test_children_are_read_with_all_that_matters(client, study):
    plain = study.create_child("1", {}, {IDENTITY_TAG: "a", ATTEMPT_TAG: 3})
    other = study.create_child(
        "2", {}, {IDENTITY_TAG: "b", DIED_TAG: 3, REPLACED_TAG: "x", "ecg_mlflow.complete": "true"}
    )
    study.create_child("no identity", {})
    client.log_metric(plain, "test_f1", 0.5)
    client.log_metric(plain, "loss", 0.1)
    study.finish_child(plain, "FINISHED")
    first, second = read_children(client, study.experiment_id, study.run_id)
    flags = ("is_finished", "is_complete", "is_replaced", "has_died", "is_pruned")
    assert (first.run_id, first.identity, first.study_id) == (plain, "a", study.run_id)
    assert (first.status, first.attempt, first.metrics) == (
        "FINISHED",
        3,
        {"test_f1": 0.5, "loss": 0.1},
    )
    assert first.ended_ms == client.get_run(plain).info.end_time
    assert [getattr(first, flag) for flag in flags] == [True, False, False, False, False]
    assert (second.run_id, second.identity) == (other, "b")
    assert (second.status, second.attempt, second.metrics) == ("RUNNING", 1, {})
    assert [getattr(second, flag) for flag in flags] == [True, True, True, True, False]


def test_more_children_than_a_page_holds(client, study, monkeypatch):
    monkeypatch.setattr(stored_study, "_PAGE", 2)
    for i in range(5):
        study.create_child(str(i), {}, {IDENTITY_TAG: str(i)})
    found = read_children(client, study.experiment_id, study.run_id)
    assert [entry.identity for entry in found] == list("01234")


def test_finished_runs_are_found_by_corpus_in_all_experiments(client, experiment, study):
    def child(of, corpus, identity, end):
        run_id = of.create_child("x", {}, {IDENTITY_TAG: identity, CORPUS_TAG: corpus})
        of.finish_child(run_id, end)
        return run_id

    corpus = experiment  # a name of its own
    first = child(study, corpus, "a", "FINISHED")
    child(study, corpus, "b", "FAILED")
    child(study, "another corpus", "c", "FINISHED")
    with Study.open(client, f"{experiment} II", "study II") as second:
        time.sleep(0.01)
        child(second, corpus, "a", "FINISHED")
        other = child(second, corpus, "d", "FINISHED")
    found = find_finished(client, corpus)
    assert {identity: entry.run_id for identity, entry in found.items()} == {"a": first, "d": other}


def test_a_study_says_whose_it_is_while_it_is_open(client, study):
    tags = client.get_run(study.run_id).data.tags
    assert tags["ecg_mlflow.pid"] == str(os.getpid())
    assert living_process(tags) == ProcessMark.own()
    assert living_process({**tags, **DEAD}) is None


@pytest.mark.parametrize(("seconds_ago", "lives"), [(1, True), (999, False)])
def test_on_another_machine_heartbeats_decide(seconds_ago, lives):
    beat = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()
    tags = {**replace(ProcessMark.own(), host="elsewhere").tags(), HEARTBEAT_TAG: beat}
    assert bool(living_process(tags)) is lives


@pytest.mark.parametrize("beat", ["ended", "", "soon"])
def test_who_has_ended_in_order_is_not_waited_for(beat):
    tags = {**replace(ProcessMark.own(), host="elsewhere").tags(), HEARTBEAT_TAG: beat}
    assert living_process(tags) is None


def test_a_closed_study_has_no_heartbeat_left(client, experiment):
    with Study.open(client, experiment, "study") as opened:
        before = client.get_run(opened.run_id).data.tags[HEARTBEAT_TAG]
    assert seconds_since(before) < 60
    assert client.get_run(opened.run_id).data.tags[HEARTBEAT_TAG] == "ended"


def test_a_run_that_was_given_up_is_known_as_such(client, study):
    run_id = study.create_child("1", {}, {IDENTITY_TAG: "a"})
    study.tag_child(run_id, {PRUNED_TAG: "others are better"})
    (found,) = read_children(client, study.experiment_id, study.run_id)
    assert found.is_pruned
