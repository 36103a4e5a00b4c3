"""Runs that are trained by what their model's builder names in place of Keras."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy_net import NumpyNet, NumpyNetSpec, NumpyStep
from studies import NETWORKS, grid_text, small_plan

from ecg_mlflow import C, Option
from ecg_mlflow.errors import CheckpointError

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


# --- The network of the tests --------------------------------------------------------------------


def make_step(seed: int = 3, hidden: int = 3) -> NumpyStep:
    return NumpyStep(NumpyNetSpec(64, hidden, 2), seed, 0.1, dropout=0.25, momentum=0.9)


def make_batches(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    targets = np.eye(2, dtype=np.float32)[rng.integers(0, 2, (n, 10))]
    return [(rng.normal(size=(10, 64, 1)).astype(np.float32), one) for one in targets]


def test_its_losses_depend_on_everything_that_a_checkpoint_holds():
    whole, broken = make_step(), make_step()
    batches = make_batches(20)
    expected = [whole.train(*batch) for batch in batches]
    for batch in batches[:10]:
        broken.train(*batch)
    state = broken.state()

    def losses(state):
        step = make_step()
        step.restore(state)
        return [step.train(*batch) for batch in batches[10:]]

    assert losses(state) == expected[10:]
    for name in state:  # a checkpoint without one of them would show
        assert losses({**state, name: make_step().state()[name]}) != expected[10:], name
    with pytest.raises(CheckpointError):
        make_step(hidden=4).restore(state)
