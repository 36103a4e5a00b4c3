"""What wheel and source distribution hold, and what MLflow finds of the wheel alone."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


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


def test_every_package_is_listed() -> None:
    folders = (path.parent for path in (ROOT / "ecg_mlflow").rglob("__init__.py"))
    found = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert listed == found | {"ecg_mlflow.examples"}


def test_conda_environment_pins_every_dependency() -> None:
    pinned = {
        line.strip().removeprefix("- ").partition("==")[0]
        for line in (ROOT / "conda.yaml").read_text().splitlines()
        if "==" in line
    }
    required = {text.partition(">")[0] for text in PROJECT["project"]["dependencies"]}
    assert pinned == required


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build wheel and source distribution from a copy; return their folder."""
    folder = tmp_path_factory.mktemp("built")
    source = tmp_path_factory.mktemp("copy") / "source"
    leave = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "mlruns", "*.db")
    shutil.copytree(ROOT, source, ignore=leave)
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=1000)
    return folder


@pytest.mark.slow
@pytest.mark.nightly
def test_the_built_distributions_hold_what_they_should(built: Path) -> None:
    (wheel,), (archive,) = built.glob("*.whl"), built.glob("*.tar.gz")
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "ecg_mlflow").rglob("*.py")}
    examples = {path.name for path in (ROOT / "examples").glob("*.py")}
    folder = ROOT / "ecg_mlflow" / "reports" / "templates"
    templates = {str(path.relative_to(ROOT)) for path in folder.iterdir()}
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in file.namelist() if name.endswith("/METADATA"))
        described = file.read(metadata).decode()
    shipped = {f"ecg_mlflow/examples/{name}" for name in examples}
    assert held == modules | shipped | templates | {"ecg_mlflow/py.typed"}
    assert "Provides-Extra: edf" in described
    with tarfile.open(archive) as file:
        packed = {name.partition("/")[2] for name in file.getnames()}
    wanted = {"MLproject", "conda.yaml", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"}
    wanted |= {"docs/conf.py", "docs/tutorial.ipynb", "tests/conftest.py", "tests/studies.py"}
    assert packed >= modules | templates | {f"examples/{name}" for name in examples} | wanted
    unwanted = [name for name in packed if name.endswith((".pyc", ".db", ".dat", ".mat"))]
    assert not unwanted


@pytest.mark.slow
@pytest.mark.nightly
def test_mlflow_finds_all_plug_ins_of_the_wheel(built: Path, tmp_path: Path) -> None:
    (wheel,), site = built.glob("*.whl"), tmp_path / "site"
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
