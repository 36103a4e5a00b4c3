"""How a study is to choose, read and checked before anything is trained."""

from __future__ import annotations

import pytest

from ecg_mlflow import (
    C,
    IntUniform,
    LogUniform,
    Optimizer,
    Option,
    Pipeline,
    Research,
    ResNet,
    load_corpus,
)
from ecg_mlflow.errors import SearchError
from ecg_mlflow.search.pruners import SuccessiveHalving
from ecg_mlflow.study.planning import plan_study
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.search_config import SearchConfig, selection_warnings

VALIDATED = (0.5, 0.25, 0.25)


@pytest.fixture(scope="module")
def make_plan(beats):
    def make(split=VALIDATED, sampled=True, **changes):
        fields = {
            "grid": Option("layout", ["c", "ca"]) * Option("lr", LogUniform(1e-4, 1e-2)),
            "model": ResNet,
            "model_arguments": {"blocks": [1], "filters": [4], "input_filters": 4},
            "train": Pipeline().random_split_signals(100, 2),
            "test": Pipeline().split_signals(100, 100),
            "classes": ["A", "N"],
            "optimizer": Optimizer("adam", learning_rate=C("lr")),
            "epochs": 9,
            "repetitions": 3,
            **changes,
        }
        research = Research(**fields, split=split)
        return plan_study(research, load_corpus(str(beats)), StudyRequest(), sampled=sampled)

    return make


def checked(plan, **options):
    return SearchConfig(**options).checked(plan)


GRID = {"grid": Option("layout", ["c", "ca"]), "optimizer": Optimizer("adam")}


def test_a_grid_selects_nothing_unless_it_is_told_to(make_plan):
    plan = make_plan(**GRID, sampled=False)
    plain = checked(plan)
    assert plain == SearchConfig(rule=plain.rule)
    assert not plain.selects
    assert not plain.holds_test_back(plan)
    assert checked(plan, pruner="asha").selects
    assert checked(plan, adaptive=True).selects
    assert checked(make_plan(), sampler="tpe", trials=3).selects


def test_validation_records_decide_where_there_are_any(make_plan):
    assert checked(make_plan(), sampler="tpe", trials=3).rule.first.metric == ("validation_f1")
    plan = make_plan(0.7)
    search = checked(plan, sampler="tpe", trials=3)
    assert search.rule.first.metric == "test_f1"
    assert not search.holds_test_back(plan)


def test_a_study_that_selects_by_its_test_records_says_so(make_plan):
    (warning,) = selection_warnings(make_plan(0.7), SearchConfig("tpe"))
    assert "selects by its test records" in warning
    assert "split=Split((0.7, 0.1, 0.2)" in warning
    assert selection_warnings(make_plan(), SearchConfig("tpe")) == ()
    assert selection_warnings(make_plan(0.7, False, **GRID), SearchConfig()) == ()


def test_everything_is_read(make_plan):
    given = {"sampler": "random", "trials": 7, "finalists": 2, "search_seed": 5}
    rule = {"objective": "validation_log_loss", "direction": "minimize", "adaptive": True}
    search = checked(make_plan(), pruner="asha:eta=2", **rule, **given)
    assert {name: getattr(search, name) for name in given} == given
    assert search.rule.pruner == SuccessiveHalving(eta=2)
    assert search.rule.adaptive
    assert str(search) == (
        "sampler random, pruner asha:eta=2, repetitions for those in contention; "
        "minimize validation_log_loss"
    )


def test_any_metric_that_runs_log_may_be_the_objective(make_plan):
    plan = make_plan()
    for metric in ("validation_f1_A", "best_validation_f1", "loss", "trainable_parameters"):
        search = checked(plan, sampler="random", trials=2, objective=metric)
        assert search.rule.first.metric == metric


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({}, {"objective": "test_f1"}, "choose by the test records.*say validation_f1"),
        ({}, {"objective": "validation_f2"}, "no metric of these runs; did you mean validation_f1"),
        ({}, {"objective": "validation_f1_B"}, "no metric of these runs"),
        ({}, {"objective": "loss", "pruner": "asha"}, "known at the end of a run only"),
        ({}, {"objective": "validation_f1,loss", "pruner": "asha"}, "2 objectives leave no order"),
        ({}, {"objective": "validation_f1,loss", "adaptive": True}, "2 objectives leave no order"),
        ({}, {"pruner": "asha:min_epochs=9"}, "nothing to judge configuration"),
        ({}, {"trials": None}, "trials=N"),
        ({}, {"sampler": "tpi"}, "there is no sampler 'tpi'"),
        ({}, {"sampler": "bruteforce"}, "bruteforce is not for a search"),
        (GRID | {"sampled": False}, {"sampler": "grid"}, "trials=4 is for samplers"),
        ({"repetitions": 1}, {"adaptive": True}, "there is 1 repetition: say reps=3"),
        (
            {"test_every": "9 epochs"},
            {"pruner": "asha"},
            r"test_every='9 epochs'\. Evaluate more often",
        ),
    ],
)
def test_what_cannot_work_is_refused(make_plan, changes, options, says):
    with pytest.raises(SearchError, match=says):
        checked(make_plan(**changes), **{"sampler": "tpe", "trials": 4, **options})


def test_the_examples_of_a_search_show_both_ends_of_a_range(make_plan):
    plan = make_plan(
        grid=Option("input_filters", IntUniform(2, 8)) * Option("layout", ["c", "ca", "cn"]),
        optimizer=Optimizer("adam"),
        model_arguments={"blocks": [1], "filters": [4]},
    )
    assert plan.sampled
    assert {one.config["input_filters"] for one in plan.configs} == {2, 8}
    assert {one.config["layout"] for one in plan.configs} == {"c", "ca", "cn"}
