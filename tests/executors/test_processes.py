"""What only worker processes give: environments, signals, crashes, and no process left behind."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from waiting import ends, is_alive

from ecg_mlflow.executors.base import Event, Job, Outcome, OutcomeState

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc or a pidfd")


def test_the_environment_is_complete_before_the_worker_starts(processes, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "the parent's")
    monkeypatch.setenv("FROM_THE_DRIVER", "yes")
    executor = processes.open(devices=["gpu:0", "gpu:1"])
    monkeypatch.setenv("FROM_THE_DRIVER", "no")  # too late, although no worker has started
    found = processes.first_events(executor, a="stay here", b="stay here").values()
    assert {data["env"]["ECG_MLFLOW_DEVICE"] for data in found} == {"gpu:0", "gpu:1"}
    for env in (data["env"] for data in found):
        assert (env["PYTHONHASHSEED"], env["FROM_THE_DRIVER"]) == ("0", "yes")
        assert "MLFLOW_RUN_ID" not in env


@pytest.mark.parametrize(
    ("text", "exitcode", "said", "last_words"),
    [
        ("leave_hard 7", 7, "exited with code 7", "last words"),
        ("kill_self SIGKILL", -9, "was killed by SIGKILL, perhaps for lack", "last words"),
        ("segfault", -11, "was killed by SIGSEGV", "in segfault"),
    ],
)
def test_a_death_is_told_with_its_cause_and_the_end_of_the_output(
    processes, text, exitcode, said, last_words
):
    executor = processes.open()
    processes.submit(executor, job="noise")
    *events, outcome = processes.drain(executor)
    assert ([e.data["i"] for e in events], outcome.value) == ([*range(50)], "quiet")
    first = processes.run(executor, "pid").value
    assert processes.run(executor, "pid").value == first != os.getpid()
    processes.submit(executor, job=text)
    *reports, outcome = processes.drain(executor)
    assert (Event("job", {"before": "exit"}) in reports) == (text == "leave_hard 7")
    assert (outcome.state, outcome.exitcode) == (OutcomeState.DIED, exitcode)
    assert outcome.reason.startswith(f"worker 0 (pid {first}) {said}")
    assert last_words in outcome.error
    assert "noise" not in outcome.error, "an earlier job's output is not blamed"
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
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONHOME", "/nowhere")
        outcome = processes.run(processes.open(), "pid")
    assert (outcome.state, outcome.exitcode) == (OutcomeState.DIED, 1)
    assert "encodings" in outcome.error
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    outcome = processes.run(processes.open(), "pid")
    assert outcome.state is OutcomeState.DIED
    assert re.search("no worker could be started: .*/no/such/python", outcome.reason)


def test_sigterm_raises_once_in_the_main_thread(processes):
    executor = processes.open()
    processes.submit(executor, a="terminate_twice")
    event, outcome = processes.drain(executor)
    assert event.data == {"caught": 1}
    assert outcome.state is OutcomeState.DIED  # nobody here had asked for it
    assert outcome.exitcode == -signal.SIGTERM
    assert "the driver did not send" in outcome.reason
    assert processes.run(executor, "echo on").value == "on"


def test_sigterm_cuts_no_report_in_two(processes):
    executor = processes.open()
    for i in range(10):
        pid = processes.first_events(executor, a="flood")["a"]["pid"]
        time.sleep(0.003 * i)
        os.kill(pid, signal.SIGTERM)
        *_, last, outcome = processes.drain(executor)
        assert last.data == {"flushed": True}
        assert outcome.state is OutcomeState.DIED


def test_sigterm_cuts_no_message_in_two(processes):
    executor = processes.open()
    processes.submit(executor, a="terminated_in_a_message")
    executor.send("a", {"i": 0})
    processes.wait_for(executor, lambda r: r == Event("a", {"flushing": True}))
    executor.send("a", {"i": 1, "last": True})
    assert processes.drain(executor)[-1].value == [{"i": 1, "last": True}]


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


def test_a_signal_handler_may_shut_down_while_a_shutdown_waits(processes):
    executor, _ = processes.begin("stubborn")
    before = signal.signal(signal.SIGUSR1, lambda number, frame: executor.shutdown(0))
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        executor.shutdown(3600)
    finally:
        signal.signal(signal.SIGUSR1, before)
    outcome = processes.drain(executor)[-1]
    assert outcome.state is OutcomeState.CANCELLED
    assert "did not stop within 0 s" in outcome.reason


@needs_proc
@pytest.mark.parametrize(("text", "exitcode"), [("hang", -6), ("hang hard", -9), ("hold_lock", -6)])
def test_a_job_without_a_sign_of_life_is_killed_and_its_place_told(processes, text, exitcode):
    executor = processes.open(hang_timeout=1)
    pid = processes.run(executor, "pid").value
    start = time.monotonic()
    processes.submit(executor, a=text, b="read_what_is_there 0.2", c="pid")
    for _ in range(1000):  # more than the connection takes
        executor.send("a", {"blob": bytes(1000)})
    outcome = processes.outcome(executor, "a")
    assert time.monotonic() - start > 0.9
    assert (outcome.state, outcome.exitcode) == (OutcomeState.DIED, exitcode)
    assert outcome.reason == f"worker 0 (pid {pid}) gave no sign of life for 1 s and was killed"
    if exitcode == -6:
        assert f"in {text}" in outcome.error
    assert not is_alive(pid)
    *_, unread, new = processes.drain(executor)
    assert (unread.value, new.value == pid) == ([], False)


def test_a_job_that_reports_may_take_any_time(processes):
    executor = processes.open(2, hang_timeout=4)
    processes.submit(executor, slow="report_slowly 0.75", quick="pid")
    pid = processes.outcome(executor, "quick").value
    assert processes.drain(executor)[-1].value == "slow"
    processes.first_events(executor, a="tick")
    time.sleep(4.5)  # the driver was busy: what it finds now are signs of life
    assert list(executor.events(0))
    processes.submit(executor, b="pid")  # an idle worker owes no sign of life
    assert processes.outcome(executor, "b").value == pid


def test_a_stopped_job_has_its_whole_grace_however_silent(processes):
    executor, _ = processes.begin("late 3", hang_timeout=2)
    executor.shutdown(60)
    assert processes.drain(executor)[-1].reason == "stopped as asked"


@needs_proc
def test_an_exclusive_job_is_alone_on_its_device(processes, tmp_path):
    executor = processes.open(3)
    ends_a, ends_alone = tmp_path / "a", tmp_path / "alone"
    pid = processes.first_events(executor, a=f"stay {ends_a}")["a"]["pid"]
    processes.submit(executor, idle="pid")
    idle = processes.outcome(executor, "idle").value
    executor.submit(Job("alone", f"stay {ends_alone}".encode(), exclusive=True))
    processes.submit(executor, behind="pid")
    assert list(executor.events(0.5)) == []  # "a" still runs
    assert executor.free_slots == 0
    ends_a.touch()
    processes.wait_for(executor, lambda r: isinstance(r, Event) and r.key == "alone")
    assert not any(map(is_alive, [pid, idle]))
    assert list(executor.events(0.5)) == []
    assert executor.free_slots == 0
    ends_alone.touch()
    assert [(r.key, r.state) for r in processes.drain(executor)] == [
        ("alone", OutcomeState.DONE),
        ("behind", OutcomeState.DONE),
    ]
    assert executor.free_slots == 3


def test_a_slot_is_not_free_before_its_interrupted_worker_has_ended(processes):
    executor, data = processes.begin("slow_exit")
    pid = data["pid"]
    os.kill(pid, signal.SIGTERM)
    while executor.n_pending:
        for _ in executor.events(1):
            if is_alive(pid):
                assert executor.free_slots == 0
    assert processes.run(executor, "pid").value != pid


@needs_proc
def test_shutdown_leaves_no_process_and_no_descriptor(processes):
    before = len(os.listdir("/proc/self/fd"))
    executor = processes.open(3)
    pids = processes.first_events(executor, a="with_child", b="stubborn", idle="sleep 0.1")
    processes.outcome(executor, "idle")
    executor.shutdown(1)
    assert not any(is_alive(found["pid"]) for found in pids.values())
    assert ends(pids["a"]["child"])
    assert len(os.listdir("/proc/self/fd")) == before
    outcomes = {r.key: r for r in processes.drain(executor) if isinstance(r, Outcome)}
    assert {one.state for one in outcomes.values()} == {OutcomeState.CANCELLED}
    assert outcomes["b"].exitcode == -signal.SIGKILL


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
from ecg_mlflow.executors.base import Job
from ecg_mlflow.executors.devices import Slot
from ecg_mlflow.executors.processes import ProcessExecutor
holder, *texts = sys.argv[1:]
slots = [Slot(i, "cpu", {{"PYTHONPATH": {here!r}}}) for i in range(len(texts))]
executor = ProcessExecutor("jobs:do", slots)
for i, text in enumerate(texts):
    executor.submit(Job(str(i), text.encode()))
print("submitted", flush=True)
if holder == "fork" and not os.fork():
    os.close(1)
    time.sleep(3600)  # with the driver's ends of all connections in hand
    os._exit(0)
try:
    while executor.n_pending:
        for report in executor.events(1):
            print(getattr(report, "data", report), flush=True)
finally:
    executor.shutdown(3600)
"""


