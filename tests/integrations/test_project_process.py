"""A project's command as a process: signals are passed on once, and nothing is left of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from ecg_mlflow.integrations import project_process
from ecg_mlflow.integrations.project_process import ProjectProcess

#: Counts SIGINT and SIGTERM, and ends a moment after the first of them.
COUNTING = """
import signal, sys, time
seen = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: seen.append(signal.Signals(number).name))
open("ready", "w").close()
while not seen:
    time.sleep(0.01)
time.sleep(0.3)
open("seen", "w").write(",".join(seen))
sys.exit(130)
"""


def once_there(path: Path, number: int) -> None:
    """Send a signal to this process as soon as a file is there."""

    def send() -> None:
        while not path.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize(("command", "status"), [("true", 0), ("exit 3", 3), ("kill -9 $$", -9)])
def test_exit_status(tmp_path, command, status):
    process = ProjectProcess()
    assert process.run(command, tmp_path, os.environ) == status
    assert process.stopped_by is None


def test_folder_and_environment(tmp_path):
    ProjectProcess().run('echo "$WORD" > said', tmp_path, {**os.environ, "WORD": "here"})
    assert (tmp_path / "said").read_text() == "here\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_once_and_its_answer_awaited(tmp_path, number):
    (tmp_path / "counting.py").write_text(COUNTING)
    before = signal.getsignal(number)
    once_there(tmp_path / "ready", number)
    process = ProjectProcess()
    assert process.run("exec python counting.py", tmp_path, os.environ) == 130
    assert (tmp_path / "seen").read_text() == number.name
    assert process.stopped_by is number
    assert signal.getsignal(number) is before


def test_what_the_command_leaves_behind_is_awaited(tmp_path):
    """A shell that stands between ends before what it has started."""
    ProjectProcess().run("(sleep 0.5; touch late) & true", tmp_path, os.environ)
    assert (tmp_path / "late").exists()


def test_what_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(project_process, "_GRACE_S", 0.2)
    ProjectProcess().run("sleep 600 & echo $! > pid", tmp_path, os.environ)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 200
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_in_another_thread_signals_are_left_alone(tmp_path):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(ProjectProcess().run("exit 5", tmp_path, os.environ))
    )
    thread.start()
    thread.join(200)
    assert found == [5]
