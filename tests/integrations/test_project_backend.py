"""``mlflow run --backend ecg-mlflow``: its configuration, and the command in a copied project."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
from mlflow.exceptions import ExecutionException
from mlflow.projects.backend import local
from mlflow.projects.backend.loader import load_backend
from studies import grid_text, reason
from waiting import ends, wait_for

from ecg_mlflow.errors import BackendError
from ecg_mlflow.integrations.project_backend import (
    EcgBackend,
    project_params,
    read_backend_config,
    runs_a_study,
    wait_for_command,
)
from ecg_mlflow.study.signals import sigterm_as_interrupt

ROOT = Path(__file__).parents[2]

#: Notes SIGINT and SIGTERM, and ends a moment after the first of them.
NOTING = """
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


@pytest.fixture
def start(workplace, experiment):
    """Start ``mlflow run`` on this project from another folder, as a user would."""
    (workplace.folder / "records").symlink_to(workplace.records)
    (workplace.folder / "cluster.json").write_text('{"workers": 2, "hang_minutes": 5}')
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local"]
    command += ["--experiment-name", experiment, "-P", "grid=small.py", "-P", "data=records"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    how |= {"cwd": workplace.folder, "env": {**os.environ, "PATH": path}}
    return lambda *words: subprocess.Popen(
        [*command, "-P", "workers=1", *words], start_new_session=True, **how
    )


#: With the options of a file.
BACKEND = ("--backend", "ecg-mlflow", "--backend-config", "cluster.json")


def run(workplace, config, entry_point="main", uri=ROOT, **params):
    """Ask the backend as MLflow does."""
    given = ("ENV_MANAGER", "DOCKER_ARGS", "STORAGE_DIR", "build_image", "docker_auth")
    of_mlflow = {"SYNCHRONOUS": False, **dict.fromkeys(given)}
    uri_of_store = os.environ["MLFLOW_TRACKING_URI"]
    return EcgBackend().run(
        str(uri), entry_point, params, None, {**config, **of_mlflow}, uri_of_store, "0"
    )


def latest(workplace):
    (found, *_) = workplace.client.search_runs(["0"], order_by=["attributes.start_time DESC"])
    return found


def write_project(folder, command, **more):
    entry = {"parameters": {"grid": "string"}, "command": command}
    project = {"name": "p", "entry_points": {"main": entry}, **more}
    (folder / "MLproject").write_text(json.dumps(project))  # which is YAML, too


def test_mlflow_finds_it():
    assert isinstance(load_backend("ecg-mlflow"), EcgBackend)


@pytest.mark.parametrize(
    ("config", "entry_point", "params", "said"),
    [
        ({"worker": 2}, "main", {"grid": "a.py"}, "Did you mean .*'--workers'"),
        ({}, "main", {}, "No value given for missing parameters: 'grid'"),
        ({"workers": 2}, "rollback", {"name": "af"}, "'rollback' runs no study.* has workers"),
    ],
)
def test_what_is_wrong_is_said_before_there_is_a_run(workplace, config, entry_point, params, said):
    n_before = len(workplace.client.search_runs(["0"]))
    with pytest.raises(ExecutionException, match=said):
        run(workplace, config, entry_point, **params)
    assert len(workplace.client.search_runs(["0"])) == n_before


def test_a_command_that_fails_at_once_ends_its_run(workplace, tmp_path):
    write_project(tmp_path, "python -m no_such_module ecg-mlflow run {grid}")
    with pytest.raises(ExecutionException, match="exit status 1"):
        run(workplace, {"workers": 2}, uri=tmp_path, grid="a.py")
    found = latest(workplace)
    assert found.info.status == "FAILED"
    assert found.data.tags["mlflow.project.backend"] == "ecg-mlflow"
    assert found.data.params == {"grid": "a.py", "workers": "2"}


def test_a_command_is_run_by_this_interpreter_and_ends_its_run(workplace, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    write_project(tmp_path, "python -c \"import sys; open('by', 'w').write(sys.prefix)\" {grid}")
    submitted = run(workplace, {}, uri=tmp_path, grid="a.py")
    assert submitted.get_status() == "FINISHED"
    assert workplace.client.get_run(submitted.run_id).info.status == "FINISHED"
    assert (tmp_path / "by").read_text() == sys.prefix
    assert os.environ["PATH"] == "/usr/bin:/bin"


def test_mlflow_makes_the_environment_that_is_asked_for(workplace, tmp_path, monkeypatch):
    make = Mock(return_value="WORD=made; export WORD")
    monkeypatch.setattr(local, "_create_virtualenv", make)
    (tmp_path / "conda.yaml").write_text("dependencies:\n- python=3.11\n- pip:\n  - numpy==2.4.6\n")
    write_project(tmp_path, 'echo "$WORD" > word # {grid}', conda_env="conda.yaml")
    submitted = run(workplace, {"env_manager": "uv"}, uri=tmp_path, grid="a.py")
    assert make.call_args.kwargs["env_manager"] == "uv"
    assert make.call_args.kwargs["python_env"].dependencies == ["numpy==2.4.6"]
    assert (tmp_path / "word").read_text() == "made\n"
    assert latest(workplace).info.run_id == submitted.run_id
    assert latest(workplace).data.tags["mlflow.project.env"] == "uv"
    make.side_effect = OSError("no disk")
    with pytest.raises(OSError, match="no disk"):
        run(workplace, {"env_manager": "uv"}, uri=tmp_path, grid="a.py")
    assert latest(workplace).info.status == "FAILED"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_its_answer_awaited(tmp_path, number):
    def send() -> None:
        wait_for((tmp_path / "ready").exists)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    with sigterm_as_interrupt():
        process = subprocess.Popen([sys.executable, "-c", NOTING], cwd=tmp_path)
        assert wait_for_command(process) == (130, number)
    assert (tmp_path / "seen").read_text() == number.name


@pytest.mark.slow
def test_mlflow_run_with_paths_from_the_callers_folder(workplace, experiment, start):
    workplace.write_grid(grid_text(epochs="1"))
    run = start()
    said, _ = run.communicate(timeout=1000)
    assert run.returncode == 0, said
    parent, children = workplace.runs(experiment)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["grid"] == "small.py"
    assert [run.info.status for run in children] == ["FINISHED"] * 2
    assert [len(workplace.losses(run)) for run in children] == [4, 4]
    assert parent.data.tags["mlflow.project.entryPoint"] == "main"


@pytest.mark.slow
def test_a_study_with_the_options_of_a_file_and_a_run_that_fails(workplace, experiment, start):
    workplace.write_grid(
        grid_text(
            grid="Option('layout', ['cna']) * Option('lr', [1e-2, 1e30])",
            optimizer="Optimizer('sgd', learning_rate=C('lr'))",
        )
    )
    process = start(*BACKEND)
    said, _ = process.communicate(timeout=10000)
    assert process.returncode == 1
    assert "exit status 3, some runs failed" in said
    parent, children = workplace.runs(experiment)
    assert (parent.info.status, reason(parent)) == ("FAILED", "1 of 2 runs failed")
    assert sorted(run.info.status for run in children) == ["FAILED", "FINISHED"]
    params, tags, of_child = parent.data.params, parent.data.tags, children[0].data.tags
    assert (params["workers"], params["hang_minutes"]) == ("1", "5")
    assert tags["mlflow.project.backend"] == "ecg-mlflow"
    # What the run context says is the driver's of the parent, and the worker's of a child.
    assert tags["ecg_mlflow.versions"] == of_child["ecg_mlflow.versions"]
    assert "ecg_mlflow.device" not in tags
    assert of_child["ecg_mlflow.device"] == "cpu"
    assert of_child["ecg_mlflow.device_name"].startswith("cpu: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "number", "status"),
    [
        (BACKEND, signal.SIGINT, "KILLED"),
        (BACKEND, signal.SIGTERM, "KILLED"),
        # MLflow 3.17 means to leave a run's own end alone, but writes FAILED over it on Ctrl-C: it
        # compares the status' name with numbers (mlflow.projects._maybe_set_run_terminated).
        ((), signal.SIGINT, "FAILED"),
        ((), signal.SIGKILL, "KILLED"),
    ],
)
def test_mlflow_run_that_is_stopped_leaves_no_process(
    workplace, experiment, start, backend, number, status
):
    workplace.write_grid(grid_text(epochs="100_000", test_every="'2 epochs'"))
    process = start(*backend)
    try:
        wait_for(lambda: any("loss" in r.data.metrics for r in workplace.runs(experiment)[1]))
        started = [one.pid for one in psutil.Process(process.pid).children(recursive=True)]
        assert len(started) >= 2  # the driver and its worker
        if number == signal.SIGINT:  # as a terminal does
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.communicate(timeout=1000)
        assert process.returncode not in (0, None)
        assert all(ends(pid) for pid in started)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    parent, children = workplace.runs(experiment)
    assert parent.info.status == status
    assert reason(parent).startswith("KeyboardInterrupt: stopped by SIG")
    assert not backend or reason(parent).endswith(number.name)
    assert [run.info.status for run in children] == ["KILLED"]
    assert workplace.losses(children[0])


# --- The configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({"workers": 16, "gpus_per_worker": 0.5}, {"workers": "16", "gpus_per_worker": "0.5"}),
        (
            {"ray-address": "10.0.0.1:6379", "gpus": 0},
            {"ray_address": "10.0.0.1:6379", "gpus": "0"},
        ),
        ({"gpus": [0, 1]}, {"gpus": "0,1"}),
        ({"workers": None}, {}),
    ],
)
def test_values_as_on_a_command_line(config, options):
    assert read_backend_config(config) == options


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("worker", 1, r"'--worker'.* '--workers'.* Its keys are workers, gpus, .*, env_manager"),
        ("epochs", 3, "'--epochs'.* -P or in the grid file"),
        ("workers", -1, "-1 is not in the range x>=0"),
        ("hang-minutes", "soon", "'--hang-minutes': 'soon' is not a valid number"),
        ("executor", "slurm", "'slurm' is not one of 'processes', 'ray'"),
        ("env_manager", "poetry", "'local', 'virtualenv', 'uv', 'conda'"),
    ],
)
def test_values_that_cannot_be_read(key, value, fault):
    with pytest.raises(BackendError, match=fault):
        read_backend_config({key: value})


@pytest.mark.parametrize("name", ["gpus_per_worker", "gpus-per-worker"])
def test_what_is_given_with_the_command_wins(name):
    options = {"workers": "2", "gpus_per_worker": "0.5"}
    given = {"grid": "a.py", name: "1"}
    assert project_params(given, options) == {**given, "workers": "2"}
    assert project_params(None, options) == options


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("python prepare.py && python3 -m ecg_mlflow run {grid}", True),
        ("ecg-mlflow run {grid}", True),
        ("ecg-mlflow rollback --name {name}", False),
        ("python train.py", False),
    ],
)
def test_entry_points_that_take_a_studys_options(command, runs):
    assert runs_a_study(command) is runs