@contextlib.contextmanager
def a_driver(*texts, holder=""):
    """A driver in a process of its own, in a process group as a shell would make it."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(here=str(HERE)), holder, *texts],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        process_group=0,
        cwd=ROOT,
    )
    with driver:
        try:
            yield driver
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)


def read_pids(driver, n):
    """Read from what a driver prints until the numbers of so many processes are known."""
    pids = set()
    while len(pids) < n:
        line = driver.stdout.readline().strip()
        assert line, "the driver has ended"
        pids.update(map(int, re.findall(r"'(?:pid|child)': (\d+)", line)))
    return pids


@needs_proc
@pytest.mark.parametrize("holder", ["", "fork"])
def test_a_killed_driver_leaves_no_process(tmp_path, holder):
    file = tmp_path / "flushed"
    jobs = (f"tick {file}", "stubborn", "with_child", "sleep 0.1")
    with a_driver(*jobs, holder=holder) as driver:
        pids = read_pids(driver, 5)
        driver.kill()
        driver.wait()
        assert all(ends(pid) for pid in pids)
    assert file.read_text() == "flushed"


@needs_proc
def test_a_driver_that_dies_while_its_worker_starts_leaves_none():
    with a_driver("stubborn") as driver:
        assert driver.stdout.readline() == "submitted\n"
        (worker,) = psutil.Process(driver.pid).children()
        driver.kill()
        driver.wait()
        assert ends(worker.pid)


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
