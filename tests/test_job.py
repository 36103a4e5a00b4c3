"""One run, as a worker fills it, in this process."""

from __future__ import annotations

import cloudpickle
import pytest

from ecg_mlflow import C, Optimizer, Option, Pipeline, Research, ResNet, Split, load_corpus
from ecg_mlflow.descriptions import dataset_infos
from ecg_mlflow.errors import DivergedError
from ecg_mlflow.job import TrainJob, probe, train
from ecg_mlflow.planning import Overrides, plan_study
from ecg_mlflow.tracking import Study

# Of NumPy 2, in Keras's way of saving a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RESEARCH = {
    "grid": Option("learning_rate", [1e-2, 1e30]),
    "model": ResNet,
    "model_arguments": {"blocks": [1], "filters": [2], "input_filters": 2, "layout": "c"},
    "train": Pipeline().random_split_signals(128, 2),
    "test": Pipeline().split_signals(128, 64),
    "classes": ["A", "N"],
    "batch_size": 5,
    "epochs": 3,
    "optimizer": Optimizer("sgd", learning_rate=C("learning_rate")),
    "split": Split((0.5, 0.2, 0.3)),
}
GOOD, DIVERGES = 0, 1


@pytest.fixture(scope="module")
def plan(shared_workplace):
    with shared_workplace() as work:
        yield plan_study(Research(**RESEARCH), load_corpus(str(work.records)), Overrides())


@pytest.fixture
def make_job(plan, workplace, experiment):
    with Study.open(workplace.client, experiment, "the study") as study:

        def make(index):
            config = plan.configs[index]
            return TrainJob(
                study.create_child("a run", {}),
                workplace.client.tracking_uri,
                plan.corpus.path,
                config.settings,
                config.data.sides,
                config.data.input_shape,
                0,
                config.n_iterations,
                config.tests,
                dataset_infos(plan.corpus, config),
            )

        yield make


def test_a_run_tells_how_far_it_is_and_what_it_reached(make_job, workplace):
    reports = []
    job = make_job(GOOD)
    assert job.monitored == "validation"
    result = train(cloudpickle.dumps(job), reports.append)

    assert [report["iteration"] for report in reports] == [2, 2, 4, 4, 6, 6]
    assert "loss" in reports[0]
    assert "best_validation_f1" in reports[-1]
    assert result["monitored"] == "validation"
    assert {"validation_f1", "best_validation_f1", "test_f1"} <= set(result["metrics"])
    assert set(result["models"]) == {"last", "best"}
    assert 0 <= result["speed"]["system/time_outside_step"] < 1
    run = workplace.client.get_run(job.run_id)
    assert len(workplace.losses(run)) == 6
    assert run.data.metrics["trainable_parameters"] == 7 * 2 + 2 * 2 + 3 * 2 * 2 + 2 * 3
    for name, value in {**result["metrics"], **result["speed"]}.items():
        assert run.data.metrics[name] == pytest.approx(value)


def test_a_diverged_loss_ends_the_run_after_its_losses_are_kept(make_job, workplace):
    job = make_job(DIVERGES)
    with pytest.raises(DivergedError, match="smaller learning rate"):
        train(cloudpickle.dumps(job), lambda data: None)
    assert workplace.losses(workplace.client.get_run(job.run_id))


def test_a_report_that_raises_ends_the_run_after_its_losses_are_kept(make_job, workplace):
    def stop(data):
        raise KeyboardInterrupt

    job = make_job(GOOD)
    with pytest.raises(KeyboardInterrupt):
        train(cloudpickle.dumps(job), stop)
    assert len(workplace.losses(workplace.client.get_run(job.run_id))) == 2


def test_a_probe_counts_parameters_and_costs_or_says_why_not(plan):
    def broken(input_shape, n_classes, learning_rate):
        raise ValueError("seven leads needed")

    good = plan.configs[GOOD]
    bad = Research(**{**RESEARCH, "model": broken, "model_arguments": {}, "optimizer": Optimizer()})
    pairs = [(good.settings, (128, 1)), (bad.settings(bad.grid[0]), (128, 1))]
    found = probe(cloudpickle.dumps(pairs), lambda data: None)
    assert found == [
        (good.network.parameters, good.network.multiply_adds),
        "ValueError: seven leads needed",
    ]
