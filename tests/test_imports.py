"""Imports point one way: foundation, then the parts, then the assembly; and none is heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ecg_mlflow"

FOUNDATION = {"errors", "canonical", "files", "label_sets", "process_mark"}
FOUNDATION |= {"installed", "machine_tags", "recordings_source", "registered_name", "version_tags"}
#: What each part may import beside the foundation and itself; the top-level modules may all.
ALLOWED = {
    "errors": set(),
    "canonical": {"errors"},
    "files": {"errors"},
    "installed": {"errors"},
    "label_sets": set(),
    "process_mark": set(),
    "machine_tags": {"process_mark"},
    "recordings_source": set(),
    "registered_name": set(),
    "version_tags": set(),
    "cli_values": set(),
    "schedule": set(),
    "grids": set(),
    "records": set(),
    "pipeline": {"grids", "records"},
    "models": set(),
    "stats": set(),
    "drawing": {"stats"},
    "training": {"grids", "schedule", "pipeline", "models", "stats"},
    "serving": {"records", "pipeline", "stats"},
    "tracking": set(),
    "executors": set(),
    "search": {"grids"},
    "plugins": {"records", "tracking", "cli_values"},
    "autologging": {"schedule", "pipeline", "models", "stats", "training", "tracking"},
}
#: Libraries that only some parts may name.
LIBRARIES = {
    "tensorflow": {"training"},
    "keras": {"autologging", "models", "training", "tracking", "serving", "building"},
    "mlflow": {
        "autologging",
        "tracking",
        "serving",
        "evaluator",
        "continuing",
        "driver",
        "job",
        "plugins",
        "reaping",
        "training_run",
    },
    "sqlalchemy": {"tracking"},
    "wfdb": {"records"},
    "edfio": {"records"},
    "numba": {"pipeline"},
    "ray": {"executors"},
    "optuna": {"search"},
}


def part_of(module: str) -> str:
    """Return the part that ``ecg_mlflow.<part>...`` belongs to."""
    return f"{module}.".split(".")[1]


def imports_of(path: Path) -> set[str]:
    """List what a module imports anywhere, except for type checking alone."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write absolute imports"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        waiting += ast.iter_child_nodes(node)
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path):
    part = part_of(name_of(path))
    if part not in ALLOWED:
        return
    own = {part_of(name) for name in imports_of(path) if name.startswith("ecg_mlflow.")} - {part}
    wrong = own - ALLOWED[part] - (set() if part in FOUNDATION else FOUNDATION)
    assert not wrong, f"{name_of(path)} must not know of {sorted(wrong)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_stay_in_their_parts(path):
    part = part_of(name_of(path))
    used = {name.split(".")[0] for name in imports_of(path)} & set(LIBRARIES)
    wrong = {library for library in used if part not in LIBRARIES[library]}
    assert not wrong, f"{name_of(path)} must not name {sorted(wrong)}"


def test_the_rules_cover_every_folder():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders <= set(ALLOWED)


def test_no_part_knows_the_assembly():
    assembly = {path.stem for path in PACKAGE.glob("*.py")} - set(ALLOWED) - {"__init__"}
    assert {"driver", "plan", "research", "cli", "job"} <= assembly
    for path in MODULES:
        if part_of(name_of(path)) in ALLOWED:
            own = {part_of(n) for n in imports_of(path) if n.startswith("ecg_mlflow.")}
            assert not own & assembly, path


HEAVY = "[m for m in ('tensorflow', 'keras', 'jax', 'torch') if m in sys.modules]"


@pytest.mark.parametrize(
    "program",
    [
        "import ecg_mlflow; [getattr(ecg_mlflow, name) for name in ecg_mlflow.__all__]",
        "import ecg_mlflow.cli, ecg_mlflow.study.launch, ecg_mlflow.study.driver, ecg_mlflow.study.worker.main",
        "from pathlib import Path\n"
        "from ecg_mlflow.study.grid_file import load_grid_file\n"
        "from ecg_mlflow.search.space import Space\n"
        f"for path in Path({str(ROOT / 'examples')!r}).glob('*.py'):\n"
        "    if 'research =' not in path.read_text(): continue\n"
        "    research = load_grid_file(path).research\n"
        "    if Space(research.grid).n_configs is None: continue  # a range has no end\n"
        "    for config in research.grid.gen_configs(): research.settings(config)",
    ],
    ids=["the package", "the driver", "the examples"],
)
def test_nothing_loads_tensorflow(program):
    check = f"import sys\n{program}\nprint({HEAVY})"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_package_itself_loads_nothing():
    program = "import sys, ecg_mlflow; print([m for m in sys.modules if m.startswith('ecg_mlflow.')"
    program += " or m in ('numpy', 'mlflow', 'numba', 'pandas')])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    import ecg_mlflow

    with pytest.raises(AttributeError, match="no attribute 'ResNet50'"):
        _ = ecg_mlflow.ResNet50
