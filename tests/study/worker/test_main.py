"""One run, as a worker fills it, in this process."""

from __future__ import annotations

import itertools
import os
import re
import socket
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from numpy_net import NumpyNet
from studies import small_plan

from ecg_mlflow import C, Optimizer, Option, Pipeline, ResNet, Split
from ecg_mlflow.errors import DivergedError, StorageError, TrackingError
from ecg_mlflow.files import checkpoint_path, locked
from ecg_mlflow.provenance import ProcessMark, seconds_since
from ecg_mlflow.study import jobs
from ecg_mlflow.study.descriptions import dataset_infos
from ecg_mlflow.study.jobs import Ended, Evaluated, RunEnd, RunJob, RunReport, Saved, Trained
from ecg_mlflow.study.worker import main as main_module
from ecg_mlflow.study.worker import run_artifacts as conclusion
from ecg_mlflow.study.worker import training_run
from ecg_mlflow.study.worker.main import probe, work
from ecg_mlflow.study.worker.training_run import TrainingRun
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.study_run import Study
from ecg_mlflow.tracking.trace import TRACE, RunTrace
from ecg_mlflow.training.checkpoint import load_checkpoint, save_checkpoint
from ecg_mlflow.training.loop import Paused

# Of NumPy 2, in Keras's way of saving a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RESEARCH = {
    "grid": Option("learning_rate", [1e-2, 1e30, 2e-2]),
    "model": NumpyNet,
    "model_arguments": {"hidden": 2},
    "train": Pipeline().random_split_signals(128, 2),
    "test": Pipeline().split_signals(128, 64),
    "batch_size": 5,
    "epochs": 3,
    "optimizer": Optimizer("sgd", learning_rate=C("learning_rate")),
    "split": Split((0.5, 0.2, 0.3)),
}
KERAS = {
    "model": ResNet,
    "model_arguments": {"blocks": [1], "filters": [2], "input_filters": 2, "layout": "c"},
}
GOOD, DIVERGES, GOOD_TOO = 0, 1, 2


class Killed(BaseException):
    """Stands for the end of the process."""


class Desk:
    """Makes jobs of the plan's runs, executes them here, and keeps what the last one reports."""

    def __init__(self, plan, work, study):
        self.plan, self.work, self.study = plan, work, study
        self.reports: list[RunReport] = []

    def take(self, data) -> None:
        self.reports.append(data[jobs.REPORT])

    def run_job(self, index: int, repetition: int = 0) -> RunJob:
        planned = self.plan.runs[index + repetition * len(self.plan.configs)]
        datasets = dataset_infos(self.plan.corpus, planned.config)
        return RunJob(planned, self.study.create_child("a run", {}), datasets)

    def train(self, *runs: RunJob, report=None, **options) -> dict[str, float] | None:
        self.reports.clear()
        job = jobs.WorkerJob(self.work.client.tracking_uri, self.plan.corpus.path, runs, **options)
        return work(cloudpickle.dumps(job), report or self.take)

    def score(self, run: RunJob) -> dict[str, float] | None:
        return self.train(run, is_score=True)

    def kill(self, run: RunJob, kind: type[RunReport], **wanted) -> None:
        """Train a run, and end the job, as SIGKILL would, at a certain report."""

        def report(data):
            self.take(data)
            told = data[jobs.REPORT]
            if isinstance(told, kind) and wanted.items() <= vars(told).items():
                raise Killed

        with pytest.raises(Killed):
            self.train(run, report=report)

    def kill_in(self, run: RunJob, *patches) -> None:
        """Train a run with attributes replaced by functions that end the job."""
        with pytest.MonkeyPatch.context() as patch:
            for one in patches:
                patch.setattr(*one)
            with pytest.raises(Killed):
                self.train(run)

    def ended(self, run: RunJob) -> Ended:
        (found,) = [r for r in self.reported(Ended) if r.run == run.run.key]
        return found

    def reported(self, kind: type[RunReport]) -> list:
        return [report for report in self.reports if isinstance(report, kind)]

    def history(self, run: RunJob) -> dict[str, list[tuple[int, float]]]:
        """Return every metric's values by step, but for those of the machine."""
        client = self.work.client
        names = client.get_run(run.run_id).data.metrics
        return {
            name: sorted((m.step, m.value) for m in client.get_metric_history(run.run_id, name))
            for name in names
            if not name.startswith("system/")
        }

    def models(self, run: RunJob) -> list:
        return self.work.client.search_logged_models(
            [self.study.experiment_id], filter_string=f"source_run_id = '{run.run_id}'"
        )

    def loaded(self, run: RunJob) -> MlflowRun:
        return self.work.client.get_run(run.run_id)


