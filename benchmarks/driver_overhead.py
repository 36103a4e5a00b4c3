"""What the driver costs: between two runs, for planning a large grid, and for resuming one.

    python benchmarks/driver_overhead.py

1. A study of short runs on one worker. Of each pair of runs that follow each other in the warm
   worker: the time from the moment at which the driver hears that one has ended to the beginning
   of the next one's first iteration, in two parts; and the first iteration, which holds the
   compilation of the step.
2. `plan_study` for 1,000 configurations on the demo corpus: everything that is validated before
   the first run.
3. A study of 1,000 finished runs in a sqlite store: reading its ledger and deciding what is left.

Times are medians, with the range of all repetitions.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

from mlflow.entities import Metric, Param

from ecg_mlflow import C, Optimizer, Option, Pipeline, Research, ResNet, load_corpus
from ecg_mlflow.executors.base import Event, Job, Report
from ecg_mlflow.executors.devices import plan_slots
from ecg_mlflow.executors.processes import ProcessExecutor
from ecg_mlflow.study.descriptions import run_name, run_params
from ecg_mlflow.study.driver import StudyOptions, run_study
from ecg_mlflow.study.jobs import REPORT, Ended
from ecg_mlflow.study.plan import PlannedRun
from ecg_mlflow.study.planning import plan_study
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.resume import KnownRuns, ResumeAction
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.stored_run import ATTEMPT_TAG, IDENTITY_TAG, PLAN_TAG
from ecg_mlflow.tracking.stored_study import read_children
from ecg_mlflow.tracking.study_run import Study

N_RUNS, N_CONFIGS, REPEATS = 12, 1000, 5


def research(n: int, epochs: int) -> Research:
    """Return a design of `n` small nets that differ in their learning rates."""
    root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO", "O": "NO"}).center_flip()
    return Research(
        grid=Option("learning_rate", [1e-3 * (1 + i / n) for i in range(n)]),
        model=ResNet,
        model_arguments={
            "blocks": [1] * 4,
            "filters": [4, 4, 8, 8],
            "input_filters": 4,
            "layout": "cna",
        },
        train=root.random_split_signals(1000, {"A": 6, "NO": 2}),
        test=root.split_signals(1000, step=1000),
        classes=["A", "NO"],
        epochs=epochs,
        test_every="last",
        optimizer=Optimizer("adam", learning_rate=C("learning_rate")),
    )


def between_runs(folder: Path) -> dict[str, list[float]]:
    """Return the seconds between runs in one warm worker, whole and in parts."""
    plan = plan_study(research(N_RUNS, epochs=2), load_corpus("demo:200"), StudyRequest())
    client = connect(f"sqlite:///{folder / 'overhead.db'}")
    ended: list[float] = []
    started: list[float] = []

    class Watched(ProcessExecutor):
        def submit(self, job: Job) -> None:
            super().submit(job)  # its only slot is free, so the job starts
            started.append(time.time())

        def events(self, timeout: float) -> Iterator[Report]:
            for report in super().events(timeout):
                if isinstance(report, Event) and isinstance(report.data[REPORT], Ended):
                    ended.append(time.time())
                yield report

    with patch("ecg_mlflow.executors.factory.ProcessExecutor", Watched):
        request = StudyRequest(__file__, experiment="overhead")
        options = StudyOptions(request, plan_slots(1, None, 1))
        counts = run_study(plan, client, options)
    assert counts.finished == N_RUNS
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = client.search_runs(experiments)
    (parent,) = (run.info for run in found if PLAN_TAG in run.data.tags)
    children = read_children(client, parent.experiment_id, parent.run_id)
    runs = [client.get_run(child.run_id) for child in children]
    setups = [run.data.metrics["system/setup_seconds"] for run in runs][1:]
    handed = [begin - end for end, begin in zip(ended, started[1:], strict=False)]
    first_losses = [
        min(m.timestamp for m in client.get_metric_history(run.info.run_id, "loss")) / 1000
        for run in runs
    ]
    began = [begin + setup for begin, setup in zip(started[1:], setups, strict=True)]
    return {
        "from a run's end to the next one's first iteration": [
            hand + setup for hand, setup in zip(handed, setups, strict=True)
        ],
        "  of that, until the driver has handed over the next": handed,
        "  of that, in the worker: store, lock, data, model": setups,
        "the first iteration, with the compilation": [
            loss - begin for loss, begin in zip(first_losses[1:], began, strict=True)
        ],
    }


def planning() -> list[float]:
    """Return the seconds that planning 1,000 configurations takes."""
    design, corpus = research(N_CONFIGS, epochs=2), load_corpus("demo:200")
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        plan = plan_study(design, corpus, StudyRequest())
        times.append(time.perf_counter() - started)
        assert len(plan.runs) == N_CONFIGS
    return times


def resuming(folder: Path) -> list[float]:
    """Return the seconds in which a study of 1,000 finished runs is read and decided on."""
    plan = plan_study(research(N_CONFIGS, epochs=2), load_corpus("demo:200"), StudyRequest())
    client = connect(f"sqlite:///{folder / 'large.db'}")
    with Study.open(client, "large", "large") as study:
        for run in plan.runs:
            _finished_child(study, run)
        times = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            entries = read_children(client, study.experiment_id, study.run_id)
            known_runs = KnownRuns(entries)
            decisions = [known_runs.decide(run) for run in plan.runs]
            times.append(time.perf_counter() - started)
            assert [one.action for one in decisions] == [ResumeAction.SKIP] * N_CONFIGS
    return times


def _finished_child(study: Study, run: PlannedRun) -> None:
    """Make a child with as many params, tags and metrics as a trained one has."""
    tags = {IDENTITY_TAG: run.identity, ATTEMPT_TAG: 1}
    child = study.create_child(run_name(run), run_params(run), tags)
    metrics = [Metric(f"test_metric_{i}", 0.5, 1, 1) for i in range(25)]
    study.client.log_batch(child, metrics=metrics, params=[Param("more", "x")])
    study.finish_child(child, "FINISHED")


def show(what: str, seconds: list[float]) -> None:
    """Print a median and a range."""
    print(
        f"{what}: {statistics.median(seconds):.3f} s "
        f"({min(seconds):.3f} to {max(seconds):.3f}, n = {len(seconds)})"
    )


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, seconds in between_runs(folder).items():
            show(what, seconds)
        show(f"plan of {N_CONFIGS} configurations", planning())
        show(f"resume of {N_CONFIGS} runs, decided", resuming(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
