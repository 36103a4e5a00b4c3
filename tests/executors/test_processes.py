"""What only worker processes give: environments, signals, crashes, and no process left behind."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from waiting import ends, is_alive

from ecg_mlflow.executors import (
    Event,
    ExecutorError,
    Job,
    Outcome,
    OutcomeState,
    ProcessExecutor,
    Started,
)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc or a pidfd")


def test_the_environment_is_complete_before_the_worker_starts(processes, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "the parent's")
    monkeypatch.setenv("FROM_THE_DRIVER", "yes")
    executor = processes.open(devices=["gpu:0", "gpu:1"])
    monkeypatch.setenv("FROM_THE_DRIVER", "no")  # too late, although no worker has started
    for key in ("a", "b"):
        executor.submit(Job(key, b"environment"))
    reports = processes.drain(executor)
    workers = {r.key: r.worker for r in reports if isinstance(r, Started)}
    assert sorted(workers.values()) == [0, 1]
    for outcome in (r for r in reports if isinstance(r, Outcome)):
        env = outcome.value
        assert env["ECG_MLFLOW_DEVICE"] == f"gpu:{workers[outcome.key]}"
        assert (env["PYTHONHASHSEED"], env["FROM_THE_DRIVER"]) == ("0", "yes")
        assert "MLFLOW_RUN_ID" not in env


@pytest.mark.parametrize(
    ("text", "exitcode", "said", "last_words"),
    [
        ("leave_hard 7", 7, "exited with code 7", "last words"),
        ("leave 7", 7, "exited with code 7", "last words"),
        ("kill_self SIGKILL", -9, "was killed by SIGKILL, perhaps for lack", "last words"),
        ("segfault", -11, "was killed by SIGSEGV", "in segfault"),
    ],
)
def test_a_death_is_told_with_its_cause_and_the_end_of_the_log(
    processes, tmp_path, text, exitcode, said, last_words
):
    executor = processes.open(log_dir=tmp_path)
    assert processes.run(executor, "noise").value == "quiet"
    first = processes.run(executor, "pid").value
    assert processes.run(executor, "pid").value == first != os.getpid()
    executor.submit(Job("job", text.encode()))
    *reports, outcome = processes.drain(executor)
    assert (Event("job", {"before": "exit"}) in reports) == (text == "leave_hard 7")
    assert (outcome.state, outcome.exitcode) == (OutcomeState.DIED, exitcode)
    assert outcome.reason.startswith(f"worker 0 (pid {first}) {said}")
    assert last_words in outcome.error
    assert "noise" not in outcome.error, "an earlier job's log is not blamed"
    assert "noise" in (tmp_path / "worker-0.log").read_text(errors="replace")
    assert processes.run(executor, "pid").value not in (first, os.getpid())


@needs_proc
def test_a_worker_that_dies_idle_is_replaced(processes):
    executor = processes.open()
    pid = processes.run(executor, "pid").value
    os.kill(pid, signal.SIGKILL)
    # Its main thread is gone before its others are, and only then can its end be seen.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    outcome = processes.run(executor, "pid")
    assert outcome.state is OutcomeState.DONE
    assert outcome.value != pid


def test_a_worker_that_cannot_start_is_a_death_that_shows_why(processes, monkeypatch):
    executor = processes.open(base_env={**os.environ, "PYTHONHOME": "/nowhere"})
    outcome = processes.run(executor, "pid")
    assert outcome.state is OutcomeState.DIED
    assert outcome.exitcode == 1
    assert "encodings" in outcome.error
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    outcome = processes.run(processes.open(), "pid")
    assert outcome.state is OutcomeState.DIED
    assert "no worker could be started" in outcome.reason
    assert "/no/such/python" in outcome.reason


def test_output_does_not_disturb_the_reports(processes):
    executor = processes.open()
    executor.submit(Job("a", b"noise"))
    reports = processes.drain(executor)
    assert [r.data["i"] for r in reports if isinstance(r, Event)] == list(range(50))
    assert reports[-1].value == "quiet"


def test_sigterm_raises_once_in_the_main_thread(processes):
    executor = processes.open()
    executor.submit(Job("a", b"terminate_twice"))
    _, event, outcome = processes.drain(executor)
    assert event.data == {"caught": 1}
    assert outcome.state is OutcomeState.DIED  # nobody here had asked for it
    assert outcome.exitcode == -signal.SIGTERM
    assert "the driver did not send" in outcome.reason
    assert processes.run(executor, "echo on").value == "on"


def test_sigterm_cuts_no_report_in_two(processes):
    executor = processes.open()
    for i in range(10):
        executor.submit(Job(f"{i}", b"flood"))
        processes.wait_for(executor, Event)
        time.sleep(0.003 * i)
        executor.cancel(f"{i}")
        *_, last, outcome = processes.drain(executor)
        assert last.data == {"flushed": True}
        assert outcome.state is OutcomeState.CANCELLED


def test_sigterm_cuts_no_message_in_two(processes):
    executor = processes.open()
    executor.submit(Job("a", b"terminated_in_a_message"))
    executor.send("a", {"i": 0})
    processes.wait_for(executor, Event, lambda r: "flushing" in r.data)
    executor.send("a", {"i": 1, "last": True})
    assert processes.drain(executor)[-1].value == [{"i": 1, "last": True}]


def test_a_job_that_hangs_over_unread_messages_is_killed_in_time(processes):
    executor, _ = processes.begin("hang", hang_timeout=1)
    for _ in range(1000):
        executor.send("a", {"blob": bytes(1000)})
    outcome = processes.wait_for(executor, Outcome)
    assert "gave no sign of life for 1 s" in outcome.reason
    assert processes.run(executor, "read_what_is_there 0.2").value == []


@needs_proc
def test_sending_to_a_dead_worker_is_ignored_and_what_it_had_started_is_killed(processes):
    executor, pids = processes.begin("with_child")
    os.kill(pids["pid"], signal.SIGKILL)
    assert ends(pids["pid"])
    for _ in range(1000):
        executor.send("a", {"i": 1})
    assert processes.drain(executor)[-1].state is OutcomeState.DIED
    assert ends(pids["child"])
    assert processes.run(executor, "read_what_is_there 0.2").value == []


@needs_proc
def test_a_cancelled_job_that_hangs_is_killed_after_its_grace(processes):
    executor, data = processes.begin("stubborn", grace=0.3)
    pid = data["pid"]
    executor.submit(Job("b", b"echo on"))
    start = time.monotonic()
    executor.cancel("a")
    outcome = processes.wait_for(executor, Outcome)
    assert time.monotonic() - start >= 0.3
    assert outcome.state is OutcomeState.CANCELLED
    assert outcome.exitcode == -signal.SIGKILL
    assert "did not stop within 0.3 s" in outcome.reason
    assert not is_alive(pid)
    assert processes.drain(executor)[-1].value == "on"


@pytest.mark.parametrize("second", ["cancel", "shutdown"])
def test_a_second_cancel_can_shorten_the_grace(processes, second):
    executor, _ = processes.begin("stubborn", grace=3600)
    executor.cancel("a")
    processes.wait_for(executor, Event)
    if second == "cancel":
        executor.cancel("a", grace=0)
        executor.cancel("a", grace=3600)  # does not lengthen it
    else:
        executor.shutdown(0)
    outcome = processes.drain(executor)[-1]
    assert outcome.state is OutcomeState.CANCELLED
    assert "did not stop within 0 s" in outcome.reason


def test_a_signal_handler_may_shut_down_while_a_shutdown_waits(processes, monkeypatch):
    executor, _ = processes.begin("stubborn")
    before = signal.signal(signal.SIGUSR1, lambda number, frame: executor.shutdown(0))
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        executor.shutdown(3600)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert processes.drain(executor)[-1].state is OutcomeState.CANCELLED


@needs_proc
@pytest.mark.parametrize(("text", "exitcode"), [("hang", -6), ("hang hard", -9), ("hold_lock", -6)])
def test_a_job_without_a_sign_of_life_is_killed_and_its_place_told(processes, text, exitcode):
    executor = processes.open(hang_timeout=1)
    executor.submit(Job("a", text.encode()))
    executor.submit(Job("b", b"pid"))
    pid = processes.wait_for(executor, Started).pid
    start = time.monotonic()
    outcome = processes.wait_for(executor, Outcome)
    assert time.monotonic() - start > 0.9
    assert outcome.state is OutcomeState.DIED
    assert outcome.exitcode == exitcode
    assert outcome.reason == f"worker 0 (pid {pid}) gave no sign of life for 1 s and was killed"
    if exitcode == -6:
        assert f"in {text}" in outcome.error
    assert not is_alive(pid)
    assert processes.drain(executor)[-1].value != pid


def test_a_job_that_reports_may_take_any_time(processes):
    executor = processes.open(2, hang_timeout=4)
    executor.submit(Job("slow", b"report_slowly 0.75"))
    executor.submit(Job("quick", b"pid"))
    pid = processes.wait_for(executor, Outcome).value
    assert processes.drain(executor)[-1].value == "slow"
    executor.submit(Job("a", b"tick"))
    processes.wait_for(executor, Event)
    time.sleep(4.5)  # the driver was busy: what it finds now are signs of life
    assert list(executor.events(0))
    executor.submit(Job("b", b"pid"))  # an idle worker owes no sign of life
    assert processes.wait_for(executor, Outcome).value == pid
    executor.cancel("a")
    assert processes.drain(executor)[-1].reason == "stopped as asked"


def test_a_cancelled_job_has_its_whole_grace_however_silent(processes):
    executor, _ = processes.begin("late 3", hang_timeout=2)
    executor.cancel("a")
    assert processes.drain(executor)[-1].reason == "stopped as asked"


def test_what_makes_no_sense_is_an_error_at_once(processes):
    with pytest.raises(ExecutorError, match="hang_timeout=0: write seconds above 0"):
        processes.open(hang_timeout=0)
    with pytest.raises(ExecutorError, match="at least one"):
        ProcessExecutor("jobs:do", [])


@needs_proc
def test_an_exclusive_job_is_alone_on_its_device(processes):
    executor = processes.open(3)
    found = processes.first_events(executor, Job("a", b"tick"), Job("warm", b"tick"))
    pids = {key: data["pid"] for key, data in found.items()}
    executor.submit(Job("idle", b"pid"))
    idle = processes.wait_for(executor, Outcome).value
    executor.cancel("warm")
    assert is_alive(idle)
    executor.submit(Job("alone", b"tick", exclusive=True))
    executor.submit(Job("behind", b"pid"))
    assert executor.free_slots == 0
    assert processes.wait_for(executor, Outcome).key == "warm"
    assert ends(pids["warm"])
    assert not [r for r in executor.events(0.5) if isinstance(r, Started)]  # "a" still runs
    executor.cancel("a")
    started = processes.wait_for(executor, Started)
    assert started.key == "alone"
    assert not any(map(is_alive, [*pids.values(), idle]))
    assert not [r for r in executor.events(0.5) if isinstance(r, Started)]
    assert executor.free_slots == 0
    executor.cancel("alone")
    *_, started, outcome = processes.drain(executor)
    assert (started.key, outcome.state) == ("behind", OutcomeState.DONE)
    assert executor.free_slots == 3


def test_a_slot_is_not_free_before_its_cancelled_worker_has_ended(processes):
    executor, data = processes.begin("slow_exit")
    pid = data["pid"]
    executor.cancel("a")
    while executor.n_pending:
        for _ in executor.events(1):
            if is_alive(pid):
                assert executor.free_slots == 0
    executor.submit(Job("b", b"pid"))
    *_, started, outcome = processes.drain(executor)
    assert started.pid == outcome.value != pid


@needs_proc
def test_shutdown_leaves_no_process_no_descriptor_and_no_log(processes, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    executor, pids = processes.begin("with_child", 2)
    executor.submit(Job("idle", b"pid"))
    idle = processes.wait_for(executor, Outcome).value
    assert list(tmp_path.glob("*/worker-0.log"))
    executor.shutdown(60)
    assert not list(tmp_path.iterdir())
    assert not any(map(is_alive, [idle, pids["pid"]]))
    assert ends(pids["child"])
    assert len(os.listdir("/proc/self/fd")) == before
    assert processes.drain(executor)[-1].state is OutcomeState.CANCELLED


@needs_proc
@pytest.mark.parametrize("text", ["with_child", "read_and_flush {}"])
def test_a_worker_without_connection_ends_after_its_time_to_flush(processes, tmp_path, text):
    # A dying driver's connections close a moment before the system counts it as dead.
    file = tmp_path / "flushed"
    executor, data = processes.begin(text.format(file))
    (worker,) = executor._workers
    with socket.socket(fileno=os.dup(worker.connection.fileno())) as connection:
        connection.shutdown(socket.SHUT_RDWR)
    assert all(map(ends, data.values()))
    assert file.exists() == (text != "with_child")
    assert processes.drain(executor)[-1].state is OutcomeState.DIED


DRIVER = """
import os, sys, time
from ecg_mlflow.executors import *
grace, holder, *texts = sys.argv[1:]
slots = [Slot(i, "cpu", {{"PYTHONPATH": {here!r}}}) for i in range(len(texts))]
executor = ProcessExecutor("jobs:do", slots, orphan_grace=float(grace), grace=3600)
for i, text in enumerate(texts):
    executor.submit(Job(str(i), text.encode()))