@pytest.fixture(scope="module")
def make_desk(shared_workplace):
    with shared_workplace() as work, Study.open(work.client, "workers", "a study") as study:
        yield lambda **changes: Desk(small_plan(work.records, **RESEARCH | changes), work, study)


@pytest.fixture(scope="module")
def numpy_desk(make_desk):
    return make_desk()


@pytest.fixture(scope="module")
def whole(numpy_desk):
    """What a run comes to that nothing disturbs."""
    whole = numpy_desk.run_job(GOOD)
    numpy_desk.train(whole)
    return whole


@pytest.fixture
def desk(numpy_desk, whole):
    return numpy_desk


@pytest.fixture(scope="module")
def keras_desk(make_desk):
    return make_desk(**KERAS)


def test_a_run_tells_how_far_it_is_and_what_it_reached(desk):
    run = desk.run_job(GOOD)
    assert run.monitored == "validation"
    desk.train(run)

    assert {report.run for report in desk.reports} == {run.run.key}
    # At each evaluation, and sooner where the machine is slow.
    assert {2, 4, 6} <= {r.iteration for r in desk.reported(Trained)}
    assert [r.iteration for r in desk.reported(Saved)] == [2, 4, 6, 6]
    result = desk.ended(run)
    assert result is desk.reports[-1]
    assert result.end is RunEnd.DONE
    assert {"validation_f1", "best_validation_f1", "test_f1"} <= set(result.metrics)
    assert 0 <= result.metrics["system/time_outside_step"] < 1
    loaded = desk.loaded(run)
    assert len(desk.work.losses(loaded)) == 6
    assert loaded.data.metrics["trainable_parameters"] == 129 * 2 + 3 * 2
    for name, value in result.metrics.items():
        assert loaded.data.metrics[name] == pytest.approx(value)
    assert StoredRun.from_mlflow(loaded).is_complete
    assert not checkpoint_path(run.run_id).exists()
    tags = loaded.data.tags
    assert tags["ecg_mlflow.pid"] == str(os.getpid())
    assert tags["ecg_mlflow.host"] == socket.gethostname()
    assert tags["ecg_mlflow.device"] == "cpu"
    assert 0 <= seconds_since(tags["ecg_mlflow.heartbeat"]) < 60
    assert ProcessMark.from_tags(tags) == ProcessMark.own()


def test_the_losses_of_a_seed_and_repetition_stay(make_desk):
    """Weights, order of records, windows and updates are those that they have always been."""
    desk = make_desk(
        grid=Option("layout", ["cna"]),
        model=ResNet,
        model_arguments={"blocks": [1], "filters": [4], "input_filters": 4},
        train=Pipeline().center_flip().random_split_signals(128, 2),
        optimizer=Optimizer("adam", learning_rate=1e-2),
        repetitions=3,
        seed=5,
    )
    run = desk.run_job(0, repetition=2)
    desk.train(run)
    expected = [1.3371651, 0.8532875, 0.9365615, 0.9294192, 0.6814356, 0.6409793]
    assert desk.work.losses(desk.loaded(run)) == pytest.approx(expected, rel=1e-4)


