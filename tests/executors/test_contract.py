"""What every executor has to do, whatever it executes its jobs in."""

import re
import signal
import threading
import time

import pytest

from ecg_mlflow.executors import (
    Event,
    ExecutorError,
    Job,
    Outcome,
    OutcomeState,
    Started,
    received,
)

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


@on_ray_too
def test_a_job_starts_reports_in_order_and_is_done(bench):
    executor = bench.open()
    executor.submit(Job("a", b"count 100"))
    reports = bench.drain(executor)
    assert isinstance(reports[0], Started)
    assert (reports[0].key, reports[0].worker) == ("a", 0)
    assert reports[1:-1] == [Event("a", {"i": i}) for i in range(100)]
    assert reports[-1] == Outcome("a", OutcomeState.DONE, "counted")


def test_queued_jobs_start_in_order_of_submission(bench):
    executor = bench.open()
    keys = [f"job {i}" for i in range(6)]
    for key in keys:
        executor.submit(Job(key, f"echo {key}".encode()))
    assert executor.free_slots == 0
    assert executor.n_pending == 6
    reports = bench.drain(executor)
    assert [r.key for r in reports if isinstance(r, Started)] == keys
    assert [r.value for r in reports if isinstance(r, Outcome)] == keys
    assert executor.free_slots == executor.n_slots == 1


@on_ray_too
def test_payload_report_and_result_of_ten_megabytes(bench):
    size = 10_000_000
    executor = bench.open(function="jobs:payload_size")
    executor.submit(Job("in", bytes(size)))
    assert bench.drain(executor)[-1].value == size
    executor = bench.open()
    executor.submit(Job("out", f"large {size}".encode()))
    _, event, outcome = bench.drain(executor)
    assert len(event.data["blob"]) == len(outcome.value) == size


def test_a_function_that_is_no_import_path_is_an_error_at_once(bench):
    for function in ("jobs", "jobs.do", "jobs:", ":do", "jobs:do()", ""):
        with pytest.raises(ExecutorError, match="does not name a job function"):
            bench.open(function=function)


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
        ("stop_on_its_own unasked", "ecg_mlflow.executors.stopping.Terminated", "for no reason"),
        ("give lock", "TypeError", "a _thread.lock, can't be sent to the driver"),
        ("give unreadable", "jobs.OwnError", "can't be unpickled in the driver: not here"),
        ("tell lock", "TypeError", r"report\(\) can't send \['lock'\] to the driver"),
        ("tell unreadable", "TypeError", r"can't send \['unreadable'\] to the driver \(not here\)"),
        ("tell text", "TypeError", r"report\(\) takes a dict, not a str"),
    ):
        outcome = bench.run(executor, text)
        assert (outcome.state, outcome.value) == (OutcomeState.FAILED, None)
        assert outcome.error_type == error_type
        assert re.search(said, outcome.reason)
        if text == "fail II":
            assert 'raise OwnError(f"lead' in outcome.error
            assert "messages.py" not in outcome.error
    assert bench.run(executor, "echo on").value == "on"


@pytest.mark.parametrize(
    ("function", "error_type"),
    [
        ("jobs:no_such_function", "AttributeError"),
        ("no_such_module:do", "ModuleNotFoundError"),
    ],
)
def test_a_function_that_cannot_be_imported_fails_the_job(bench, function, error_type):
    outcome = bench.run(bench.open(function=function), "")
    assert (outcome.state, outcome.error_type) == (OutcomeState.FAILED, error_type)


@pytest.mark.parametrize(
    ("job", "value", "reason"),
    [
        ("finish_anyway", "checkpoint 7", "stopped as asked"),
        ("stop_on_its_own", None, "stopped as asked"),
        ("fail_at_flush", None, "jobs.OwnError: disk full"),
        # Only the job's own thread is interrupted: no error in the other one.
        ("report_from_a_thread", [], "stopped as asked"),
    ],
)
def test_what_a_cancelled_job_does_last_is_told(bench, job, value, reason):
    executor = bench.open()
    executor.submit(Job("a", job.encode()))
    bench.wait_for(executor, Event, lambda r: "from" not in r.data)
    executor.cancel("a")
    outcome = bench.drain(executor)[-1]
    assert (outcome.state, outcome.value) == (OutcomeState.CANCELLED, value)
    assert outcome.reason == reason


