"""How a study is to choose, read and checked before anything is trained."""

from __future__ import annotations

import pytest
from studies import small_plan

from ecg_mlflow import C, IntUniform, LogUniform, Optimizer, Option
from ecg_mlflow.errors import SearchError
from ecg_mlflow.search.pruners import SuccessiveHalving
from ecg_mlflow.study.search_config import SELECTS_BY_TEST

LAYOUTS = Option("layout", ["c", "ca"])
SEARCH = {
    "grid": LAYOUTS * Option("lr", LogUniform(1e-4, 1e-2)),
    "optimizer": Optimizer("adam", learning_rate=C("lr")),
}
TPE = {"sampler": "tpe", "trials": 4}


@pytest.fixture
def make_plan(corpus):
    """Plan a study of layouts, or a search among these and learning rates."""

    def make(request=None, split=(0.5, 0.25, 0.25), **changes):
        design = SEARCH if "sampler" in (request or {}) else {"grid": LAYOUTS}
        more = {"epochs": 9, "repetitions": 3, "split": split}
        return small_plan(corpus, request, **{**design, **more, **changes})

    return make


def test_a_grid_selects_nothing_unless_it_is_told_to(make_plan):
    plan = make_plan()
    assert not plan.search.selects
    assert not plan.holds_test_back
    assert make_plan({"pruner": "asha"}).search.selects
    assert make_plan({"adaptive": True}).search.selects
    assert make_plan(TPE).holds_test_back


def test_validation_records_decide_where_there_are_any_and_a_note_says_where_there_are_none(
    make_plan,
):
    plan, by_test = make_plan(TPE), make_plan(TPE, 0.7)
    assert plan.search.first.metric == "validation_f1"
    assert by_test.search.first.metric == "test_f1"
    assert not by_test.holds_test_back
    assert SELECTS_BY_TEST in by_test.notes
    assert SELECTS_BY_TEST not in (*plan.notes, *make_plan(split=0.7).notes)


def test_everything_is_read(make_plan):
    given = {"sampler": "random", "trials": 7, "finalists": 2, "adaptive": True}
    objective = {"objective": "validation_log_loss", "direction": "minimize"}
    request = given | objective | {"search_seed": 5, "pruner": "asha:eta=2"}
    search = make_plan(request).search
    assert {name: getattr(search, name) for name in given} == given
    assert search.seed == 5
    assert make_plan(TPE, seed=3).search.seed == 3
    assert search.pruner == SuccessiveHalving(eta=2)
    assert str(search) == (
        "sampler random, pruner asha:eta=2, repetitions for those in contention; "
        "minimize validation_log_loss"
    )


@pytest.mark.parametrize(
    "metric", ["validation_f1_A", "best_validation_f1", "loss", "trainable_parameters"]
)
def test_any_metric_that_runs_log_may_be_the_objective(make_plan, metric):
    assert make_plan({"objective": metric}).search.first.metric == metric


@pytest.mark.parametrize(
    ("changes", "request_", "says"),
    [
        ({}, {"objective": "test_f1"}, "choose by the test records.*say validation_f1"),
        ({}, {"objective": "validation_f2"}, "no metric of these runs; did you mean validation_f1"),
        ({}, {"objective": "validation_f1_B"}, "no metric of these runs"),
        ({}, {"objective": "loss", "pruner": "asha"}, "known at the end of a run only"),
        ({}, {"objective": "validation_f1,loss", "pruner": "asha"}, "2 objectives leave no order"),
        ({}, {"objective": "validation_f1,loss", "adaptive": True}, "2 objectives leave no order"),
        ({}, {"pruner": "asha:min_epochs=9"}, "nothing to judge configuration"),
        ({"test_every": "9 epochs"}, {"pruner": "asha"}, "='9 epochs'. Evaluate more often"),
        ({}, {"trials": 4}, "trials=4 is for samplers"),
        ({"repetitions": 1}, {"adaptive": True}, "there is 1 repetition: say reps=3"),
        ({}, {"sampler": "tpe"}, "trials=N"),
        ({}, {**TPE, "sampler": "tpi"}, "there is no sampler 'tpi'"),
        ({}, {"sampler": ""}, "there is no sampler ''"),
        ({}, {"pruner": ""}, "pruner='': there are"),
        ({}, {**TPE, "sampler": "bruteforce"}, "bruteforce is not for a search"),
    ],
)
def test_what_cannot_work_is_refused(make_plan, changes, request_, says):
    with pytest.raises(SearchError, match=says):
        make_plan(request_, **changes)


def test_the_examples_of_a_search_show_both_ends_of_a_range(make_plan):
    plan = make_plan(
        TPE,
        grid=Option("input_filters", IntUniform(2, 8)) * Option("layout", ["c", "ca", "cn"]),
        optimizer=Optimizer("adam"),
        model_arguments={"blocks": [1], "filters": [4]},
    )
    assert {one.config["input_filters"] for one in plan.configs} == {2, 8}
    assert {one.config["layout"] for one in plan.configs} == {"c", "ca", "cn"}


def test_a_sampler_without_a_number_of_trials_is_noted(make_plan):
    finite = {"grid": LAYOUTS, "optimizer": Optimizer("adam")}
    (note,) = [note for note in make_plan({"sampler": "tpe"}, **finite).notes if "trials" in note]
    assert note == "trials is not given: tpe goes on until all 2 configurations are tried"
    assert not [note for note in make_plan(TPE).notes if "trials" in note]
