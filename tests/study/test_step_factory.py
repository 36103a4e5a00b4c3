"""Runs that are trained by what their model's builder names in place of Keras."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from numpy_net import NumpyNet
from studies import NETWORKS, grid_text, small_plan

from ecg_mlflow import C, Option

NUMPY = grid_text(
    before="from numpy_net import NumpyNet",
    grid="Option('hidden', [2, 3])",
    model="NumpyNet",
    model_arguments="",
)
RUN = """
import json, sys
from ecg_mlflow.cli import main

assert main(["run", "small.py", "--data", sys.argv[1], "--workers", "0"]) == 0
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_a_run_without_keras_never_imports_it(workplace):
    """Neither the driver nor the job: with no worker process, both are in this one."""
    workplace.write_grid(NUMPY)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(workplace.records)],
        cwd=workplace.folder,
        env={**os.environ, "PYTHONPATH": str(NETWORKS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "numpy_net" in loaded
    # Nor scikit-learn, which would take as long to import as half of MLflow.
    assert not {"keras", "tensorflow", "sklearn"} & set(loaded)


def small_net(input_shape, n_classes):
    """Stand for a model of Keras."""


def test_only_models_of_one_factory_share_a_stream_of_batches(beats):
    grid = Option("model", [NumpyNet, small_net])
    numpy, keras = small_plan(beats, grid=grid, model=C("model"), model_arguments={}).configs
    assert numpy.stream != keras.stream
