"""Which job starts where, decided on made-up slots."""

from ecg_mlflow.executors.base import Job
from ecg_mlflow.executors.job_queue import UNKNOWN, JobQueue, SlotState

BUSY = {"busy": True}
ALONE = {"busy": True, "alone": True}
WARM = {"warm": True}


def a_queue(*names, fresh=True):
    """A queue of jobs; a star behind a name makes it an exclusive one."""
    queue = JobQueue(fresh)
    for name in names:
        queue.put(Job(name.rstrip("*"), b"", exclusive=name.endswith("*")))
    return queue


def steps(queue, **slots):
    """Carry out every step on slots ``<device>_<number>=state``; say what was done."""
    names = list(slots)
    states = [
        SlotState(name.split("_")[0].replace("unknown", UNKNOWN), **state)
        for name, state in slots.items()
    ]
    done = []
    while step := queue.next_step(states):
        slot, job = step
        done.append(f"{job.key} on {names[slot]}" if job else f"end {names[slot]}")
        alone = job is not None and job.exclusive
        states[slot] = SlotState(states[slot].device, busy=True, alone=alone)
    return done, queue.count_free(states)


def test_jobs_start_in_order_in_the_first_free_slot():
    queue = a_queue("a", "b", "c")
    assert steps(queue, g0_0=BUSY, g1_0=WARM, g0_1={}) == (["a on g1_0", "b on g0_1"], 0)
    assert len(queue) == 1
    assert steps(queue, g0_0={}, g1_0=BUSY, g0_1={}) == (["c on g0_0"], 1)


def test_an_exclusive_job_waits_for_the_quietest_device_and_keeps_it_free():
    queue = a_queue("x*", "a", "b")
    assert steps(queue, g0_0=BUSY, g0_1=BUSY, g1_0=BUSY, g1_1={}) == ([], 0)
    # Its device stays the same, although the other one is the quieter one by now.
    assert steps(queue, g0_0={}, g0_1=BUSY, g1_0=BUSY, g1_1={}) == (["a on g0_0"], 0)
    assert steps(queue, g0_0=BUSY, g0_1={}, g1_0={}, g1_1={}) == (["x on g1_0", "b on g0_1"], 0)


def test_while_it_runs_and_while_it_ends_nothing_else_starts_there():
    queue = a_queue("a")
    assert steps(queue, g0_0=ALONE, g0_1={}, g0_2=WARM) == ([], 0)
    assert steps(queue, g0_0={}, g0_1={}, g0_2=WARM) == (["a on g0_0"], 2)


def test_idle_workers_end_first_on_its_device_alone():
    queue = a_queue("x*")
    assert steps(queue, g0_0=WARM, g0_1=WARM, g1_0=WARM) == (["end g0_0"], 1)
    assert steps(queue, g0_0=BUSY, g0_1=WARM, g1_0=WARM) == ([], 1)
    assert steps(queue, g0_0={}, g0_1=WARM, g1_0=WARM) == (["end g0_1"], 1)
    assert steps(queue, g0_0={}, g0_1={}, g1_0=WARM) == (["x on g0_0"], 1)


def test_an_exclusive_job_does_not_overtake_nor_keep_a_device_before_its_turn():
    queue = a_queue("a", "x*", "b")
    assert steps(queue, g0_0=BUSY, g1_0=BUSY) == ([], 0)
    assert steps(queue, g0_0={}, g1_0=BUSY) == (["a on g0_0"], 0)
    assert steps(queue, g0_0=BUSY, g1_0={}) == (["b on g1_0"], 0)
    assert steps(queue, g0_0={}, g1_0=BUSY) == (["x on g0_0"], 0)


def test_two_exclusive_jobs_have_a_device_each_and_a_third_waits():
    queue = a_queue("x*", "y*", "z*", "a")
    assert steps(queue, g0_0=BUSY, g1_0=BUSY, g1_1={}) == ([], 0)
    assert steps(queue, g0_0={}, g1_0={}, g1_1={}) == (["x on g0_0", "y on g1_0"], 0)
    assert steps(queue, g0_0=ALONE, g1_0={}, g1_1={}) == (["z on g1_0"], 0)
    assert steps(queue, g0_0={}, g1_0=ALONE, g1_1={}) == (["a on g0_0"], 0)


def test_a_job_taken_out_of_the_queue_keeps_no_device():
    queue = a_queue("x*", "a")
    assert steps(queue, g0_0=BUSY, g0_1={}) == ([], 0)
    assert queue.clear() == ["x", "a"]
    assert steps(queue, g0_0=BUSY, g0_1={}) == ([], 1)


def test_without_fresh_workers_one_stays_for_the_exclusive_job():
    queue = a_queue("x*", fresh=False)
    assert steps(queue, g0_0={}, g0_1=WARM, g0_2=WARM, g1_0=WARM) == (["end g0_2"], 1)
    assert steps(queue, g0_0={}, g0_1=WARM, g1_0=WARM) == (["x on g0_1"], 1)


def test_no_worker_starts_on_an_unknown_device_while_one_is_kept_or_in_use():
    queue = a_queue("x*", "a", fresh=False)
    assert steps(queue, g0_0=BUSY, unknown_0={}, g1_0=BUSY) == ([], 0)
    assert steps(queue, g0_0=BUSY, unknown_0={}, g1_0={}) == (["a on g1_0"], 0)
    assert steps(queue, g0_0={}, unknown_0={}, g1_0=BUSY) == (["x on g0_0"], 0)
    queue = a_queue("b", fresh=False)
    assert steps(queue, g0_0=ALONE, unknown_0={}) == ([], 0)
    assert steps(queue, g0_0={}, unknown_0={}) == (["b on g0_0"], 1)


def test_an_exclusive_job_waits_for_workers_that_may_turn_up_on_its_device():
    queue = a_queue("x*", fresh=False)
    assert steps(queue, g0_0=WARM, unknown_0=BUSY) == ([], 0)
    assert steps(queue, g0_0=WARM, g1_0=BUSY) == (["x on g0_0"], 0)


def test_where_no_device_is_known_an_exclusive_job_starts_alone():
    queue = a_queue("x*", "a", fresh=False)
    assert steps(queue, unknown_0=BUSY, unknown_1={}) == ([], 0)
    assert steps(queue, unknown_0={}, unknown_1={}) == (["x on unknown_0"], 0)


def test_a_kept_device_whose_workers_have_died_is_given_up():
    queue = a_queue("x*", fresh=False)
    assert steps(queue, g0_0=BUSY, g1_0=BUSY) == ([], 0)
    assert steps(queue, unknown_0={}, g1_0=BUSY)[0] == []
    assert steps(queue, unknown_0={}, g1_0={}) == (["x on g1_0"], 0)
