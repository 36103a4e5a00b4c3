"""What MLflow finds of the wheel alone, through its own interfaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Only by MLflow's names, as those do who have never heard of this package's modules.
PROGRAM = """
import json, sys
from importlib.metadata import distribution
import mlflow
from mlflow.data.dataset_source_registry import get_registered_sources
from mlflow.projects.backend.loader import load_backend
from mlflow.tracking.context.registry import resolve_tags

found = {
    "distribution": str(distribution("ecg_mlflow").locate_file("")),
    "run context": resolve_tags()["ecg_mlflow.versions"],
    "constructor": mlflow.data.from_wfdb.__name__,
    "sources": [source.__name__ for source in get_registered_sources()],
    "evaluators": mlflow.models.list_evaluators(),
    "backend": type(load_backend("ecg-mlflow")).__name__,
    "modules": sorted({
        str(module.__file__)
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "ecg_mlflow"
    }),
}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy, so that nothing is built in the working tree."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("ecg_mlflow", "examples"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder)]
    subprocess.run([*command, str(copy)], check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.mark.slow
def test_mlflow_finds_all_plug_ins_of_the_wheel(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*install, str(site), str(wheel)], check=True)
    done = subprocess.run(
        # Its folder stands before the installation in which these tests run.
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["distribution"]) == site
    assert found["run context"].startswith("ecg_mlflow 0.")
    assert found["constructor"] == "from_wfdb"
    assert "WfdbSource" in found["sources"]
    assert "ecg" in found["evaluators"]
    assert found["backend"] == "EcgBackend"
    assert found["modules"]
    assert all(Path(module).is_relative_to(site) for module in found["modules"])
