"""A project's command: what bash executes, the signals it gets, and that nothing is left of it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import ExecutionException

from ecg_mlflow.integrations import project_process
from ecg_mlflow.integrations.project_process import ProjectProcess, runs_a_study, shell_command

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


# --- The command ----------------------------------------------------------------------------------

PROJECT = SimpleNamespace(docker_env=None, env_type="conda", env_config_path="conda.yaml")


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("python -m ecg_mlflow run {grid} --data {data}", True),
        ("ecg-mlflow run {grid}", True),
        ("python prepare.py && python3 -m ecg_mlflow run {grid}", True),
        ("python -m ecg_mlflow promote {study} --name {name}", False),
        ("ecg-mlflow rollback --name {name}", False),
        ("python train.py", False),
    ],
)
def test_entry_points_that_take_a_studys_options(command, runs):
    assert runs_a_study(command) is runs


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -m ecg_mlflow run 'a b.py'", "exec {python} -m ecg_mlflow run 'a b.py'"),
        ("ecg-mlflow run a.py", "exec {python} -m ecg_mlflow run a.py"),
        ("python3 train.py --x '1;2'", "exec {python} train.py --x '1;2'"),
        ("pythonic --x 1", "exec pythonic --x 1"),
        ("python a.py && python b.py", "{python} a.py && python b.py"),
        ("A=1 python a.py", "A=1 python a.py"),
    ],
)
def test_with_the_interpreter_of_this_process(command, expected):
    found = shell_command(PROJECT, command, "/project", "local")
    assert found == expected.format(python=sys.executable)


def test_in_an_environment_that_mlflow_makes(monkeypatch):
    from mlflow.utils import conda

    made = SimpleNamespace(get_activate_command=lambda: ["conda activate x"])
    monkeypatch.setattr(conda, "get_or_create_conda_env", {"conda.yaml": made}.get)
    found = shell_command(PROJECT, "python -m ecg_mlflow run a.py", "/project", "conda")
    assert found == "conda activate x && exec python -m ecg_mlflow run a.py"


@pytest.mark.parametrize("manager", ["virtualenv", "uv"])
def test_the_projects_environment_file_is_read(manager, monkeypatch, tmp_path):
    from mlflow.utils import virtualenv

    asked = {}

    def make(**given):
        asked.update(given)
        return "source activate"

    monkeypatch.setattr(virtualenv, "_create_virtualenv", make)
    (tmp_path / "conda.yaml").write_text("dependencies:\n- python=3.11\n- pip:\n  - numpy==2.4.6\n")
    project = SimpleNamespace(
        docker_env=None, env_type="conda_env", env_config_path=str(tmp_path / "conda.yaml")
    )
    found = shell_command(project, "python -m ecg_mlflow run a.py", str(tmp_path), manager)
    assert found == "source activate && exec python -m ecg_mlflow run a.py"
    assert asked["env_manager"] == manager
    assert asked["python_env"].dependencies == ["numpy==2.4.6"]


def test_a_project_for_docker():
    project = SimpleNamespace(docker_env={"image": "ecg"})
    with pytest.raises(ExecutionException, match="no project in Docker: leave --backend out"):
        shell_command(project, "python train.py", "/project", "local")
