"""A whole study on a Ray cluster, which loses a node in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_nodes import TwoNodes
from studies import NETWORKS, NUMPY_NET, PARENT_TAG, Workplace, grid_text
from waiting import wait_for

from ecg_mlflow.tracking.stored_run import ATTEMPT_TAG, IDENTITY_TAG, REPLACED_TAG

pytest.importorskip("ray")

pytestmark = [pytest.mark.slow, pytest.mark.server]

#: The network and a step stand in modules and a package beside the grid file, which no node has in
#: its path. The step sleeps in each window where the environment says so.
BESIDE = {
    "numpy_net.py": (NETWORKS / "numpy_net.py").read_text(),
    "steps_of_test/__init__.py": "from .slow import unhurried",
    "steps_of_test/slow.py": """
from . import sleeping

def unhurried(signal, fs):
    import environment_of_test
    return sleeping.after(environment_of_test.seconds(), signal)
""",
    "steps_of_test/sleeping.py": """
def after(seconds, signal):
    import time
    time.sleep(seconds)
    return signal
""",
    "environment_of_test.py": """
import os

def seconds():
    return float(os.environ.get("MLFLOW_TEST_SLEEP_S", "0"))
""",
}
GRID = grid_text(
    **{
        **NUMPY_NET,
        "before": "from numpy_net import NumpyNet\nfrom steps_of_test import unhurried",
    },
    grid="Option('hidden', [2, 3, 4])",
    train="root.random_split_signals(128, 2).apply(unhurried)",
    epochs="60",
    test_every="'5 epochs'",
)


@pytest.fixture
def nodes(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TwoNodes]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # or there could be no fake ones
    caches = [tmp_path / "cache-0", tmp_path / "cache-1"]
    made = TwoNodes(*({"ECG_MLFLOW_CACHE": str(cache)} for cache in caches), num_cpus=1)
    made.caches = caches
    yield made
    made.cluster.shutdown()


def start(work: Workplace, experiment: str, *more: str, **env: str) -> subprocess.Popen[bytes]:
    grid = work.write_grid(GRID, "design/small.py", **BESIDE)
    command = [
        *(sys.executable, "-m", "ecg_mlflow", "run", str(grid), "--data", str(work.records)),
        *("--experiment", experiment, "--workers", "2", "--checkpoint-minutes", "0.01", *more),
    ]
    with (work.folder / f"{experiment}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **env})


def log_of(work: Workplace, experiment: str) -> str:
    return (work.folder / f"{experiment}.log").read_text()


def by_identity(work: Workplace, experiment: str, status: str = "FINISHED"):
    children = [run for run in work.runs(experiment)[1] if run.info.status == status]
    found = {run.data.tags[IDENTITY_TAG]: run for run in children}
    assert len(found) == len(children), "each identity is there once"
    return found


@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    "shared",
    [
        pytest.param(True, id="shared checkpoints"),
        pytest.param(False, id="lost checkpoints", marks=pytest.mark.nightly),
    ],
)
def test_a_study_that_loses_a_node_ends_with_all_runs_finished_once(
    workplace, experiment, nodes, tmp_path, shared
):
    undisturbed = f"{experiment} undisturbed"
    assert start(workplace, undisturbed).wait(1000) == 0, log_of(workplace, undisturbed)
    env = {"MLFLOW_TEST_SLEEP_S": "0.004"}
    if shared:
        env["ECG_MLFLOW_CHECKPOINTS"] = str(tmp_path / "checkpoints")
    address = ("--executor", "ray", "--ray-address", nodes.cluster.address)
    driver = start(workplace, experiment, *address, "--gpus-per-worker", "1", **env)

    def two_are_saved() -> bool:
        """Say whether two runs have losses in the store, which only come after a checkpoint."""
        assert driver.poll() is None, log_of(workplace, experiment)
        return sum("loss" in run.data.metrics for run in workplace.runs(experiment)[1]) >= 2

    wait_for(two_are_saved)
    nodes.remove_second()
    assert driver.wait(1000) == 0, log_of(workplace, experiment)

    expected, found = by_identity(workplace, undisturbed), by_identity(workplace, experiment)
    assert found.keys() == expected.keys()
    for identity, run in found.items():
        assert workplace.losses(run) == workplace.losses(expected[identity])
    said = log_of(workplace, experiment)
    _, children = workplace.runs(experiment)
    states = Counter(run.info.status for run in children)
    if shared:
        assert "it goes on from iteration" in said
        assert states == {"FINISHED": 3}
        assert sorted(run.data.tags[ATTEMPT_TAG] for run in children) == list("112")
    else:
        assert "begins anew" in said
        assert states == {"FINISHED": 3, "KILLED": 1}
        (lost,) = by_identity(workplace, experiment, "KILLED").values()
        assert lost.data.tags[REPLACED_TAG] in {r.info.run_id for r in found.values()}
    assert {run.data.tags["ecg_mlflow.device"] for run in found.values()} == {"gpu:0"}
    # The corpus came to each node by its content's hash, and nothing else is needed from here.
    digests = [{f.name for f in (cache / "corpora").iterdir()} for cache in nodes.caches]
    assert digests[0] & digests[1]
    assert all(PARENT_TAG in run.data.tags for run in children)


def test_ray_wants_to_know_how_many_workers(workplace, experiment, capsys):
    grid = workplace.write_grid(GRID)
    assert workplace.run(grid, "--executor", "ray", experiment=experiment) == 1
    assert "executor=ray needs workers=N" in capsys.readouterr().err
    words = ("--executor", "ray", "--workers", "1", "--gpus", "0")
    assert workplace.run(grid, *words, experiment=experiment) == 1
    assert "say gpus_per_worker=1" in capsys.readouterr().err
