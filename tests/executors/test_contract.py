"""What every executor has to do, whatever it executes its jobs in."""

import re
import signal
import threading
import time

import pytest

from ecg_mlflow.executors.base import Event, ExecutorError, Job, Outcome, OutcomeState
from ecg_mlflow.executors.execution import received

#: The other tests run on Ray nightly.
on_ray_too = pytest.mark.parametrize(
    "bench",
    [
        "inprocess",
        "processes",
        pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.server]),
    ],
    indirect=True,
)


def states(reports):
    return {r.key: r.state for r in reports if isinstance(r, Outcome)}


def values(reports):
    return {r.key: r.value for r in reports if isinstance(r, Outcome)}


@on_ray_too
def test_jobs_start_in_order_report_in_order_and_are_done(bench):
    executor = bench.open()
    bench.submit(executor, a="count 100", b="count 1", c="poll_without_a_shield")
    assert (executor.free_slots, executor.n_pending) == (0, 3)
    assert bench.drain(executor) == [
        *(Event("a", {"i": i}) for i in range(100)),
        Outcome("a", OutcomeState.DONE, "counted"),
        Event("b", {"i": 0}),
        Outcome("b", OutcomeState.DONE, "counted"),
        Outcome("c", OutcomeState.DONE, [False, False]),  # nobody has asked it to stop
    ]
    assert executor.free_slots == executor.n_slots == 1


@on_ray_too
def test_payload_report_and_result_of_ten_megabytes(bench):
    executor = bench.open(function="jobs:mirror")
    executor.submit(Job("a", bytes(10_000_000)))
    event, outcome = bench.drain(executor)
    assert len(event.data["blob"]) == len(outcome.value) == 10_000_000


def test_sys_exit_in_a_job_is_a_death_with_its_code(bench):
    executor = bench.open()
    for code in (0, 3):
        outcome = bench.run(executor, f"leave {code}")
        assert outcome.state is OutcomeState.DIED
        assert outcome.exitcode == code
        assert f"code {code}" in outcome.reason
    assert bench.run(executor, "echo on").value == "on"


@on_ray_too
def test_an_error_of_the_job_fails_it_and_not_the_next(bench):
    executor = bench.open()
    for text, error_type, said in (
        ("fail II", "jobs.OwnError", r"^jobs.OwnError: lead II is off$"),
        ("stop_on_its_own", "ecg_mlflow.executors.execution.Terminated", "for no reason"),
        ("give_lock", "TypeError", "cannot pickle '_thread.lock'"),
        ("tell_lock", "TypeError", "cannot pickle '_thread.lock'"),
        ("give_unreadable", "TypeError", "missing 1 required positional argument: 'fault'"),
        ("tell_unreadable", "TypeError", "missing 1 required positional argument: 'fault'"),
    ):
        outcome = bench.run(executor, text)
        assert (outcome.state, outcome.value) == (OutcomeState.FAILED, None)
        assert outcome.error_type == error_type
        assert re.search(said, outcome.reason)
        if text == "fail II":
            assert 'raise OwnError(f"lead' in outcome.error
            assert "execution.py" not in outcome.error
    assert bench.run(executor, "echo on").value == "on"
    for function, error_type in (
        ("jobs:no_such_function", "AttributeError"),
        ("no_such_module:do", "ModuleNotFoundError"),
    ):
        outcome = bench.run(bench.open(function=function), "")
        assert (outcome.state, outcome.error_type) == (OutcomeState.FAILED, error_type)


@pytest.mark.parametrize(
    ("job", "value", "reason"),
    [
        ("flush", "checkpoint 7", "stopped as asked"),
        ("flush badly", None, "jobs.OwnError: disk full"),
        # Only the job's own thread is interrupted: no error in the other one.
        ("report_from_a_thread", [], "stopped as asked"),
    ],
)
def test_what_a_stopped_job_does_last_is_told(bench, job, value, reason):
    executor = bench.open()
    bench.submit(executor, a=job)
    bench.wait_for(executor, lambda r: isinstance(r, Event) and "from" not in r.data)
    executor.shutdown(60)
    outcome = bench.drain(executor)[-1]
    assert (outcome.state, outcome.value) == (OutcomeState.CANCELLED, value)
    assert outcome.reason == reason


@on_ray_too
def test_at_a_shutdown_the_running_job_may_flush_and_queued_ones_never_start(bench, tmp_path):
    file = tmp_path / "flushed"
    executor, _ = bench.begin(f"tick {file}")
    with executor:
        bench.submit(executor, queued="count 1")
    with pytest.raises(ExecutorError, match="shut down"):
        bench.submit(executor, late="echo")
    executor.shutdown(60)
    reports = bench.drain(executor)
    assert states(reports) == dict.fromkeys(("a", "queued"), OutcomeState.CANCELLED)
    assert Event("a", {"flushing": True}) in reports
    assert file.read_text() == "flushed"
    assert not [r for r in reports if isinstance(r, Event) and r.key == "queued"]


@on_ray_too
def test_a_shielded_job_is_told_to_stop_and_ends_where_it_wants_to(bench):
    executor, _ = bench.begin("stop_at_a_boundary")
    executor.shutdown(60)
    *events, outcome = bench.drain(executor)
    assert (outcome.state, outcome.value) == (OutcomeState.CANCELLED, "checkpoint")
    *_, last, checkpoint = [event.data for event in events]
    assert last == {"i": checkpoint["checkpoint"]}, "the iteration was finished"


