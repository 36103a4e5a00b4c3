"""What the driver does when runs, workers or the user end things early."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from studies import NETWORKS, numpy_grid, reason, worker_pids

from ecg_mlflow.study.jobs import Trained
from ecg_mlflow.study.progress import StudyProgress

# Twelve training records of twenty; batches of five make three iterations an epoch.
FAULTY = numpy_grid(
    grid="""Option.product(
        Option("learning_rate", [1e-2, 1e30, 2e-2, 3e-2]), Option("n_epochs", [2, 3, 5000, 2])
    )""",
    optimizer="Optimizer('sgd', learning_rate=C('learning_rate'))",
    epochs="C('n_epochs')",
    split="(0.6, 0.2, 0.2)",
)
GOOD, DIVERGES, IS_KILLED, GOOD_TOO = 0, 1, 2, 3


@pytest.fixture(scope="module")
def faulty_study(shared_workplace):
    """Run four configurations: one's loss turns NaN, and one's worker is killed in the middle."""
    reported = StudyProgress.reported

    def kill_worker(self, run, report):
        reported(self, run, report)
        is_late = isinstance(report, Trained) and report.iteration >= 10
        if run.config.index == IS_KILLED and is_late:
            for pid in worker_pids():
                os.kill(pid, signal.SIGKILL)

    with shared_workplace() as work, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PYTHONPATH", str(NETWORKS))
        monkeypatch.setattr(StudyProgress, "reported", kill_worker)
        grid = work.write_grid(FAULTY)
        work.status = work.run(grid, "--workers", "1", experiment="faulty")
        work.left = worker_pids()
    return work


@pytest.fixture(scope="module")
def runs(faulty_study):
    return faulty_study.runs("faulty")[1]


def test_runs_that_fail_do_not_stop_the_others(faulty_study, runs):
    assert [run.info.status for run in runs] == ["FINISHED", "FAILED", "FAILED", "FINISHED"]
    assert faulty_study.status == 3
    assert faulty_study.left == [], "no worker is left"
    parent, _ = faulty_study.runs("faulty")
    assert parent.info.status == "FAILED"
    assert reason(parent) == "2 of 4 runs failed"
    assert parent.data.metrics["runs_failed"] == 2
    assert "2 of 4 runs finished, 2 failed." in parent.data.tags["mlflow.note.content"]


def test_a_diverged_loss_is_the_reason_and_the_losses_before_are_kept(faulty_study, runs):
    assert "DivergedError" in reason(runs[DIVERGES])
    assert "a smaller learning rate" in reason(runs[DIVERGES])
    assert "Traceback" in faulty_study.text(runs[DIVERGES], "error.txt")
    losses = faulty_study.losses(runs[DIVERGES])
    assert losses
    assert all(loss < float("inf") for loss in losses)


def test_a_killed_worker_is_the_reason(faulty_study, runs):
    assert "SIGKILL" in reason(runs[IS_KILLED])
    assert "SIGKILL" in faulty_study.text(runs[IS_KILLED], "error.txt")
    # Those of the last test at least: they were flushed with it.
    assert len(faulty_study.losses(runs[IS_KILLED])) >= 9


def test_a_study_that_validates_is_ranked_by_validation_and_tells_of_its_test_records(
    faulty_study, runs
):
    parent, _ = faulty_study.runs("faulty")
    assert parent.data.params["objective"] == "maximize validation_f1"
    good, client = runs[GOOD], faulty_study.client
    assert {"validation_f1", "best_validation_f1", "test_f1"} <= set(good.data.metrics)
    assert "best_test_f1" not in good.data.metrics, "the test set chooses nothing"
    for name, steps in (("validation_f1", {2, 5}), ("test_f1", {5})):
        assert {m.step for m in client.get_metric_history(good.info.run_id, name)} == steps
    plan = json.loads(faulty_study.text(parent, "design/plan.json"))
    for name in ("best", "last"):
        lines = faulty_study.text(runs[GOOD_TOO], f"predictions/{name}.csv").splitlines()[1:]
        assert [line.partition(",")[0] for line in lines] == plan["split"]["test"]
    assert len(faulty_study.artifacts(good, "plots")) == 2


LONG = numpy_grid(
    grid="Option('hidden', [2, 3])",
    train="root.random_split_signals(128, 2).apply(unhurried)",
    epochs="100_000",
    test_every="'last'",
)


@pytest.mark.parametrize(("workers", "number"), [("1", signal.SIGTERM), ("0", signal.SIGINT)])
def test_a_signal_stops_the_study_in_order(workplace, experiment, monkeypatch, workers, number):
    told = []
    reported = StudyProgress.reported

    def interrupt(self, run, report):
        reported(self, run, report)
        if not isinstance(report, Trained):
            return
        if not told:
            time.sleep(1)  # twenty iterations
            os.kill(os.getpid(), number)
        told.append(report.iteration)

    monkeypatch.setattr(StudyProgress, "reported", interrupt)
    monkeypatch.setenv("PYTHONPATH", str(NETWORKS))
    monkeypatch.setenv("UNHURRIED_S", "0.005")
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    grid = workplace.write_grid(LONG)

    status = workplace.run(grid, "--workers", workers, experiment=experiment)

    assert status == 130
    parent, children = workplace.runs(experiment)
    assert parent.info.status == "KILLED"
    assert reason(parent) == f"KeyboardInterrupt: stopped by {number.name}"
    (child,) = children
    assert child.info.status == "KILLED"
    assert reason(child) == "stopped as asked"
    # The loop hands losses over every two seconds; those since the last time are kept as well.
    assert len(workplace.losses(child)) > told[0] + 10
    assert worker_pids() == []
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


HANGS = numpy_grid(
    before="""
import time
from pathlib import Path

class Net(NumpyNet):
    @staticmethod
    def step_factory(settings, input_shape, seed):
        if not Path(MARK).exists():
            Path(MARK).touch()
            time.sleep(10_000)
        return NumpyNet.step_factory(settings, input_shape, seed)
""",
    grid="Option('hidden', [2])",
    model="Net",
)


@pytest.mark.slow
def test_a_run_that_hangs_is_tried_again(workplace, experiment, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(NETWORKS))
    mark = workplace.folder / "has hung"
    # This process's clock leaps once the worker hangs: nobody need wait so long.
    monotonic = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 300 * mark.exists())
    grid = workplace.write_grid(HANGS.replace("MARK", repr(str(mark))))
    words = ("--workers", "1", "--hang-minutes", "2")
    assert workplace.run(grid, *words, experiment=experiment) == 0
    assert "gave no sign of life for 120 s" in capsys.readouterr().err
    (child,) = workplace.runs(experiment)[1]
    assert child.info.status == "FINISHED"
    assert child.data.tags["ecg_mlflow.attempt"] == "2"
    assert len(workplace.losses(child)) == 12