@on_ray_too
def test_a_queued_job_is_cancelled_without_starting(bench):
    executor = bench.open()
    executor.submit(Job("first", b"tick"))
    executor.submit(Job("second", b"echo"))
    executor.cancel("second")
    executor.cancel("first")
    reports = bench.drain(executor)
    assert states(reports) == dict.fromkeys(("first", "second"), OutcomeState.CANCELLED)
    assert "second" not in [r.key for r in reports if isinstance(r, Started)]


@on_ray_too
def test_a_running_job_may_flush_when_it_is_cancelled(bench, tmp_path):
    file = tmp_path / "flushed"
    executor, _ = bench.begin(f"tick {file}")
    executor.submit(Job("b", b"echo on"))
    executor.cancel("a")
    reports = bench.drain(executor)
    assert states(reports) == {"a": OutcomeState.CANCELLED, "b": OutcomeState.DONE}
    assert Event("a", {"flushing": True}) in reports
    assert file.read_text() == "flushed"


@on_ray_too
def test_a_shielded_job_is_told_to_stop_and_ends_where_it_wants_to(bench):
    executor, _ = bench.begin("stop_at_a_boundary")
    executor.cancel("a")
    *events, outcome = bench.drain(executor)
    assert (outcome.state, outcome.value) == (OutcomeState.CANCELLED, "checkpoint")
    *_, last, checkpoint = [event.data for event in events]
    assert last == {"i": checkpoint["checkpoint"]}, "the iteration was finished"


def test_no_stop_is_requested_of_a_job_that_nobody_cancels(bench):
    executor, _ = bench.begin("tick")
    executor.cancel("a")
    bench.drain(executor)
    outcome = bench.run(executor, "poll_without_a_shield")  # nor is it of the one after it
    assert (outcome.state, outcome.value) == (OutcomeState.DONE, [False, False])


def send_all(executor, key, n, **rest):
    """Send numbered messages, of which the last says that it is, and return them."""
    messages = [{"i": i, "last": i == n - 1, **rest} for i in range(n)]
    for message in messages:
        executor.send(key, message)
    return messages


@on_ray_too
def test_a_running_job_gets_what_is_sent_in_order(bench):
    executor = bench.open()
    for key in "ab":  # the second one in a worker that has had messages before
        executor.submit(Job(key, b"read"))
        bench.wait_for(executor, Event)
        messages = send_all(executor, key, 100)
        assert bench.drain(executor)[-1].value == messages


def test_a_job_gets_what_was_sent_before_it_ran(bench):
    executor = bench.open()
    executor.submit(Job("first", b"read"))
    executor.submit(Job("second", b"read"))
    of_second = send_all(executor, "second", 3, to="second")
    of_first = send_all(executor, "first", 3, to="first")
    values = {r.key: r.value for r in bench.drain(executor) if isinstance(r, Outcome)}
    assert values == {"first": of_first, "second": of_second}


@pytest.mark.parametrize("key", ["a", "b"])
def test_what_its_job_did_not_read_reaches_no_later_job(bench, key):
    executor = bench.open()
    executor.send("b", {"to": "a job that is not there"})
    executor.submit(Job("a", b"sleep 0.3"))
    bench.wait_for(executor, Event)
    executor.send("a", {"to": "a running job"})
    time.sleep(0.8)
    executor.send("a", {"to": "a job that has ended, which the driver has not noted"})
    bench.drain(executor)
    executor.send("a", {"to": "a job that is over"})
    executor.submit(Job(key, b"read_what_is_there 0.3"))
    outcome = bench.drain(executor)[-1]
    assert (outcome.state, outcome.value) == (OutcomeState.DONE, [])


def test_only_the_jobs_own_thread_receives(bench):
    executor, _ = bench.begin("read_in_two_threads 2")
    executor.send("a", {"i": 1})
    assert received() == []
    assert bench.drain(executor)[-1].value == ([], [{"i": 1}])
    assert received() == []


def test_what_cannot_be_sent_is_an_error_at_once(bench):
    executor = bench.open()
    executor.submit(Job("a", b"read"))
    for data, said in (
        ({"lock": threading.Lock()}, r"send\(\) can't send \['lock'\] to the job \(cannot pickle"),
        ("text", r"send\(\) takes a dict, not a str"),
        ({"blob": bytes(17_000)}, r"send\(\) can't send \['blob'\] to the job: .* 16000 are all"),
    ):
        for key in ("a", "not there"):
            with pytest.raises(ExecutorError, match=said):
                executor.send(key, data)
    messages = send_all(executor, "a", 2)
    assert bench.drain(executor)[-1].value == messages


