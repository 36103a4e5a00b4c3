"""The documentation builds without a warning, and says something of every public name."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numpydoc.hooks.validate_docstrings import parse_config, process_file

import ecg_mlflow

PROJECT = Path(__file__).parents[1]
DOCS = PROJECT / "docs"
PACKAGE = PROJECT / "ecg_mlflow"
PAGES = sorted(DOCS.rglob("*.rst"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages in a process of their own: Sphinx leaves its loggers behind."""
    folder = tmp_path_factory.mktemp("html")
    places = ["-d", str(folder.parent / "doctrees"), str(DOCS), str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-b", "html", "-W", "-n", "-q", "--keep-going", *places],
        env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=1000,
    )
    assert done.returncode == 0, done.stderr
    return folder


def inventory(folder: Path) -> set[str]:
    """Return the names of all Python objects that the pages describe."""
    from sphinx.util.inventory import InventoryFile

    found = InventoryFile.loads((folder / "objects.inv").read_bytes(), uri="")
    return {name for kind, items in found.data.items() if kind[:3] == "py:" for name in items}


@pytest.mark.slow
@pytest.mark.nightly
def test_the_pages_build_and_describe_every_public_name_and_method_of_a_pipeline(built):
    methods = {name for name in vars(ecg_mlflow.Pipeline) if not name.startswith("_")} - {"actions"}
    names = {*ecg_mlflow.__all__, *(f"Pipeline.{name}" for name in methods)}
    assert {f"ecg_mlflow.{name}" for name in names} <= inventory(built)


def test_every_example_has_its_place():
    page = (DOCS / "examples.rst").read_text()
    shipped = {path.name for path in (PROJECT / "examples").glob("[0-9]*.py")}
    assert {Path(one).name for one in re.findall(r"literalinclude:: (\S+)", page)} >= shipped


def test_every_command_has_its_place():
    from ecg_mlflow.cli import program

    page = (DOCS / "commands.rst").read_text()
    assert set(re.findall(r"command-help:: (\S+)", page)) == set(program.commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_in_a_table_of_contents(page):
    name = page.relative_to(DOCS).with_suffix("").as_posix()
    assert name == "index" or f"   {name}\n" in (DOCS / "index.rst").read_text()


def test_docstrings_have_the_form_of_numpydoc():
    config = parse_config(PROJECT)
    files = sorted(PACKAGE.rglob("*.py"))
    wrong = [fault for path in files for fault in process_file(path, config)]
    assert not wrong


# --- What no tool checks: that a section names what the code has ----------------------------------


def public(tree: ast.AST, inside: str = "") -> list[tuple[str, ast.FunctionDef, str]]:
    """List functions and methods with their names and the docstrings that speak for them."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for name, function, text in public(node, f"{inside}{node.name}."):
                of_class = function.name in {"__init__", "__post_init__"}
                found.append((name, function, ast.get_docstring(node) or "" if of_class else text))
        elif isinstance(node, ast.FunctionDef):
            made = node.name in {"__init__", "__post_init__"} and bool(inside)
            if made or not node.name.startswith("_"):
                found.append((f"{inside}{node.name}", node, ast.get_docstring(node) or ""))
    return found


def raised(function: ast.FunctionDef) -> set[str]:
    """Return the errors that a function's own body raises by name."""
    found: set[str] = set()
    waiting: list[Any] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            found.add(ast.unparse(what))
        waiting += ast.iter_child_nodes(node)
    return {name for name in found if re.fullmatch(r"[A-Z]\w*Error", name)}


def test_docstrings_name_what_is_raised():
    #: Of our own bugs, and of a base class that is to be filled in.
    apart = {"AssertionError", "NotImplementedError"}
    wrong = {
        f"{path.name}:{function.lineno} {name}": sorted(missing)
        for path in PACKAGE.rglob("*.py")
        for name, function, text in public(ast.parse(path.read_text()))
        if (missing := {error for error in raised(function) - apart if error not in text})
    }
    assert not wrong
