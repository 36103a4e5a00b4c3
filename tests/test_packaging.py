"""What the wheel holds, as `pyproject.toml` lists it."""

import tomllib
from pathlib import Path

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
