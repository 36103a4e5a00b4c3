"""A whole study on a Ray cluster, which loses a node in the middle."""

from __future__ import annotations

import pytest
from chaos import Lab, assert_same
from ray_nodes import TwoNodes
from studies import NETWORKS, numpy_grid, write_files

from ecg_mlflow.tracking.stored_run import ATTEMPT_TAG, REPLACED_TAG

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
GRID = numpy_grid(
    before="from steps_of_test import unhurried",
    grid="Option('hidden', [2, 3, 4])",
    train="root.random_split_signals(128, 2).apply(unhurried)",
    epochs="60",
    test_every="'5 epochs'",
)


@pytest.fixture
def nodes(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    caches = [tmp_path / "cache-0", tmp_path / "cache-1"]
    made = TwoNodes(*({"ECG_MLFLOW_CACHE": str(cache)} for cache in caches), num_cpus=1)
    made.caches = caches
    yield made
    made.cluster.shutdown()


@pytest.fixture
def lab(tmp_path_factory, beats):
    with Lab(tmp_path_factory, beats, GRID, PYTHONPATH="") as lab:
        write_files(lab.folder, BESIDE)
        del lab.environment["CUDA_VISIBLE_DEVICES"]  # or there could be no fake ones
        yield lab


@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    "shared",
    [
        pytest.param(True, id="shared checkpoints"),
        pytest.param(False, id="lost checkpoints", marks=pytest.mark.nightly),
    ],
)
def test_a_study_that_loses_a_node_ends_with_all_runs_finished_once(lab, nodes, shared):
    if not shared:
        del lab.environment["ECG_MLFLOW_CHECKPOINTS"]
    undisturbed = lab.run("--workers", "1")
    assert undisturbed.end() == 0, undisturbed.said
    expected = lab.portraits(lab.children(undisturbed.parent))
    lab.environment["MLFLOW_TEST_SLEEP_S"] = "0.004"
    address = ("--executor", "ray", "--ray-address", nodes.cluster.address)
    driver = lab.run(*address, "--gpus-per-worker", "1")

    def two_are_saved():
        """Say whether two runs have losses in the store, which only come after a checkpoint."""
        runs = lab.children(driver.parent) if driver.parent else []
        return sum("loss" in run.data.metrics for run in runs) >= 2

    driver.wait_for(two_are_saved)
    nodes.remove_second()
    assert driver.end() == 0, driver.said

    assert_same(lab, driver.parent, expected, replaced=0 if shared else 1)
    children = lab.children(driver.parent)
    if shared:
        assert "it goes on from iteration" in driver.said
        assert sorted(run.data.tags[ATTEMPT_TAG] for run in children) == ["1", "1", "2"]
    else:
        assert "begins anew" in driver.said
        (lost,) = (run for run in children if run.info.status == "KILLED")
        assert lost.data.tags[REPLACED_TAG] in {run.info.run_id for run in children} - {
            lost.info.run_id
        }
    finished = [run for run in children if run.info.status == "FINISHED"]
    assert {run.data.tags["ecg_mlflow.device"] for run in finished} == {"gpu:0"}
    # The corpus came to each node by its content's hash, and nothing else is needed from here.
    digests = [{f.name for f in (cache / "corpora").iterdir()} for cache in nodes.caches]
    assert digests[0] & digests[1]


def test_ray_wants_to_know_how_many_workers(workplace, experiment, capsys):
    grid = workplace.write_grid(GRID)
    assert workplace.run(grid, "--executor", "ray", experiment=experiment) == 1
    assert "executor=ray needs workers=N" in capsys.readouterr().err
    words = ("--executor", "ray", "--workers", "1", "--gpus", "0")
    assert workplace.run(grid, *words, experiment=experiment) == 1
    assert "say gpus_per_worker=1" in capsys.readouterr().err
