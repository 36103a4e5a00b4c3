"""What wheel and source distribution hold."""

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


@pytest.mark.slow
@pytest.mark.nightly
def test_the_built_distributions_hold_what_they_should(tmp_path: Path) -> None:
    source = tmp_path / "source"
    leave = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "mlruns", "*.db")
    shutil.copytree(ROOT, source, ignore=leave)
    command = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=1000)
    (wheel,), (archive,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "ecg_mlflow").rglob("*.py")}
    examples = {path.name for path in (ROOT / "examples").glob("*.py")}
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "ecg_mlflow").rglob("*.html")}
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
