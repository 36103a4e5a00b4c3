from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from ecg_mlflow.process_mark import SILENCE_S, ProcessMark, _birth, heartbeat, seconds_since


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def mark_of(pid: int) -> ProcessMark:
    return replace(ProcessMark.own(), pid=pid, birth=_birth(pid))


def test_a_mark_survives_its_way_through_tags():
    mark = ProcessMark.own()
    assert mark.pid == os.getpid()
    assert ProcessMark.from_tags(mark.tags()) == mark


@pytest.mark.parametrize("lacking", ["ecg_mlflow.pid", "ecg_mlflow.host"])
def test_a_run_without_a_mark_has_none(lacking):
    tags = ProcessMark.own().tags()
    del tags[lacking]
    assert ProcessMark.from_tags(tags) is None


def test_a_process_of_this_machine_is_alive_until_it_ends(sleeper):
    mark = mark_of(sleeper.pid)
    assert mark.is_alive(silent_s=float("inf"))
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not mark.is_alive(silent_s=0), "a zombie does nothing any more"
    sleeper.wait()
    assert not mark.is_alive(silent_s=0)


def test_another_process_with_the_same_number_is_another_process(sleeper):
    mark = replace(mark_of(sleeper.pid), birth="1")
    assert not mark.is_alive(silent_s=0)


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"world": "another boot"}])
def test_elsewhere_heartbeats_decide(change):
    mark = replace(ProcessMark.own(), **change)
    assert mark.is_alive(silent_s=SILENCE_S - 1)
    assert not mark.is_alive(silent_s=SILENCE_S + 1)


@pytest.mark.parametrize("beat", ["ended", "", "1795538125", "2026-11-24T16:35:25"])
def test_what_is_no_heartbeat_was_never_one(beat):
    assert seconds_since(beat) == float("inf")


def test_a_heartbeat_is_a_time_that_people_can_read():
    (beat,) = heartbeat().values()
    assert beat.endswith("+00:00")
    assert 0 <= seconds_since(beat) < 5