def test_the_best_evaluation_is_the_first_of_the_highest_and_what_the_run_ends_with(
    desk, monkeypatch
):
    """All records are right after iterations 1 and 3, all are wrong after iteration 5."""
    evaluate, right = TrainingRun.evaluate, iter([True, True, False])
    weights = {"validation": [], "test": []}

    def scripted(self, side):
        weights[side].append(self.step.weights())
        evaluation = evaluate(self, side)
        if side == "test":
            return evaluation
        truth = np.eye(2)[evaluation.targets]
        return replace(evaluation, probabilities=truth if next(right) else 1 - truth)

    monkeypatch.setattr(TrainingRun, "evaluate", scripted)
    run = desk.run_job(GOOD)
    desk.train(run)
    end = desk.ended(run)
    assert end.metrics["validation_f1"] == 0
    assert end.metrics["best_validation_f1"] == 1
    history = desk.history(run)
    assert history["validation_f1"] == [(1, 1), (3, 1), (5, 0)]
    assert dict(history["best_validation_f1"]) == {1: 1, 3: 1, 5: 1}
    path = desk.work.client.download_artifacts(run.run_id, TRACE)
    trace = RunTrace.from_bytes(Path(path).read_bytes())
    assert trace.metrics["best_validation_f1"].tolist() == [1, 1, 1]
    # The test records are scored with the last weights, then with the best.
    _, chosen = weights["test"]
    for found, first in zip(chosen, weights["validation"][0], strict=True):
        np.testing.assert_array_equal(found, first)
    models = {model.name: model for model in desk.models(run)}
    steps = {name: (m.key, m.value, m.step) for name, one in models.items() for m in one.metrics}
    assert steps == {"last": ("last_validation_f1", 0, 5), "best": ("best_validation_f1", 1, 1)}


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (Trained, {"iteration": 2}),
        (Saved, {"iteration": 2}),
        (Trained, {"iteration": 4}),
        (Saved, {"iteration": 4}),
        (Saved, {"iteration": 6}),
        (Ended, {"end": RunEnd.DONE}),
    ],
    ids=str,
)
def test_a_run_that_was_killed_anywhere_goes_on_exactly(desk, whole, kind, wanted):
    broken = desk.run_job(GOOD)
    desk.kill(broken, kind, **wanted)
    if kind is Ended:  # it has nothing left to do, as the driver finds out
        assert StoredRun.from_mlflow(desk.loaded(broken)).is_complete
    else:
        desk.train(broken)
        assert desk.ended(broken).end is RunEnd.DONE
    assert desk.history(broken) == desk.history(whole)
    assert sorted(model.name for model in desk.models(broken)) == ["best", "last"]


@pytest.mark.parametrize("moment", ["before it was delivered", "before it was told"])
def test_a_failure_is_told_after_a_death_without_another_training(desk, moment, monkeypatch):
    whole, run = desk.run_job(DIVERGES), desk.run_job(DIVERGES)
    desk.train(whole)
    told = desk.ended(whole)
    assert told.end is RunEnd.FAILED
    assert told.reason.startswith(f"{DivergedError.__module__}.{DivergedError.__name__}")
    assert "smaller learning rate" in told.reason
    assert "Traceback" in told.error
    assert desk.work.losses(desk.loaded(whole)), "those before are kept"
    if moment == "before it was told":
        desk.kill(run, Ended, end=RunEnd.FAILED)
    else:
        desk.kill_in(run, (TrainingRun, "_deliver_failure", _die))
        assert "loss" not in desk.history(run)
    monkeypatch.setattr(training_run, "make_step", _die)
    desk.train(run)
    assert desk.ended(run) == replace(told, run=run.run.key)
    assert desk.history(run) == desk.history(whole)


def _die(*args):
    raise Killed


def test_what_is_in_the_store_is_never_ahead_of_the_checkpoint(desk, monkeypatch):
    run = desk.run_job(GOOD)
    # Whatever may be delivered is, long before the next checkpoint.
    eager = partial(RunLog, interval_s=0.001)
    monkeypatch.setattr(training_run, "RunLog", eager)

    def report(data):
        time.sleep(0.1)
        if isinstance(data[jobs.REPORT], Ended):
            return
        stored = desk.history(run).get("loss", [])
        checkpoint = load_checkpoint(checkpoint_path(run.run_id))
        assert len(stored) <= (checkpoint.state["iteration"] if checkpoint else 0)
        desk.take(data)

    desk.train(run, report=report, save_every_s=-1.0)
    assert len(desk.reported(Saved)) >= 6


def test_a_run_whose_death_came_between_its_models_has_each_of_them_once(desk):
    run = desk.run_job(GOOD)
    original = conclusion.log_model

    def die_at_the_second(client, run_id, name, *args, **options):
        if name == "best":
            client.create_logged_model(desk.study.experiment_id, name=name, source_run_id=run_id)
            raise Killed
        return original(client, run_id, name, *args, **options)

    desk.kill_in(run, (conclusion, "log_model", die_at_the_second))
    desk.train(run)
    models = sorted((model.name, str(model.status)) for model in desk.models(run))
    assert models == [("best", "READY"), ("last", "READY")]


@pytest.mark.parametrize("evaluation", [1, 2], ids=["last weights", "best weights"])
def test_a_stop_in_the_conclusion_leaves_the_weights_as_they_are(desk, whole, evaluation):
    run = desk.run_job(GOOD)
    original, tests = TrainingRun.evaluate, itertools.count(1)

    def stop_in_the_middle(self, side):
        if side == "test" and next(tests) == evaluation:
            raise Paused
        return original(self, side)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "evaluate", stop_in_the_middle)
        desk.train(run)
    assert desk.reported(Ended) == []
    desk.train(run)
    for name in ("predictions/last.csv", "predictions/best.csv"):
        expected, found = (desk.work.text(desk.loaded(one), name) for one in (whole, run))
        assert found == expected


