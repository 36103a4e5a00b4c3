from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from ecg_mlflow import KV, C, Optimizer, Option, Pipeline, Research, ResNet, load_corpus
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.search.pruners import make_pruner
from ecg_mlflow.study.descriptions import (
    Counts,
    configuration_name,
    dataset_infos,
    describe_state,
    full_configuration,
    run_name,
    run_params,
    study_params,
)
from ecg_mlflow.study.planning import plan_study
from ecg_mlflow.study.request import Overrides
from ecg_mlflow.study.search_config import SearchConfig
from ecg_mlflow.study.trials import SelectionRule

WAYS = [KV(Optimizer("sgd", learning_rate=0.5), "slow|steady"), KV(Optimizer("adam"), "fast")]


def make_plan(beats, **changes):
    design = {
        "grid": Option("optimizer", WAYS) * Option("layout", ["c"]),
        "model": ResNet,
        "model_arguments": {"blocks": [1], "filters": [4], "input_filters": 4},
        "train": Pipeline().random_split_signals(100, 2),
        "test": Pipeline().split_signals(100, 100),
        "classes": ["A", "N"],
        "optimizer": C("optimizer"),
        "repetitions": 2,
        "name": "waves",
    }
    research = Research(**{**design, **changes})
    return plan_study(research, load_corpus(str(beats)), Overrides())


@pytest.fixture
def plan(beats):
    return make_plan(beats)


def test_an_options_alias_is_its_param(plan):
    assert run_params(plan.runs[0])["optimizer"] == "slow|steady"
    assert run_params(plan.runs[1])["optimizer"] == "fast"


def test_params_tell_repetitions_apart_and_configurations(plan):
    params = [run_params(run) for run in plan.runs]
    assert [p["config"] for p in params] == [0, 1, 0, 1]
    assert [p["repetition"] for p in params] == [0, 0, 1, 1]
    assert len({p["weight_seed"] for p in params}) == 2
    assert params[0]["trainable_parameters"] == plan.configs[0].network.parameters


def test_repetitions_share_a_name(plan):
    names = [configuration_name(run) for run in plan.runs]
    assert names == ["00 ResNet slow|steady c", "01 ResNet fast c"] * 2


def test_long_params_are_cut_and_still_differ(beats):
    ways = ["c" * 400, "c" * 401]
    plan = make_plan(beats, grid=Option("layout", ways), optimizer=Optimizer())
    cut = [str(run_params(run)["layout"]) for run in plan.runs[:2]]
    assert cut[0] != cut[1]
    assert all(len(one) <= 100 and one.startswith("ccccc") for one in cut)
    assert full_configuration(plan.runs[0])["options"]["layout"] == ways[0]
    assert run_params(plan.runs[0])["epochs"] == plan.runs[0].config.settings.epochs


def test_what_a_model_takes_can_not_hide_what_a_run_is(beats):
    def net(input_shape, n_classes, layout, repetition=7):
        """Stand for a model with an argument that is named like a run's own param."""

    plan = make_plan(beats, model=net, model_arguments={"repetition": 9})
    assert run_params(plan.runs[0])["repetition"] == 0
    assert full_configuration(plan.runs[0])["model_arguments"]["repetition"] == "9"
    assert run_params(plan.runs[0])["trainable_parameters"] == "unknown"


def test_the_full_configuration_is_json(plan):
    made = json.loads(json.dumps(full_configuration(plan.runs[0])))
    assert made["test"] == ["split_signals(length=100, step=100)"]
    assert made["options"]["optimizer"] == "slow|steady"
    assert made["optimizer"] == "Optimizer('sgd', learning_rate=0.5)"


def test_names_fit_into_every_store(beats):
    plan = make_plan(beats, grid=Option("layout", ["c" * 400]), optimizer=Optimizer())
    assert len(run_name(plan.runs[0])) == 250


def test_the_studys_params(plan):
    params = study_params(plan, SearchConfig(), 4)
    assert params["study"] == "waves"
    assert (params["configurations"], params["repetitions"], params["runs"]) == (2, 2, 4)
    assert params["objective"] == "maximize test_f1"
    assert "sampler" not in params


def test_the_params_of_a_search_say_how_it_chooses(plan):
    rule = SelectionRule(pruner=make_pruner("asha"), adaptive=True)
    search = SearchConfig("tpe", 5, rule=rule)
    params = study_params(plan, search, 4)
    assert params["sampler"] == "tpe"
    assert str(params["pruner"]) == "asha:eta=3"
    assert params["adaptive_repetitions"] is True


def test_data_sets_are_described_by_side(plan, beats):
    infos = dataset_infos(plan.corpus, plan.configs[0])
    assert infos["test"].name == f"{beats.name} test"
    assert infos["test"].n_records == 4
    assert infos["train"].class_counts == {"A": 8, "N": 8}
    assert infos["train"].digest != infos["test"].digest
    # Also with studies of the first version of identities, by whose digests they are compared.
    rows, labels = np.arange(4), ("A", "N", "A", "N")
    assert infos["test"].digest == digest([plan.corpus.digest, rows, labels], version=1)
    again = dataset_infos(plan.corpus, plan.configs[1])
    assert again["train"].digest == infos["train"].digest


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("demo: 400 made-up records, seed 0", "demo test"),
        ("cinc2017: PhysioNet/CinC Challenge 2017", "cinc2017 test"),
        ("/data/of:mine/ecg", "ecg test"),
    ],
)
def test_data_sets_are_named_after_their_source(plan, source, name):
    corpus = plan.corpus
    corpus.provenance = replace(corpus.provenance, source=source)
    assert dataset_infos(corpus, plan.configs[0])["test"].name == name


def test_the_note_tells_state_and_best(plan):
    rows = [
        {"rank": 1, "optimizer": "slow|steady", "layout": "c", "runs": 2}
        | {"test_f1": 0.75, "test_f1_std": 0.01, "test_accuracy": 0.8},
        {"rank": 2, "layout": "c", "runs": 1, "test_f1": 0.5, "test_f1_std": math.nan},
    ]
    counts = Counts(4, finished=3, failed=1)
    lines = describe_state(plan, SearchConfig(), rows, counts).splitlines()
    assert lines[:3] == [
        "3 of 4 runs finished, 1 failed.",
        r"Best so far: test_f1 0.7500 of optimizer slow\|steady, layout c (mean of 2 runs).",
        "",
    ]
    assert lines[3].startswith("**waves**: 2 configurations x 2 repetitions on ")
    assert "16 train, 4 test records" in lines[3]
    assert "F1 is of 'A' against the rest" in lines[3]
    assert lines[-2:] == [
        r"| 1 | optimizer slow\|steady, layout c | 2 | 0.7500 | 0.0100 |",
        "| 2 | layout c | 1 | 0.5000 | - |",
    ]
