"""The shipped grid files run as their own docstrings say."""

from __future__ import annotations

import ast
import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from studies import parsed

from ecg_mlflow.cli import main
from ecg_mlflow.records.synthetic import write_demo
from ecg_mlflow.study.grid_file import find_grid_file, load_grid_file

# Of NumPy 2, in Keras's way of saving a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROJECT = Path(__file__).parents[1]
SCRIPT = PROJECT / "examples" / "09_any_keras_script.py"
SHIPPED = sorted(set((PROJECT / "examples").glob("*.py")) - {SCRIPT})
NUMBERED = [path for path in SHIPPED if path.name[:2].isdigit()]
QUICK = re.compile(r"^# In a hurry: (.+)$", re.MULTILINE)
RAY = "07_ray.py"
#: Those that run whole in each run of the tests; the others run nightly.
ALWAYS = {"01", "08"}


def name_of(path: Path) -> str:
    return path.name


def quick(path: Path) -> list[str]:
    """Return the options with which an example takes seconds: its first comment."""
    found = QUICK.search(path.read_text())
    assert found, f"{path.name} does not say what to add to see it in a hurry"
    return found[1].split()


def commands(path: Path) -> list[list[str]]:
    """List the commands of a docstring: its indented lines that begin with a program's name."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    lines = re.findall(r"^    +((?:ecg-mlflow|mlflow) .+)$", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


def as_console(command: list[str]) -> list[str]:
    """Write ``mlflow run . -P NAME=VALUE`` as the arguments of the console command."""
    if command[0] == "ecg-mlflow":
        return command[1:]
    given = dict(pair.split("=", 1) for pair in command if "=" in pair)
    grid = given.pop("grid")
    return ["run", grid, *(word for k, v in given.items() for word in (f"--{k}", v))]


@pytest.fixture(scope="module")
def work(shared_workplace):
    with shared_workplace() as place:
        yield place


@pytest.mark.parametrize("path", NUMBERED, ids=name_of)
def test_a_numbered_example_is_short_and_says_how_to_run_it(path):
    text = path.read_text()
    assert len(text.splitlines()) < 80
    first = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
    assert "?" in first, "it begins with the question that it answers"
    assert f"mlflow run . --env-manager local -P grid={path.name}" in text
    for command in commands(path):
        given = parsed(as_console(command))
        if "grid" in given:
            assert find_grid_file(given["grid"], []) == path


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_it_is_found_by_name_and_declares_a_study(path):
    assert find_grid_file(path.name, []) == find_grid_file(path.stem, []) == path
    assert load_grid_file(path).research.name in {path.stem, "ray"}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path.name[:2] in ALWAYS else pytest.mark.nightly)
        for path in NUMBERED
    ],
    ids=name_of,
)
def test_it_runs(work, path, capsys, monkeypatch):
    words = ["run", path.name, *quick(path)]
    if path.name == RAY:
        pytest.importorskip("ray")
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        command = [sys.executable, "-m", "ecg_mlflow", *words]
        done = subprocess.run(command, cwd=work.folder, capture_output=True, text=True)
        status, told, faults = done.returncode, done.stdout, done.stderr
    else:
        status = main([*words, "--workers", "0"])
        told, faults = capsys.readouterr()
    assert status == 0, faults
    assert " runs finished" in told
    assert " failed" not in told
    parent, children = work.runs("ray" if path.name == RAY else path.stem)
    assert parent.info.status == "FINISHED"
    assert {run.info.status for run in children} <= {"FINISHED", "KILLED"}  # KILLED: pruned
    scored = [run for run in children if "test_f1" in run.data.metrics]
    assert scored
    if path.stem == "05_optuna":  # a search scores its finalist alone
        assert (len(children), len(scored)) == (2, 1)
        assert all("validation_f1" in run.data.metrics for run in children)
    if path.stem == "06_gpus_and_branches":
        assert [run.data.params["optimizer"] for run in children] == ["adam", "sgd"]


def test_the_commands_after_a_study_work(work, tmp_path, capsys, monkeypatch):
    """After `test_it_runs` has trained the study of 08_promotion.py."""
    (path,) = (path for path in NUMBERED if path.name == "08_promotion.py")
    if work.runs(path.stem)[0] is None:
        assert main(["run", path.name, *quick(path), "--workers", "0"]) == 0
    monkeypatch.chdir(tmp_path)
    header = write_demo(tmp_path / "records", 1, seed=7) / "D00001.hea"
    for command in commands(path)[1:]:
        words = [str(header) if word == "RECORDS" else word for word in as_console(command)]
        assert main(words) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "champion" in told
    (answer,) = csv.DictReader((tmp_path / "answers.csv").read_text().splitlines())
    assert answer["status"].startswith(("ok", "flag"))
    assert answer["prediction"] in {"A", "NO"}
    assert float(answer["p_A"]) + float(answer["p_NO"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@pytest.mark.nightly
def test_the_script_without_a_grid_file_runs(tmp_path):
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1000
    )
    assert done.returncode == 0, done.stderr
    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert sorted(len(client.get_metric_history(r.info.run_id, "loss")) for r in runs) == [30, 30]
    assert all("test_f1" in run.data.metrics for run in runs)


@pytest.mark.slow
@pytest.mark.parametrize("by", [pytest.param("mlflow", marks=pytest.mark.nightly), "ecg-mlflow"])
def test_the_first_one_runs_by_its_own_commands(work, by):
    """From another folder, where only the name of the example leads to it."""
    folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    (path,) = (path for path in NUMBERED if path.name == "01_first_study.py")
    (words,) = (words for words in commands(path) if words[0] == by)
    if by == "mlflow":
        words[words.index(".")] = str(PROJECT)
        more = ["-P", "data=demo:40", "-P", "dry_run=true", "--experiment-name", "by mlflow"]
    else:
        more = ["--data", "demo:40", "--dry-run"]
    done = subprocess.run(
        [str(folder / words[0]), *words[1:], *more],
        cwd=work.folder, env=environment, capture_output=True, text=True, timeout=1000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "6 configurations x 2 repetitions = 12 runs" in done.stdout