@on_ray_too
def test_shutdown_waits_no_longer_than_its_grace_and_nothing_comes_after_it(bench):
    executor, _ = bench.begin("late 3")
    start = time.monotonic()
    executor.shutdown(0.3)
    assert time.monotonic() - start >= 0.3
    time.sleep(3.5)
    (outcome,) = bench.drain(executor)
    assert outcome.state is OutcomeState.CANCELLED
    assert re.search(r"did not stop within 0.3 s and was (killed|left .* process)$", outcome.reason)
    executor.send("a", {"i": 1})
    assert list(executor.events(0)) == []


def test_a_ctrl_c_during_shutdown_ends_it_at_once(bench):
    executor, _ = bench.begin("stubborn")
    bench.submit(executor, b="echo")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            executor.shutdown(3600)
    finally:
        signal.signal(signal.SIGINT, before)
    assert states(bench.drain(executor)) == dict.fromkeys("ab", OutcomeState.CANCELLED)


@pytest.mark.parametrize("bench", ["inprocess"], indirect=True)
def test_a_job_may_flush_even_if_ctrl_c_comes_while_its_thread_starts(bench, monkeypatch):
    executor = bench.open()
    bench.run(executor, "echo")
    start = threading.Thread.start

    def start_and_interrupt(thread):
        start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            bench.submit(executor, a="flush")
    executor.shutdown(60)
    assert bench.drain(executor)[-1].value == "checkpoint 7"


def send_all(executor, key, n, **rest):
    """Send numbered messages, of which the last says that it is, and return them."""
    messages = [{"i": i, "last": i == n - 1, **rest} for i in range(n)]
    for message in messages:
        executor.send(key, message)
    return messages


@on_ray_too
def test_jobs_get_what_is_sent_to_them_in_order_also_before_they_run(bench):
    executor, _ = bench.begin("read")
    bench.submit(executor, b="read")
    sent = {key: send_all(executor, key, 100, to=key) for key in "ba"}
    assert values(bench.drain(executor)) == sent


@pytest.mark.parametrize("key", ["a", "b"])
def test_what_its_job_did_not_read_reaches_no_later_job(bench, key):
    executor = bench.open()
    executor.send("b", {"to": "a job that is not there"})
    bench.first_events(executor, a="sleep 0.3")
    executor.send("a", {"to": "a running job"})
    time.sleep(0.8)
    executor.send("a", {"to": "a job that has ended, which the driver has not noted"})
    bench.drain(executor)
    executor.send("a", {"to": "a job that is over"})
    bench.submit(executor, **{key: "read_what_is_there 0.3"})
    assert bench.drain(executor) == [Outcome(key, OutcomeState.DONE, [])]


def test_only_the_jobs_own_thread_receives(bench):
    executor, _ = bench.begin("read_in_two_threads 2")
    executor.send("a", {"i": 1})
    assert received() == []
    assert values(bench.drain(executor)) == {"a": ([], [{"i": 1}])}


def test_a_job_that_does_not_read_holds_nobody_up(bench, tmp_path):
    file = tmp_path / "read now"
    executor, _ = bench.begin(f"read {file}")
    with pytest.raises(ExecutorError, match=r"a message of 17\d+ bytes .* 16000 are allowed"):
        executor.send("a", {"blob": bytes(17_000)})
    messages = send_all(executor, "a", 40, blob=bytes(15_000))  # more than a connection takes
    assert list(executor.events(0.1)) == []
    file.touch()
    assert values(bench.drain(executor)) == {"a": messages}


def test_a_key_can_be_used_again_after_its_outcome_only(bench):
    executor = bench.open()
    bench.submit(executor, a="echo 1")
    with pytest.raises(ExecutorError, match="'a' was submitted twice"):
        bench.submit(executor, a="echo 2")
    assert values(bench.drain(executor)) == {"a": "1"}
    bench.submit(executor, a="echo 3")
    assert values(bench.drain(executor)) == {"a": "3"}


def test_events_may_be_left_early_and_jobs_submitted_meanwhile(bench):
    executor = bench.open()
    bench.submit(executor, j0="count 20")
    reports, n_jobs = [], 1
    while executor.n_pending:
        for report in executor.events(1):
            reports.append(report)
            if isinstance(report, Outcome) and n_jobs < 4:
                bench.submit(executor, **{f"j{n_jobs}": "count 1"})
                n_jobs += 1
            break
    assert [r.key for r in reports] == ["j0"] * 21 + [f"j{i}" for i in (1, 2, 3) for _ in range(2)]


def test_events_waits_no_longer_than_its_timeout_and_not_without_jobs(bench, tmp_path):
    file = tmp_path / "go on"
    assert list(bench.open().events(3600)) == []
    executor, _ = bench.begin(f"stay {file}")
    start = time.monotonic()
    assert list(executor.events(0.3)) == []
    assert time.monotonic() - start > 0.25
    file.touch()
    assert bench.drain(executor)[-1].state is OutcomeState.DONE


def test_an_outcome_is_the_last_report_under_its_key(bench):
    executor = bench.open()
    bench.submit(executor, a="leave_a_thread", b="sleep 0.5")
    reports = bench.drain(executor)
    (end,) = [i for i, r in enumerate(reports) if isinstance(r, Outcome) and r.key == "a"]
    assert {r.key for r in reports[end + 1 :]} == {"b"}


@on_ray_too
def test_an_exclusive_job_among_others(bench):
    executor = bench.open()
    for i in range(5):
        executor.submit(Job(f"{i}", b"echo", exclusive=i % 2 == 1))
    reports = bench.drain(executor)
    assert reports == [Outcome(key, OutcomeState.DONE, "") for key in "01234"]
    assert executor.free_slots == 1
