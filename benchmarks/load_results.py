"""How long it takes to read the curves of a whole study, and how much memory the table takes.

    python benchmarks/load_results.py
    python benchmarks/load_results.py --configurations 26 --repetitions 5 --iterations 64000

It writes runs as a study would leave them into a new sqlite store in a temporary folder: of each
the last values and its trace, and of a few (``--histories``) every loss too, for MLflow's own way
of reading them, ``MlflowClient.get_metric_history``. What that would take for all runs is its time
for these few, times how many more there are. ``mlflow.search_runs`` stands beside it, although it
gives last values only. Each of our ways runs in a process of its own, whose peak memory is told;
"frame MB" is of the table alone. Files are in the system's cache, as they are after a study.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric

from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.stored_run import IDENTITY_TAG, PLAN_TAG
from ecg_mlflow.tracking.study_run import Study
from ecg_mlflow.tracking.trace import RunTrace, log_trace

TESTS: tuple[str, ...] = (
    "f1",
    "f1_A",
    "f1_NO",
    "f1_macro",
    "accuracy",
    "sensitivity",
    "specificity",
    "precision",
)
TESTS += ("roc_auc", "average_precision", "log_loss", "brier")
#: Ways to read, by the arguments of `load_results`.
WAYS: dict[str, dict[str, Any]] = {
    "all metrics": {},
    "loss and F1": {"metrics": ["loss", "test_f1"]},
    "loss and F1, one iteration in 100": {"metrics": ["loss", "test_f1"], "every": 100},
    "F1 alone": {"metrics": ["test_f1"]},
    "last values": {"final": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--configurations", type=int, default=26)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=64_000)
    parser.add_argument("--histories", type=int, default=2)
    parser.add_argument("--read", nargs=3, metavar=("URI", "STUDY", "WAY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        read(*given.read)
        return
    with tempfile.TemporaryDirectory(prefix="load-results-") as folder:
        measure(given, f"sqlite:///{folder}/mlflow.db")


def measure(given: argparse.Namespace, uri: str) -> None:
    client = connect(uri)
    n_runs = given.configurations * given.repetitions
    print(f"{n_runs} runs of {given.iterations:,} iterations, {n_runs * given.iterations:,} losses")
    study, runs = write_study(client, given)
    began = time.perf_counter()
    for run_id in runs[: given.histories]:
        write_losses(client, run_id, given.iterations)
    print(f"wrote {given.histories} histories in {time.perf_counter() - began:.0f} s\n")
    print("load_results(...)                     seconds       rows  frame MB  peak MB")
    for way in WAYS:
        command = [sys.executable, __file__, "--read", uri, study, way]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(
            f"{way:36} {found['seconds']:8.2f} {found['rows']:10,} {found['frame_mb']:9,.0f} "
            f"{found['peak_mb']:8,.0f}"
        )
    print("\nMLflow's own")
    began = time.perf_counter()
    for run_id in runs[: given.histories]:
        assert len(client.get_metric_history(run_id, "loss")) == given.iterations
    each = (time.perf_counter() - began) / given.histories
    print(
        f"get_metric_history of the loss alone: {each:.1f} s a run, so {each * n_runs:,.0f} s for "
        f"{n_runs}"
    )
    import mlflow

    mlflow.set_tracking_uri(uri)
    began = time.perf_counter()
    frame = mlflow.search_runs(search_all_experiments=True)
    print(f"search_runs, last values alone: {time.perf_counter() - began:.2f} s, {len(frame)} rows")


def read(uri: str, study: str, way: str) -> None:
    """Read a study in one way, and print what that took."""
    from ecg_mlflow import load_results  # the libraries' import is not counted

    connect(uri)
    began = time.perf_counter()
    frame = load_results(study, uri, **WAYS[way])
    seconds = time.perf_counter() - began
    size = frame.memory_usage(deep=True).sum() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    found = {"seconds": seconds, "rows": len(frame), "frame_mb": size, "peak_mb": peak}
    print(json.dumps(found))


def write_study(client: MlflowClient, given: argparse.Namespace) -> tuple[str, list[str]]:
    """Write a study whose runs have ended; return its id and theirs."""
    rng = np.random.default_rng(0)
    planned, runs = [], []
    with Study.open(client, "benchmark", "curves", tags={PLAN_TAG: "benchmark"}) as study:
        for repetition in range(given.repetitions):
            for config in range(given.configurations):
                key = f"{config:02d}-r{repetition}"
                options = {"layout": ["cna", "cnacna"][config % 2], "filters": str(8 + config // 2)}
                planned.append(
                    {"key": key, "identity": key, "config": options, "repetition": repetition}
                )
                params = {**options, "config": config, "repetition": repetition}
                run_id = study.create_child(key, params, {IDENTITY_TAG: key})
                losses = rng.exponential(0.5, given.iterations).astype(np.float32)
                tests = [
                    (iteration, {f"test_{name}": rng.random() for name in TESTS})
                    for iteration in range(4279, given.iterations, 4280)
                ] or [(given.iterations - 1, {f"test_{name}": rng.random() for name in TESTS})]
                with RunLog(client, run_id) as log:
                    log_trace(log, RunTrace.of([losses], tests))
                    log.metrics({"loss": float(losses[-1]), **tests[-1][1]}, given.iterations - 1)
                study.finish_child(run_id, "FINISHED")
                runs.append(run_id)
        client.log_text(study.run_id, json.dumps({"runs": planned}), "design/plan.json")
    return study.run_id, runs


def write_losses(client: MlflowClient, run_id: str, n_iterations: int) -> None:
    losses = np.random.default_rng(1).exponential(0.5, n_iterations).astype(np.float32)
    for first in range(0, n_iterations - 1, 1000):
        steps = range(first, min(first + 1000, n_iterations - 1))  # the last one is there
        client.log_batch(run_id, [Metric("loss", float(losses[i]), 1, i) for i in steps])


if __name__ == "__main__":
    main()
