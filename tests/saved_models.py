"""A saved model whose pipeline has a function of a grid file, and recordings to ask it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from studies import grid_text, write_files

from ecg_mlflow.grids.user_code import UserCode, use
from ecg_mlflow.pipeline import Pipeline
from ecg_mlflow.records import Record, read_record
from ecg_mlflow.serving.manifest import Manifest
from ecg_mlflow.serving.saving import save_classifier
from ecg_mlflow.study.grid_file import load_grid_file

GRID = grid_text(
    before="""
from strength_of_test import FACTOR
from filters_of_test.gains import doubled

def scaled(signal, fs):
    return FACTOR * signal
""",
    test="root.apply(scaled).apply(doubled).split_signals(120, 120)",
)

#: Beside it: a package, and a module that only a function in it imports.
BESIDE = {
    "strength_of_test.py": "FACTOR = 3.0",
    "more_of_test.py": "TWO = 2.0",
    "filters_of_test/__init__.py": "",
    "filters_of_test/gains.py": """
from . import sizes

def doubled(signal, fs):
    from more_of_test import TWO
    return TWO * sizes.ONE * signal
""",
    "filters_of_test/sizes.py": "ONE = 1.0",
    "unrelated_of_test.py": "",
}

#: Run before anything else in a process: the checkout and its installation can't be imported.
HIDE = """
import importlib, sys
from pathlib import Path
sys.path = [one for one in sys.path if not Path(one or ".", "ecg_mlflow").is_dir()]
sys.meta_path = [one for one in sys.meta_path if "editable" not in str(one).casefold()]
importlib.invalidate_caches()
try:
    import ecg_mlflow
except ModuleNotFoundError:
    pass
else:
    sys.exit(f"ecg_mlflow is still there: {ecg_mlflow}")
"""


@dataclass(frozen=True)
class Saved:
    """A model's folder, what it is, and a folder of recordings R0 to R4 for it."""

    folder: Path
    manifest: Manifest
    example: Record
    records: Path


def save_example(
    folder: Path, network: Path, make_manifest: Callable[..., Manifest], write_record
) -> Saved:
    """Save a model below a folder, with recordings of 250 Hz and one lead beside it."""
    sources, records = folder / "study", folder / "records"
    write_files(sources, {"grid_of_test.py": GRID, **BESIDE})
    grid = load_grid_file(sources / "grid_of_test.py")
    test: Pipeline = grid.research.test
    for i in range(5):
        rng = np.random.default_rng(i)
        signal = np.sin(np.arange(300 + 100 * i) / (5 + i))[:, None] + rng.normal(0, 0.1)
        write_record(records, f"R{i}", signal, leads=["L1"])
    example = read_record(records / "R4.hea")
    manifest = make_manifest(test, threshold=0.4, temperature=1.5)
    done = save_classifier(
        folder / "model",
        network,
        manifest,
        example,
        code=sources,
        trained_on={"digests": ["abc"]},
    )
    del sys.modules["ecg_mlflow_grid_grid_of_test"]
    use(UserCode())
    return Saved(folder / "model", done, example, records)


def elsewhere(**more: str) -> dict[str, str]:
    """Return the environment of a process that knows MLflow and no pickle."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**kept, **quiet, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", **more}
