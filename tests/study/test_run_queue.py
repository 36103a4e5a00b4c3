from __future__ import annotations

from types import SimpleNamespace

from ecg_mlflow.study.run_queue import OpenRun, RunQueue


def waiting(*runs, branches=4):
    queue = RunQueue(branches)
    for one in runs:
        queue.append(one)
    return queue


def a_run(name, repetition=0, stream="s", **more):
    config = SimpleNamespace(stream=stream)
    return OpenRun(SimpleNamespace(key=name, repetition=repetition, config=config), **more)


def groups(queue, n_slots=1):
    found = []
    while queue:
        found.append([one.run.key for one in queue.take_group(n_slots)])
    return found


def test_without_branches_each_run_goes_alone_and_in_order():
    assert groups(waiting(*map(a_run, "abc"), branches=1)) == [["a"], ["b"], ["c"]]


def test_branches_have_a_repetition_and_a_stream_in_common():
    queue = waiting(
        a_run("a", stream="x"),
        a_run("b", stream="y"),
        a_run("c", stream="x"),
        a_run("d", stream="x", repetition=1),
        a_run("e", stream="y"),
    )
    assert groups(queue) == [["a", "c"], ["b", "e"], ["d"]]


def test_a_group_is_no_larger_than_asked_for():
    assert groups(waiting(*map(a_run, "abcde"), branches=2)) == [["a", "b"], ["c", "d"], ["e"]]


def test_a_group_leaves_every_slot_its_share():
    assert groups(waiting(*map(a_run, "abcde")), n_slots=2) == [["a", "b", "c"], ["d"], ["e"]]


def test_who_is_to_be_alone_is_alone_and_in_nobody_s_group():
    queue = waiting(a_run("a"), a_run("b", alone=True), a_run("c"))
    assert groups(queue) == [["a", "c"], ["b"]]


def test_a_run_that_was_under_way_comes_first():
    queue = waiting(a_run("a"), branches=1)
    queue.appendleft(a_run("b"))
    assert len(queue) == 2
    assert groups(queue) == [["b"], ["a"]]


def test_a_queue_that_was_cleared_is_empty():
    queue = waiting(a_run("a"))
    queue.clear()
    assert not queue
