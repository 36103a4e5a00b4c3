"""What an import loads: neither TensorFlow nor, for the package alone, anything heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = "[m for m in ('tensorflow', 'keras', 'jax', 'torch') if m in sys.modules]"


@pytest.mark.parametrize(
    "program",
    [
        "import ecg_mlflow; [getattr(ecg_mlflow, name) for name in ecg_mlflow.__all__]\n"
        "ecg_mlflow.ResNet18.describe((3000, 1), 2).multiply_adds()",
        "import ecg_mlflow.cli, ecg_mlflow.study.launch, ecg_mlflow.study.worker.main",
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