@pytest.mark.parametrize("harm", ["missing", "damaged", "another"])
def test_a_checkpoint_that_can_not_be_gone_on_from_is_lost(desk, harm):
    run = desk.run_job(GOOD)
    desk.kill(run, Trained, iteration=6)
    path = checkpoint_path(run.run_id)
    if harm == "missing":
        path.unlink()
    elif harm == "damaged":
        data = bytearray(path.read_bytes())
        # A block, as disks lose it: a single byte may be one that says nothing, such as a date.
        middle = len(data) // 2
        data[middle : middle + 512] = bytes(512)
        path.write_bytes(data)
    else:
        run = replace(run, run=replace(run.run, identity="0" * 64))
    before = desk.history(run)
    desk.train(run)
    assert desk.ended(run).end is RunEnd.LOST
    assert desk.history(run) == before


def full(*args):
    raise StorageError("no space left on the disk of there")


def test_a_full_disk_lets_the_run_go_on_without_checkpoints(desk, whole, monkeypatch):
    run = desk.run_job(GOOD)
    monkeypatch.setattr(training_run, "save_checkpoint", full)
    desk.train(run)
    assert desk.ended(run).end is RunEnd.DONE
    assert desk.history(run) == desk.history(whole)
    notes = [report.text for report in desk.reported(jobs.Noted)]
    assert notes == ["no checkpoint at iteration 2: no space left on the disk of there"]
    # A full cache is the machine's error, and not the run's.
    monkeypatch.setattr(main_module, "batch_sources", full)
    with pytest.raises(StorageError):
        desk.train(desk.run_job(GOOD))
    assert desk.reports == []


def test_an_old_checkpoint_does_not_outlive_what_it_does_not_cover(desk):
    run = desk.run_job(GOOD)
    original, calls = save_checkpoint, itertools.count()

    def full_after_the_first(path, checkpoint):
        (full if next(calls) else original)(path, checkpoint)

    desk.kill_in(
        run,
        (training_run, "save_checkpoint", full_after_the_first),
        (RunLog, "complete", _die),
    )
    stored = desk.history(run)
    assert len(stored["loss"]) == 6
    desk.train(run)
    assert desk.ended(run).end is RunEnd.LOST, "another child begins anew"
    assert desk.history(run) == stored


def test_other_versions_are_told(desk, monkeypatch):
    run = desk.run_job(GOOD)
    desk.kill(run, Saved, iteration=2)
    monkeypatch.setattr(training_run, "package_versions", lambda *_: {"keras": "9.9"})
    desk.train(run)
    (note,) = [report.text for report in desk.reported(jobs.Noted)]
    assert re.fullmatch(r"goes on under other versions, .*: keras [\d.]+ to 9.9", note)


def test_branches_equal_runs_alone_and_one_that_fails_leaves_the_others(keras_desk):
    indices = (GOOD, DIVERGES, GOOD_TOO)
    alone, together = ([keras_desk.run_job(i) for i in indices] for _ in range(2))
    for run in alone:
        keras_desk.train(run)
    keras_desk.kill(together[0], Saved, iteration=4)  # and goes on exactly
    keras_desk.train(*together)
    for one, other in zip(alone, together, strict=True):
        assert keras_desk.history(one) == keras_desk.history(other)
    ends = [keras_desk.ended(run).end for run in together]
    assert ends == [RunEnd.DONE, RunEnd.FAILED, RunEnd.DONE]


def test_two_processes_never_train_one_run(desk, monkeypatch):
    monkeypatch.setattr(training_run, "LOCK_S", 0.1)
    run = desk.run_job(GOOD)
    with locked(checkpoint_path(run.run_id)):
        desk.train(run)
    assert desk.ended(run).end is RunEnd.BUSY
    assert desk.history(run) == {}


