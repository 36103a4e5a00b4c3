"""One name, one thing: what a stranger searches for is found in one place."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ecg_mlflow"
MODULES = sorted(PACKAGE.rglob("*.py"))
TOP = {"__init__", "__main__", "errors", "files", "provenance", "terminal"}


def public(kind: type[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield the public names of one kind with the modules that define them."""
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, kind) and not node.name.startswith("_"):
                yield node.name, str(path.relative_to(PACKAGE))


def repeated(pairs: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    places = defaultdict(list)
    for name, place in pairs:
        places[name].append(place)
    return {name: found for name, found in places.items() if len(found) > 1}


def test_no_class_is_defined_twice():
    assert repeated(public(ast.ClassDef)) == {}


def test_no_public_function_is_defined_twice():
    assert repeated(public(ast.FunctionDef)) == {}


def test_no_two_modules_have_one_name():
    """`base` is the exception: the module of a package that its other modules build on."""
    names = ((path.stem, str(path.relative_to(PACKAGE))) for path in MODULES)
    assert set(repeated(names)) <= {"__init__", "base"}


def test_the_top_of_the_package_holds_what_every_package_uses():
    assert {path.stem for path in PACKAGE.glob("*.py")} == TOP
