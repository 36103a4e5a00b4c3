from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from stored_runs import stored_run
from studies import small_plan

from ecg_mlflow import KV, C, Optimizer, Option
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.search.pruners import make_pruner
from ecg_mlflow.study.descriptions import (
    Counts,
    configuration_name,
    dataset_infos,
    describe_state,
    describe_study,
    describe_unplanned,
    full_configuration,
    plan_table,
    run_name,
    run_params,
    study_params,
)
from ecg_mlflow.study.search_config import SearchConfig
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.study_run import CONFIGURATION_TAG, Study

WAYS = [KV(Optimizer("sgd", learning_rate=0.5), "slow|steady"), KV(Optimizer("adam"), "fast")]


def make_plan(beats, **changes):
    grid = Option("optimizer", WAYS) * Option("layout", ["c"])
    design = {"grid": grid, "optimizer": C("optimizer"), "repetitions": 2, "name": "waves"}
    return small_plan(beats, **{**design, **changes})


@pytest.fixture
def plan(beats):
    return make_plan(beats)


def test_params_tell_repetitions_apart_and_configurations(plan):
    params = [run_params(run) for run in plan.runs]
    assert [p["optimizer"] for p in params] == ["slow|steady", "fast"] * 2, "aliases"
    assert [p["config"] for p in params] == [0, 1, 0, 1]
    assert [p["repetition"] for p in params] == [0, 0, 1, 1]
    assert len({p["weight_seed"] for p in params}) == 2
    assert params[0]["trainable_parameters"] == plan.configs[0].network.parameters
    names = [configuration_name(run) for run in plan.runs]
    assert names == ["00 ResNet slow|steady c", "01 ResNet fast c"] * 2, "shared by repetitions"
    full = json.loads(json.dumps(full_configuration(plan.runs[0])))
    assert full["test"][1:] == ["split_signals(length=100, step=100)"]
    assert full["options"]["optimizer"] == "slow|steady"
    assert full["optimizer"] == "Optimizer('sgd', learning_rate=0.5)"


def test_params_that_mlflow_run_has_logged_stay(plan, tracking_store, experiment):
    client = connect(tracking_store)
    with Study.open(client, experiment, "study") as study:
        client.log_param(study.run_id, "repetitions", "'2'")
        describe_study(study, plan, UserCode(), 4)
    params = client.get_run(study.run_id).data.params
    assert (params["repetitions"], params["study"]) == ("'2'", "waves")


def test_long_params_are_cut_and_still_differ(beats):
    ways = ["c" * 400, "c" * 401]
    plan = make_plan(beats, grid=Option("layout", ways), optimizer=Optimizer())
    cut = [str(run_params(run)["layout"]) for run in plan.runs[:2]]
    assert cut[0] != cut[1]
    assert all(len(one) <= 100 and one.startswith("ccccc") for one in cut)
    assert full_configuration(plan.runs[0])["options"]["layout"] == ways[0]
    assert run_params(plan.runs[0])["epochs"] == plan.runs[0].config.settings.epochs
    assert len(run_name(plan.runs[0])) == 250, "names fit into every store"


def test_what_a_model_takes_can_not_hide_what_a_run_is(beats):
    def net(input_shape, n_classes, layout, repetition=7):
        """Stand for a model with an argument that is named like a run's own param."""

    plan = make_plan(beats, model=net, model_arguments={"repetition": 9})
    assert run_params(plan.runs[0])["repetition"] == 0
    assert full_configuration(plan.runs[0])["model_arguments"]["repetition"] == "9"
    assert run_params(plan.runs[0])["trainable_parameters"] == "unknown"


def test_the_studys_params_say_how_it_chooses(plan):
    params = study_params(plan, 4)
    assert params["study"] == "waves"
    assert (params["configurations"], params["repetitions"], params["runs"]) == (2, 2, 4)
    assert params["objective"] == "maximize test_f1"
    assert "sampler" not in params
    search = SearchConfig("tpe", 5, pruner=make_pruner("asha"), adaptive=True)
    params = study_params(replace(plan, search=search), 4)
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
    corpus = replace(plan.corpus, provenance=replace(plan.corpus.provenance, source=source))
    assert dataset_infos(corpus, plan.configs[0])["test"].name == name