def test_a_run_waits_for_a_store_that_is_away_and_loses_nothing(desk, whole):
    run = desk.run_job(GOOD)
    original = MlflowClient.log_batch
    failures = itertools.count()

    def sometimes_away(self, *args, **options):
        if next(failures) % 3 < 2:
            raise MlflowException("the database is away", TEMPORARILY_UNAVAILABLE)
        return original(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", sometimes_away)
        desk.train(run)
    assert desk.ended(run).end is RunEnd.DONE
    assert desk.history(run) == desk.history(whole)
    assert desk.reported(jobs.StoreAway)


def test_a_probe_counts_parameters_and_costs_or_says_why_not(keras_desk):
    def broken(input_shape, n_classes, learning_rate):
        raise ValueError("seven leads needed")

    good = keras_desk.plan.configs[GOOD]
    pairs = [(good.settings, (128, 1)), (replace(good.settings, builder=broken), (128, 1))]
    found = probe(cloudpickle.dumps(pairs), lambda data: None)
    assert found[0] == (good.network.parameters, good.network.multiply_adds)
    assert found[1].startswith("TypeError: ")


# --- Searches ------------------------------------------------------------------------------------


def test_evaluations_are_told_those_of_earlier_sessions_too(desk):
    run = desk.run_job(GOOD)
    desk.kill(run, Trained, iteration=6)
    assert [[i for i, _ in report.tests] for report in desk.reported(Evaluated)] == [[1], [3]]
    desk.train(run)
    told = [[i for i, _ in report.tests] for report in desk.reported(Evaluated)]
    assert told in ([[1, 3], [5]], [[1, 3, 5]])
    history = dict(desk.history(run)["validation_f1"])
    for report in desk.reported(Evaluated):
        for iteration, metrics in report.tests:
            assert metrics["validation_f1"] == history[iteration]


def test_a_run_that_is_given_up_delivers_its_losses_and_leaves_the_others(desk, monkeypatch):
    alone = desk.run_job(GOOD_TOO)
    desk.train(alone)
    lost, kept = desk.run_job(GOOD), desk.run_job(GOOD_TOO)
    letters = []

    def report(data):
        desk.take(data)
        if isinstance(data[jobs.REPORT], Evaluated) and data[jobs.REPORT].run == lost.run.key:
            letters.append({"prune": lost.run.key, "reason": "others are better"})

    def received():
        return [letters.pop()] if letters else []

    monkeypatch.setattr(main_module, "received", received)
    desk.train(lost, kept, report=report)
    assert desk.ended(lost) == Ended(lost.run.key, RunEnd.PRUNED, "others are better")
    history = desk.history(lost)
    assert [step for step, _ in history["loss"]] == [0, 1]
    assert [step for step, _ in history["validation_f1"]] == [1]
    assert not checkpoint_path(lost.run_id).exists()
    assert desk.ended(kept).end is RunEnd.DONE
    assert desk.history(kept) == desk.history(alone)


def reached(end):
    """Return the final scores among a run's metrics."""
    sides = ("best_", "test_", "validation_")
    return {name: value for name, value in end.metrics.items() if name.startswith(sides)}


def test_a_search_leaves_the_test_records_alone_until_its_end(desk):
    usual, held_back = desk.run_job(GOOD), replace(desk.run_job(GOOD), scores_test=False)
    desk.train(usual)
    expected = reached(desk.ended(usual))
    # A death between the last evaluation and the end, after which nothing is evaluated again.
    desk.kill(held_back, Saved, iteration=6)
    desk.train(held_back)
    assert 0 < desk.ended(held_back).metrics["system/ms_per_record"] < 1000
    metrics = reached(desk.ended(held_back))
    assert metrics == {k: v for k, v in expected.items() if not k.startswith("test_")}
    assert not [name for name in desk.history(held_back) if name.startswith("test_")]
    text = desk.work.text(desk.loaded(held_back), "predictions/validation_best.csv")
    places = desk.plan.parts.validation
    records = [line.split(",")[0] for line in text.splitlines()[1:]]
    assert records == [desk.plan.corpus.ids[row] for row in places]

    scored = desk.score(held_back)
    assert scored == {k: v for k, v in expected.items() if k.startswith("test_")}
    stored = desk.history(held_back)
    assert {name: stored[name] for name in scored} == {k: [(5, v)] for k, v in scored.items()}
    # The process that scored it may have died before it could say so.
    assert desk.score(held_back) == scored
    assert desk.history(held_back) == stored
    texts = {desk.work.text(desk.loaded(r), "predictions/best.csv") for r in (usual, held_back)}
    assert len(texts) == 1


def test_a_score_without_a_model_is_an_error_that_says_so(desk):
    run = desk.run_job(GOOD)
    with pytest.raises(TrackingError, match="has no model 'best'"):
        desk.score(run)
