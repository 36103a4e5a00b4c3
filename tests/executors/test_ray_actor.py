"""The actor's part, without Ray: what only the order of calls brings out."""

import os
import pickle
import time

import pytest

from ecg_mlflow.executors import Job, Outcome, ray_actor
from ecg_mlflow.executors.messages import CallResult, encode_message
from ecg_mlflow.executors.ray_actor import JobActor


@pytest.fixture
def actor(monkeypatch):
    monkeypatch.setenv("ECG_MLFLOW_DEVICE", "")
    monkeypatch.setenv("MLFLOW_RUN_ID", "r")
    monkeypatch.syspath_prepend(str(__file__).rpartition("/")[0])
    return JobActor("jobs:do", None)


def answer_of(actor):
    """Fetch messages until the last one."""
    while True:
        last = actor.next_messages()[-1]
        if isinstance(last, Outcome) or isinstance(last.content, CallResult):
            return last


def test_a_stop_that_overtakes_its_job_is_kept_for_it(actor):
    actor.stop("a")
    actor.begin(Job("a", b"tick"), 0)
    assert answer_of(actor).content.interrupted
    actor.stop("a")  # too late, and of no account for another try
    actor.begin(Job("a", b"poll_without_a_shield"), 0)
    assert answer_of(actor).content.value is not None
    actor.begin(Job("b", b"count 3"), 0)
    assert not answer_of(actor).content.interrupted


def deliver(actor, number, *values, **rest):
    actor.deliver(number, [encode_message({"i": i, **rest}) for i in values])


def what_it_read(actor):
    return [data["i"] for data in pickle.loads(answer_of(actor).content.value)]


def test_messages_that_overtake_their_job_or_each_other_are_read_in_order(actor):
    deliver(actor, 1, 2)
    deliver(actor, 2, 3, last=True)
    actor.begin(Job("a", b"read"), 0)
    time.sleep(0.1)
    deliver(actor, 0, 0, 1)
    assert what_it_read(actor) == [0, 1, 2, 3]
    actor.begin(Job("b", b"read"), 3)
    deliver(actor, 3, 4, last=True)
    assert what_it_read(actor) == [4]


def test_messages_that_are_late_are_not_read_by_another_try(actor):
    actor.begin(Job("a", b"echo"), 0)
    answer_of(actor)
    deliver(actor, 1, 1)
    deliver(actor, 3, 3, last=True)  # to the next one, before it has begun
    actor.begin(Job("a", b"read"), 3)
    deliver(actor, 0, 0)
    deliver(actor, 2, 2)
    assert what_it_read(actor) == [3]


def test_quick_reports_travel_together(actor, monkeypatch):
    monkeypatch.setattr(ray_actor, "_GATHER", 1)
    actor.begin(Job("a", b"tick"), 0)  # every 10 ms
    assert sum(len(actor.next_messages()) for _ in range(2)) > 10
    actor.stop("a")
    answer_of(actor)


def test_the_end_of_a_job_waits_for_nothing(actor, monkeypatch):
    monkeypatch.setattr(ray_actor, "_GATHER", 3600)
    actor.begin(Job("a", b"count 3"), 0)
    assert answer_of(actor).content.value is not None


def test_a_job_waits_when_the_driver_does_not_fetch(actor, monkeypatch):
    monkeypatch.setattr(ray_actor, "_OUTBOX_LIMIT", 1_000_000)
    actor.begin(Job("a", b"flood"), 0)
    while len(actor._outbox._messages) < 4:  # of 300 kB
        time.sleep(0.01)
    time.sleep(0.5)
    assert len(actor._outbox._messages) == 4
    actor.stop("a")
    assert answer_of(actor).content.interrupted


def test_it_says_where_its_threads_are(actor):
    actor.begin(Job("a", b"sleep"), 0)
    while "in sleep" not in actor.stacks():
        time.sleep(0.01)


def test_the_parents_run_is_forgotten(actor):
    assert "MLFLOW_RUN_ID" not in os.environ
