from __future__ import annotations

import pytest

from ecg_mlflow import C, Optimizer, Option, Pipeline, Research, ResNet, load_corpus
from ecg_mlflow.executors import Outcome, OutcomeState
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.study import model_costs as networks
from ecg_mlflow.study.model_costs import probe_networks
from ecg_mlflow.study.plan import Network
from ecg_mlflow.study.planning import plan_study
from ecg_mlflow.study.request import Overrides


def own_net(input_shape, n_classes, *, layout, width=4):
    """Stand for a model that can't describe itself; it is never built here."""


@pytest.fixture
def plan(beats):
    research = Research(
        grid=Option("layout", ["c", "cc"]) * Option("rate", [0.1, 0.2]),
        model=own_net,
        train=Pipeline().random_split_signals(64, 1),
        test=Pipeline().split_signals(64, 64),
        classes=["A", "N"],
        optimizer=Optimizer("sgd", learning_rate=C("rate")),
    )
    return plan_study(research, load_corpus(str(beats)), Overrides())


class Answering:
    """An executor that answers at once."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.asked = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, job):
        import cloudpickle

        self.asked = cloudpickle.loads(job.payload)

    def events(self, timeout):
        yield self.outcome


def answer(monkeypatch, outcome):
    executor = Answering(outcome)
    monkeypatch.setattr(networks, "make_executor", lambda *_: executor)
    return executor


def test_a_model_is_built_once_for_all_configurations_that_share_it(plan, monkeypatch):
    assert [one.network for one in plan.configs] == [None] * 4
    executor = answer(
        monkeypatch, Outcome("probe", OutcomeState.DONE, value=[(10, 100), (20, 200)])
    )
    complete = probe_networks(plan, UserCode())
    assert len(executor.asked) == 2
    sizes = {one.config["layout"]: one.network for one in complete.configs}
    assert sizes == {"c": Network(10, 100), "cc": Network(20, 200)}
    assert [run.config.network for run in complete.runs] == [
        sizes[run.config.config["layout"]] for run in complete.runs
    ]
    assert complete.digest == plan.digest


def test_every_configuration_whose_model_fails_is_named(plan, monkeypatch):
    answer(monkeypatch, Outcome("probe", OutcomeState.DONE, value=[(1, 1), "ValueError: no"]))
    with pytest.raises(networks.ResearchError) as error:
        probe_networks(plan, UserCode())
    assert str(error.value).count("ValueError: no") == 2
    assert "layout_cc-rate_0.1" in str(error.value)
    assert "layout_c-" not in str(error.value)


def test_only_the_models_that_can_not_describe_themselves_are_built(beats, monkeypatch):
    def other_net(input_shape, n_classes, *, layout, blocks, filters, input_filters):
        """Stand for a model beside a ResNet."""

    research = Research(
        grid=Option("model", [ResNet, other_net]) * Option("layout", ["c"]),
        model_arguments={"blocks": [1], "filters": [4], "input_filters": 4},
        train=Pipeline().random_split_signals(64, 1),
        test=Pipeline().split_signals(64, 64),
        classes=["A", "N"],
    )
    plan = plan_study(research, load_corpus(str(beats)), Overrides())
    executor = answer(monkeypatch, Outcome("probe", OutcomeState.DONE, value=[(10, 100)]))
    complete = probe_networks(plan, UserCode())
    assert [settings.builder.__name__ for settings, _ in executor.asked] == ["other_net"]
    assert complete.configs[0].network == plan.configs[0].network
    assert complete.configs[1].network == Network(10, 100)


def test_a_probe_that_dies_is_an_error(plan, monkeypatch):
    answer(monkeypatch, Outcome("probe", OutcomeState.DIED, error="killed by SIGKILL"))
    with pytest.raises(networks.ResearchError, match="killed by SIGKILL"):
        probe_networks(plan, UserCode())


def test_models_that_describe_themselves_are_not_built(beats, monkeypatch):
    monkeypatch.setattr(networks, "make_executor", lambda *_: pytest.fail("built"))
    research = Research(
        grid=Option("layout", ["c"]),
        model=ResNet,
        model_arguments={"blocks": [1], "filters": [4], "input_filters": 4},
        train=Pipeline().random_split_signals(64, 1),
        test=Pipeline().split_signals(64, 64),
        classes=["A", "N"],
    )
    plan = plan_study(research, load_corpus(str(beats)), Overrides())
    assert probe_networks(plan, UserCode()) is plan
