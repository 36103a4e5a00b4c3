"""``mlflow run --backend ecg-mlflow``: its configuration, and the command in a copied project."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.exceptions import ExecutionException
from mlflow.projects.backend.loader import load_backend
from studies import grid_text, reason
from waiting import is_alive, wait_for

from ecg_mlflow.errors import BackendError
from ecg_mlflow.integrations.project_backend import (
    EcgBackend,
    backend_builder,
    project_params,
    read_backend_config,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Copy what a project run needs of this one."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    folder.mkdir()
    for name in ("MLproject", "conda.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("ecg_mlflow", "examples"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


@pytest.fixture
def start(project, workplace, experiment):
    """Start ``mlflow run`` with a configuration of the backend."""

    def start(config, *more):
        (workplace.folder / "cluster.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "mlflow", "run", str(project), "--backend", "ecg-mlflow"]
        command += ["--backend-config", "cluster.json", "--experiment-name", experiment, *more]
        return subprocess.Popen(
            command,
            cwd=workplace.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start


def descendants(pid: int) -> set[int]:
    """List the processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found, waiting = set(), [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def run(workplace, config, entry_point="main", uri=ROOT, **params):
    """Ask the backend as MLflow does."""
    of_mlflow = {"ENV_MANAGER": None, "SYNCHRONOUS": False, "STORAGE_DIR": None}
    uri_of_store = os.environ["MLFLOW_TRACKING_URI"]
    return EcgBackend().run(
        str(uri), entry_point, params, None, {**config, **of_mlflow}, uri_of_store, "0"
    )


def test_mlflow_finds_it():
    assert isinstance(load_backend("ecg-mlflow"), EcgBackend)
    assert isinstance(backend_builder(), EcgBackend)


@pytest.mark.parametrize(
    ("config", "params", "said"),
    [
        ({"worker": 2}, {"grid": "a.py"}, "Did you mean 'workers'"),
        ({"workers": "many"}, {"grid": "a.py"}, "not a valid whole number"),
        ({}, {}, "No value given for missing parameters: 'grid'"),
    ],
)
def test_what_is_wrong_is_said_before_there_is_a_run(workplace, config, params, said):
    before = workplace.client.search_runs(["0"])
    with pytest.raises(ExecutionException, match=said):
        run(workplace, config, **params)
    assert workplace.client.search_runs(["0"]) == before


def test_an_entry_point_that_runs_no_study_takes_no_options_of_one(workplace):
    with pytest.raises(ExecutionException, match=r"'rollback' runs no study.* has workers"):
        run(workplace, {"workers": 2}, "rollback", name="af")


def test_a_command_that_fails_at_once_ends_its_run(workplace, tmp_path):
    (tmp_path / "MLproject").write_text(
        "name: p\nentry_points:\n  main:\n    parameters: {grid: string}\n"
        '    command: "python -m no_such_module ecg-mlflow run {grid}"\n'
    )
    with pytest.raises(ExecutionException, match="exit status 1"):
        run(workplace, {"workers": 2}, uri=tmp_path, grid="a.py")
    (found, *_) = workplace.client.search_runs(["0"], order_by=["attributes.start_time DESC"])
    assert found.info.status == "FAILED"
    assert found.data.tags["mlflow.project.backend"] == "ecg-mlflow"
    assert found.data.params == {"grid": "a.py", "workers": "2"}


def test_a_command_that_ends_well_finishes_its_run(workplace, tmp_path):
    (tmp_path / "MLproject").write_text(
        "name: p\nentry_points:\n  main:\n    command: \"python -c 'print(1)'\"\n"
    )
    submitted = run(workplace, {}, uri=tmp_path)
    assert submitted.wait()
    assert submitted.get_status() == "FINISHED"
    assert workplace.client.get_run(submitted.run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_a_study_with_the_options_of_the_file(workplace, experiment, start):
    workplace.write_grid(grid_text(epochs="1"))
    process = start(
        {"workers": 2, "hang_minutes": 5},
        *("-P", "grid=small.py", "-P", f"data={workplace.records}", "-P", "workers=1"),
    )
    said, _ = process.communicate(timeout=10000)
    assert process.returncode == 0, said
    parent, children = workplace.runs(experiment)
    assert parent.info.status == "FINISHED"
    assert [run.info.status for run in children] == ["FINISHED"] * 2
    params = parent.data.params
    assert (params["workers"], params["hang_minutes"]) == ("1", "5")
    assert parent.data.tags["mlflow.project.backend"] == "ecg-mlflow"
    # What the run context says is the driver's of the parent, and the worker's of a child.
    assert parent.data.tags["ecg_mlflow.versions"] == children[0].data.tags["ecg_mlflow.versions"]
    assert "ecg_mlflow.device" not in parent.data.tags
    assert children[0].data.tags["ecg_mlflow.device"] == "cpu"
    assert children[0].data.tags["ecg_mlflow.device_name"].startswith("cpu: ")


@pytest.mark.slow
def test_a_study_with_a_run_that_fails(workplace, experiment, start):
    workplace.write_grid(
        grid_text(
            grid="Option('layout', ['cna']) * Option('lr', [1e-2, 1e30])",
            optimizer="Optimizer('sgd', learning_rate=C('lr'))",
        )
    )
    process = start({"workers": 0}, "-P", "grid=small.py", "-P", f"data={workplace.records}")
    said, _ = process.communicate(timeout=10000)
    assert process.returncode == 1
    assert "exit status 3, some runs failed" in said
    parent, children = workplace.runs(experiment)
    assert parent.info.status == "FAILED"
    assert reason(parent) == "1 of 2 runs failed"
    assert sorted(run.info.status for run in children) == ["FAILED", "FINISHED"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_stopped_leaves_no_process(workplace, experiment, start, number):
    workplace.write_grid(grid_text(epochs="100_000", test_every="'2 epochs'"))
    process = start({"workers": 1}, "-P", "grid=small.py", "-P", f"data={workplace.records}")
    try:
        wait_for(lambda: any("loss" in r.data.metrics for r in workplace.runs(experiment)[1]))
        started = descendants(process.pid)
        assert len(started) >= 2  # the driver and its worker
        if number == signal.SIGINT:  # as a terminal does
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.communicate(timeout=1000)
        assert process.returncode not in (0, None)
        assert not [pid for pid in started if is_alive(pid)]
    finally:
        for pid in {process.pid, *descendants(process.pid)}:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()
    parent, children = workplace.runs(experiment)
    assert parent.info.status == "KILLED"
    assert reason(parent) == f"KeyboardInterrupt: stopped by {number.name}"
    assert [run.info.status for run in children] == ["KILLED"]
    assert workplace.losses(children[0])


# --- The configuration ----------------------------------------------------------------------------


def test_values_as_on_a_command_line():
    options = read_backend_config(
        {"executor": "ray", "workers": 16, "gpus_per_worker": 0.5, "ray_address": "10.0.0.1:6379"}
    )
    assert options == {
        "executor": "ray",
        "workers": "16",
        "gpus_per_worker": "0.5",
        "ray_address": "10.0.0.1:6379",
    }


@pytest.mark.parametrize(
    ("gpus", "text"), [("0:2,1", "0:2,1"), (0, "0"), ([0, 1], "0,1"), (["GPU-a"], "GPU-a")]
)
def test_gpus(gpus, text):
    assert read_backend_config({"gpus": gpus}) == {"gpus": text}


def test_null_is_no_entry():
    assert read_backend_config({"workers": None}) == {}


@pytest.mark.parametrize(
    ("key", "near"),
    [("worker", "workers"), ("hang-minutes", "hang_minutes"), ("GPUS", "gpus")],
)
def test_an_unknown_key_and_what_may_be_meant(key, near):
    with pytest.raises(
        BackendError,
        match=f"{key}.*workers, gpus, .*, hang_minutes, env_manager.*Did you mean '{near}'",
    ):
        read_backend_config({key: 1})


def test_what_a_study_computes_is_said_elsewhere():
    with pytest.raises(BackendError, match=r"'epochs'.* -P or in the grid file"):
        read_backend_config({"epochs": 3})


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("workers", -1, "-1 is not in the range x>=0"),
        ("workers", 1.5, "'1.5' is not a valid whole number"),
        ("workers", True, "it takes a text or a number"),
        ("threads", 0, "0 is not in the range x>=1"),
        ("hang_minutes", "soon", "'soon' is not a valid number"),
        ("gpus_per_worker", -1, "-1.0 is not in the range x>=0"),
        ("executor", "slurm", "'slurm' is not one of 'processes', 'ray'"),
        ("env_manager", "poetry", "'local', 'virtualenv', 'uv', 'conda'"),
        ("ray_address", {"host": "a"}, "it takes a text"),
        ("gpus", "", "it takes a text"),
    ],
)
def test_values_that_cannot_be_read(key, value, fault):
    with pytest.raises(BackendError, match=f"{key}=.*{fault}"):
        read_backend_config({key: value})


@pytest.mark.parametrize("name", ["gpus_per_worker", "gpus-per-worker"])
def test_what_is_given_with_the_command_wins(name):
    options = {"workers": "2", "gpus_per_worker": "0.5"}
    given = {"grid": "a.py", name: "1"}
    assert project_params(given, options) == {**given, "workers": "2"}
    assert project_params(None, options) == options