def test_a_job_that_does_not_read_holds_nobody_up(bench, tmp_path):
    file = tmp_path / "read now"
    executor, _ = bench.begin(f"read_after {file}")
    messages = send_all(executor, "a", 40, blob=bytes(15_000))  # more than a connection takes
    assert list(executor.events(0.1)) == []
    file.touch()
    assert bench.drain(executor)[-1].value == messages


def test_a_key_can_be_used_again_after_its_outcome_only(bench):
    executor = bench.open()
    executor.cancel("a")  # what is not pending is ignored
    executor.submit(Job("a", b"echo 1"))
    with pytest.raises(ExecutorError, match="'a' was submitted twice"):
        executor.submit(Job("a", b"echo 2"))
    assert bench.drain(executor)[-1].value == "1"
    executor.cancel("a")
    executor.submit(Job("a", b"echo 3"))
    assert bench.drain(executor)[-1].value == "3"


def test_events_may_be_left_early_and_jobs_submitted_meanwhile(bench):
    executor = bench.open()
    executor.submit(Job("0", b"count 20"))
    reports, n_jobs = [], 1
    while executor.n_pending:
        for report in executor.events(1):
            reports.append(report)
            if isinstance(report, Outcome) and n_jobs < 4:
                executor.submit(Job(f"{n_jobs}", b"echo"))
                n_jobs += 1
            break
    assert [r.key for r in reports] == ["0"] * 22 + [key for key in "123" for _ in range(2)]


def test_events_waits_no_longer_than_its_timeout_and_not_without_jobs(bench, tmp_path):
    executor, file = bench.open(), tmp_path / "go on"
    assert list(executor.events(3600)) == []
    executor.submit(Job("a", f"wait_for_file {file}".encode()))
    bench.wait_for(executor, Event)
    start = time.monotonic()
    assert list(executor.events(0.3)) == []
    assert time.monotonic() - start > 0.25
    file.touch()
    assert bench.drain(executor)[-1].state is OutcomeState.DONE


@on_ray_too
def test_a_shutdown_at_the_end_of_a_with_block_gives_every_job_an_outcome(bench):
    executor, _ = bench.begin("tick")
    with executor:
        executor.submit(Job("queued", b"echo"))
    with pytest.raises(ExecutorError, match="shut down"):
        executor.submit(Job("late", b"echo"))
    executor.shutdown(60)
    reports = bench.drain(executor)
    assert states(reports) == dict.fromkeys(("a", "queued"), OutcomeState.CANCELLED)
    assert Event("a", {"flushing": True}) in reports


def test_shutdown_waits_no_longer_than_its_grace_and_nothing_comes_after_it(bench):
    executor, _ = bench.begin("late 3")
    start = time.monotonic()
    executor.shutdown(0.3)
    assert time.monotonic() - start >= 0.3
    time.sleep(3.5)
    (outcome,) = bench.drain(executor)
    assert outcome.state is OutcomeState.CANCELLED
    assert "0.3 s" in outcome.reason
    executor.send("a", {"i": 1})
    assert list(executor.events(0)) == []


def test_a_ctrl_c_during_shutdown_ends_it_at_once(bench):
    executor, _ = bench.begin("stubborn", grace=3600)
    executor.submit(Job("b", b"echo"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt), executor:
            executor.shutdown(3600)
    finally:
        signal.signal(signal.SIGINT, before)
    reports = bench.drain(executor)
    assert states(reports) == dict.fromkeys("ab", OutcomeState.CANCELLED)


def test_an_outcome_is_the_last_report_under_its_key(bench):
    executor = bench.open()
    executor.submit(Job("a", b"leave_a_thread"))
    executor.submit(Job("b", b"sleep 0.5"))
    reports = bench.drain(executor)
    (end,) = [i for i, r in enumerate(reports) if isinstance(r, Outcome) and r.key == "a"]
    assert {r.key for r in reports[end + 1 :]} == {"b"}


@on_ray_too
def test_an_exclusive_job_among_others(bench):
    executor = bench.open()
    for i in range(5):
        executor.submit(Job(f"{i}", b"echo", exclusive=i % 2 == 1))
    reports = bench.drain(executor)
    assert [r.key for r in reports if isinstance(r, Started)] == list("01234")
    assert set(states(reports).values()) == {OutcomeState.DONE}
    assert executor.free_slots == 1