if holder == "fork" and not os.fork():
    os.close(1)
    time.sleep(3600)  # with the driver's ends of all connections in hand
    os._exit(0)
try:
    while executor.n_pending:
        for report in executor.events(1):
            print(getattr(report, "pid", None) or getattr(report, "data", report), flush=True)
finally:
    executor.shutdown(3600)
"""


@contextlib.contextmanager
def a_driver(*texts, orphan_grace=5, holder=""):
    """A driver in a process of its own, in a process group as a shell would make it."""
    temporary = tempfile.TemporaryDirectory()  # a killed driver can't remove its logs
    driver = subprocess.Popen(
        [
            *(sys.executable, "-c", DRIVER.format(here=str(HERE))),
            *(str(orphan_grace), holder, *texts),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        process_group=0,
        env={**os.environ, "TMPDIR": temporary.name},
        cwd=ROOT,
    )
    with temporary, driver:
        try:
            yield driver
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)


def read_pids(driver, n, texts=("'pid'",)):
    """Read the numbers of `n` processes from what a driver prints, and until it printed `texts`."""
    pids = set()
    missing = set(texts)
    while len(pids) < n or missing:
        line = driver.stdout.readline().strip()
        assert line, "the driver has ended"
        pids.update(map(int, re.findall(r"^\d+$|(?<='child': )\d+", line)))
        missing -= {text for text in missing if text in line}
    return pids


@needs_proc
@pytest.mark.parametrize("holder", ["", "fork"])
def test_a_killed_driver_leaves_no_process(tmp_path, holder):
    file = tmp_path / "flushed"
    with a_driver(f"tick {file}", "stubborn", "with_child", "pid", holder=holder) as driver:
        pids = read_pids(driver, 5, ["'i'", "'child'", "'stubborn'"])
        assert all(map(is_alive, pids))
        driver.kill()
        driver.wait()
        assert all(ends(pid) for pid in pids)
    assert file.read_text() == "flushed"


@needs_proc
def test_without_a_grace_workers_die_with_their_driver_whatever_they_do(tmp_path):
    file = tmp_path / "flushed"
    with a_driver(f"tick {file}", "stubborn", orphan_grace=0) as driver:
        pids = read_pids(driver, 2, ["'i'", "'stubborn'"])
        driver.kill()
        driver.wait()
        assert all(ends(pid) for pid in pids)
    assert not file.exists()


@needs_proc
def test_a_driver_that_dies_while_its_worker_starts_leaves_none():
    with a_driver("stubborn") as driver:
        pid = int(driver.stdout.readline())
        driver.kill()
        driver.wait()
        assert ends(pid)


@needs_proc
def test_ctrl_c_reaches_the_driver_alone():
    with a_driver("tick") as driver:
        (pid,) = read_pids(driver, 1)
        assert os.getsid(pid) == pid != os.getsid(driver.pid)
        os.killpg(driver.pid, signal.SIGINT)
        # The driver's own handling ends the worker in order, and the driver dies of the Ctrl-C.
        driver.stdout.read()
        assert driver.wait(240) == -signal.SIGINT
        assert ends(pid)


@pytest.mark.parametrize("imports_from_here", [True, False])
def test_a_worker_imports_from_the_current_directory_only_if_the_driver_does(
    processes, tmp_path, monkeypatch, imports_from_here
):
    (tmp_path / "found_here.py").write_text("def job(payload, report):\n    return 'found'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "path", [str(tmp_path)] * imports_from_here + [p for p in sys.path if p]
    )
    outcome = processes.run(processes.open(function="found_here:job"), "")
    assert outcome.state is (OutcomeState.DONE if imports_from_here else OutcomeState.FAILED)