def test_the_note_tells_state_and_best(plan):
    rows = [
        {"rank": 1, "optimizer": "slow|steady\n<b>", "layout": "c", "runs": 2}
        | {"test_f1": 0.75, "test_f1_std": 0.01, "test_accuracy": 0.8},
        {"rank": 2, "layout": "c", "runs": 1, "test_f1": 0.5, "test_f1_std": math.nan},
    ]
    counts = Counts(4, finished=3, failed=1)
    lines = describe_state(plan, rows, counts).splitlines()
    assert lines[:3] == [
        "3 of 4 runs finished, 1 failed.",
        r"Best so far: test_f1 0.7500 of optimizer slow\|steady &lt;b&gt;, layout c (mean of 2 "
        "runs).",
        "",
    ]
    assert lines[3].startswith("**waves**: 2 configurations x 2 repetitions on ")
    assert "16 train, 4 test records" in lines[3]
    assert "F1 is of 'A' against the rest" in lines[3]
    assert lines[-2:] == [
        r"| 1 | optimizer slow\|steady &lt;b&gt;, layout c | 2 | 0.7500 | 0.0100 |",
        "| 2 | layout c | 1 | 0.5000 | - |",
    ]


def test_the_note_tells_of_finished_runs_that_are_not_planned_any_more(plan):
    entries = [
        stored_run(f"{name} {value}", tags={CONFIGURATION_TAG: name}, metrics=metrics)
        for name, value, metrics in [
            ("00 layout c|a", 0, {"test_f1": 0.5}),
            ("00 layout c|a", 1, {"test_f1": 0.75}),
            ("01 layout b", 2, {}),
        ]
    ]
    said = (
        "No longer planned, but kept, and shown by compare and load_results: 00 layout c|a "
        "(test_f1 0.6250, runs: 2); 01 layout b (test_f1 -, runs: 1)."
    )
    assert describe_unplanned(entries, "test_f1") == said
    assert describe_unplanned([], "test_f1") == ""
    lines = describe_state(plan, [], Counts(4), unplanned=entries).splitlines()
    (line,) = (line for line in lines if line.startswith("No longer"))
    assert r"c\|a" in line
    assert line.replace("\\", "") == said


def table(plan, n_workers):
    return plan_table(plan, n_workers).splitlines()


def test_a_plan_has_one_line_per_configuration_and_a_sum(beats):
    plan = small_plan(beats, repetitions=3, name="waves")
    lines = table(plan, 2)
    header = "#  configuration  parameters  iterations  time of one run"
    assert lines[0].split() == header.split()
    assert lines[1].split()[:5] == ["0", "ResNet", "cna", "102", "1"]
    assert lines[2].split()[:5] == ["1", "ResNet", "cnacna", "158", "1"]
    assert "waves: 2 configurations x 3 repetitions = 6 runs" in lines[4]
    assert "records: 16 train, 4 test of 20" in lines[5]
    assert "with 2 CPU workers" in lines[6]
    # The time is shared by the workers.
    one, two, many = (int(table(plan, n)[-1].split()[2]) for n in (1, 2, 1000))
    assert one == pytest.approx(2 * two, abs=1)
    assert many == pytest.approx(max(one.seconds for one in plan.configs), abs=1)


@pytest.mark.parametrize(("trials", "n"), [(1, 1), (9, 2), (None, 2)])
def test_a_search_is_as_large_as_its_trials_or_its_grid(plan, trials, n):
    told = plan_table(replace(plan, search=SearchConfig("random", trials)), 1)
    expected = f"waves: {n} of 2 configurations (examples above) x 2 repetitions = {2 * n} runs"
    assert expected in told
