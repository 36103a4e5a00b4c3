"""A study's results as a DataFrame: of studies written by hand, and of one that was trained."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest

from ecg_mlflow import load_results
from ecg_mlflow.errors import ResultsError, TrackingError
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.stored_run import (
    CORPUS_TAG,
    IDENTITY_TAG,
    PLAN_TAG,
    PRUNED_TAG,
    REPLACED_TAG,
)
from ecg_mlflow.tracking.stored_study import REUSED
from ecg_mlflow.tracking.study_run import Study
from ecg_mlflow.tracking.trace import RunTrace, log_trace

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

N_ITERATIONS = 10
#: Configurations of the grid: layouts in an order that is not the alphabet's, numbers as text.
GRID = [
    {"layout": layout, "filters": filters}
    for layout in ("cnacna", "cna")
    for filters in ("8", "16")
]


def losses(run_id, n=N_ITERATIONS):
    """Make losses that only this run can have."""
    return np.random.default_rng(int(run_id[:8], 16)).random(n, np.float32)


class Writer:
    """Writes studies as drivers and workers leave them."""

    def __init__(self, client, experiment):
        self.client, self.experiment = client, experiment

    def study(self, name="curves", grid=GRID, repetitions=2, planned=True):
        tags = {PLAN_TAG: "p", CORPUS_TAG: self.experiment}
        study = Study.open(self.client, self.experiment, name, tags=tags)
        runs = [
            {
                "key": f"{config:02d}-r{repetition}",
                "identity": self.identity(options, repetition),
                "config": options,
                "repetition": repetition,
            }
            for repetition in range(repetitions)
            for config, options in enumerate(grid)
        ]
        plan = {"runs" if planned else "examples": runs}
        self.client.log_text(study.run_id, json.dumps(plan), "design/plan.json")
        return study

    @staticmethod
    def identity(options, repetition):
        return f"{json.dumps(options)} {repetition}"

    def run(self, study, options, repetition, status="FINISHED", *, trace=True, config=0, **tags):
        """Write a run with a test at iterations 4 and 9; without a trace its losses alone."""
        tags = {
            IDENTITY_TAG: self.identity(options, repetition),
            CORPUS_TAG: self.experiment,
            **tags,
        }
        run_id = study.create_child(f"{config:02d}-r{repetition}", options, tags)
        configuration = {"options": options, "config": config, "repetition": repetition}
        self.client.log_text(run_id, json.dumps(configuration), "configuration.json")
        values = losses(run_id)
        tests = [(i, {"test_f1": i / 10, "test_roc_auc": 0.1 + 0.2}) for i in (4, 9)]
        with RunLog(self.client, run_id) as log:
            if trace:
                log_trace(log, RunTrace.of([values], tests))
                log.metrics({"loss": float(values[-1])}, N_ITERATIONS - 1)
            else:
                log.add("loss", values, 0)
            log.metrics(tests[-1][1], 9)
            log.metrics({"trainable_parameters": 1234, "system/ms_per_record": 0.5}, 0)
        if status != "RUNNING":
            study.finish_child(run_id, status)
        time.sleep(0.002)  # their order is that of their beginnings
        return run_id


@pytest.fixture
def writer(tracking_store, experiment, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_store)
    return Writer(connect(tracking_store), experiment)


@pytest.fixture
def whole(writer):
    """Write a study of four configurations, two repetitions each; return its id and its runs'."""
    with writer.study() as study:
        runs = {
            (config, repetition): writer.run(study, options, repetition)
            for repetition in range(2)
            for config, options in enumerate(GRID)
        }
    return study.run_id, runs


def test_a_row_for_each_iteration_of_each_run(whole):
    study, runs = whole
    frame = load_results(study)
    assert list(frame.columns) == [
        *("layout", "filters", "config", "repetition", "run", "status", "iteration"),
        *("loss", "test_f1", "test_roc_auc"),
    ]
    assert frame["iteration"].tolist() == list(range(N_ITERATIONS)) * 8
    assert frame["config"].unique().tolist() == [0, 1, 2, 3]
    for (config, repetition), run_id in runs.items():
        own = frame[frame["run"] == run_id]
        found = own[["config", "repetition", "layout", "status"]].drop_duplicates().values.tolist()
        assert found == [[config, repetition, GRID[config]["layout"], "FINISHED"]]
        np.testing.assert_array_equal(own["loss"], losses(run_id))
        tested = own.dropna()[["iteration", "test_f1", "test_roc_auc"]].values.tolist()
        assert tested == [[4, 0.4, 0.1 + 0.2], [9, 0.9, 0.1 + 0.2]]
    assert frame.dtypes[["loss", "test_f1"]].tolist() == [np.float32, np.float64]
    # An array with a dimension for each option, in the grid's order.
    array = frame.set_index(["layout", "filters", "repetition", "iteration"]).to_xarray()
    assert dict(array.sizes) == {"layout": 2, "filters": 2, "repetition": 2, "iteration": 10}
    assert array["layout"].values.tolist() == ["cnacna", "cna"]
    one = array["loss"].sel(layout="cna", filters=16, repetition=1)
    np.testing.assert_array_equal(one, losses(runs[3, 1]))


def test_chosen_metrics_iterations_and_last_values(whole):
    study, runs = whole
    frame = load_results(study, metrics=["test_f1"])
    assert list(frame.columns)[-2:] == ["iteration", "test_f1"]
    assert frame[["iteration", "test_f1"]].values.tolist() == [[4, 0.4], [9, 0.9]] * 8
    machine = load_results(study, metrics="system/ms_per_record")
    assert machine["system/ms_per_record"].tolist() == [0.5] * 8

    frame = load_results(study, every=3)
    assert frame["iteration"].tolist() == [2, 4, 5, 8, 9] * 8
    own = frame[frame["run"] == runs[2, 1]]
    np.testing.assert_array_equal(own["loss"], losses(runs[2, 1])[[2, 4, 5, 8, 9]])
    assert own["test_f1"].isna().tolist() == [True, False, True, True, False]

    frame = load_results(study, final=True)
    assert "iteration" not in frame
    assert frame["run"].tolist() == [runs[c, r] for c in range(4) for r in range(2)]
    assert frame["loss"].tolist() == [losses(run_id)[-1] for run_id in frame["run"]]
    assert frame[["test_f1", "trainable_parameters"]].values.tolist() == [[0.9, 1234]] * 8


def test_runs_that_did_not_finish(writer):
    with writer.study(repetitions=1) as study:
        pruned = writer.run(study, GRID[0], 0, "KILLED", **{PRUNED_TAG: "worse"})
        writer.run(study, GRID[1], 0, "FAILED")  # of several the last one counts
        failed = writer.run(study, GRID[1], 0, "FAILED", trace=False)
        writer.run(study, GRID[2], 0, "KILLED", **{REPLACED_TAG: "x"})
        killed = writer.run(study, GRID[2], 0, "KILLED", trace=False)
        running = writer.run(study, GRID[3], 0, "RUNNING", trace=False)
        frame = load_results(study.run_id)
        last = load_results(study.run_id, final=True, status=["FAILED", "PRUNED"])
        none = load_results(study.run_id, status="FINISHED")
    states = dict(zip(frame["run"], frame["status"], strict=True))
    assert states == {pruned: "PRUNED", failed: "FAILED", killed: "KILLED", running: "RUNNING"}
    for run_id in states:
        np.testing.assert_array_equal(frame["loss"][frame["run"] == run_id], losses(run_id))
    assert last["status"].tolist() == ["PRUNED", "FAILED"]
    assert none.empty
    assert none["layout"].cat.categories.tolist() == ["cnacna", "cna"]


def test_runs_that_were_taken_over(writer):
    with writer.study("earlier", GRID[::-1], repetitions=1) as earlier:
        taken = writer.run(earlier, GRID[3], 0)
    with writer.study("later", repetitions=1) as later:
        writer.run(later, GRID[0], 0, "FAILED")  # begun again: the finished run counts
        own = writer.run(later, GRID[0], 0)
        reused = {writer.identity(GRID[3], 0): taken}
        writer.client.log_text(later.run_id, json.dumps(reused), REUSED)
    frame = load_results(later.run_id, final=True)
    assert frame["run"].tolist() == [own, taken]
    assert frame["config"].tolist() == [0, 3]
    assert frame["layout"].tolist() == ["cnacna", "cna"]


def test_a_sampled_studys_runs_say_what_they_are(writer):
    with writer.study("earlier", [], repetitions=0) as earlier:
        taken = writer.run(earlier, {"lr": "0.003", "layout": "cna"}, 0, config=0)
    with writer.study("search", [{"lr": "0.5", "layout": "x"}], planned=False) as study:
        first = writer.run(study, {"lr": "0.1", "layout": "cna"}, 0, config=0)
        second = writer.run(study, {"lr": "1e-05", "layout": "cnacna"}, 0, config=1)
        identity = writer.identity({"lr": "0.003", "layout": "cna"}, 0)
        writer.client.log_text(study.run_id, json.dumps({identity: taken}), REUSED)
    frame = load_results(study.run_id, final=True)
    assert frame["run"].tolist() == [first, second, taken]
    assert frame["config"].tolist() == [0, 1, 2]
    assert frame["lr"].tolist() == [0.1, 1e-5, 0.003]
    assert frame["lr"].cat.categories.tolist() == [1e-5, 0.003, 0.1]
    assert frame["layout"].cat.categories.tolist() == ["cna", "cnacna"]


def test_options_stand_in_the_grids_order_as_numbers_where_all_aliases_are(writer):
    expected = {
        ("10", "2"): [10, 2],
        ("1", "0.5"): [1.0, 0.5],
        ("two", "one"): ["two", "one"],
        ("1", "1.0"): ["1", "1.0"],
        ("1", "one"): ["1", "one"],
        ("nan", "1"): ["nan", "1"],
        ("[8, 16]", "[8]"): ["[8, 16]", "[8]"],
    }
    names = [*"gbdcefa"]
    grid = [{name: one[row] for name, one in zip(names, expected, strict=True)} for row in (0, 1)]
    with writer.study(grid=grid, repetitions=1) as study:
        for config in (1, 0):
            writer.run(study, grid[config], 0)
    frame = load_results(study.run_id, final=True)
    assert list(frame.columns[:8]) == [*names, "config"]
    assert frame["config"].tolist() == [0, 1]
    for name, values in zip(names, expected.values(), strict=True):
        assert frame[name].cat.categories.tolist() == frame[name].tolist() == values


def test_missing_options_and_those_named_like_other_columns(writer):
    grid = [{"model": "net", "width": "8", "loss": "focal", "run": "fast"}, {"model": "tree"}]
    with writer.study(grid=grid, repetitions=1) as study:
        run_id, _ = (writer.run(study, one, 0, config=i) for i, one in enumerate(grid))
    frame = load_results(study.run_id, final=True)
    assert frame["width"].isna().tolist() == [False, True]
    counts = frame.groupby(["model", "width"], dropna=False, observed=True).size()
    assert counts.tolist() == [1, 1]
    assert frame[["option_loss", "option_run", "run"]].iloc[0].tolist() == ["focal", "fast", run_id]


def test_a_study_without_runs_or_options_is_a_table(writer):
    with writer.study(grid=[{}], repetitions=1) as study:
        assert load_results(study.run_id).empty
        writer.run(study, {}, 0)
    assert load_results(study.run_id)["config"].tolist() == [0] * N_ITERATIONS


def test_what_is_not_there(writer):
    with writer.study(repetitions=1) as study:
        writer.run(study, GRID[0], 0)
    for options, message in (
        ({"metrics": ["f2"]}, r"'f2' is none of study curves \(.*test_f1, test_roc_auc"),
        ({"every": 0}, "every=0 is no number of iterations: give 1, 2, 3"),
        ({"every": 2.5}, "every=2.5 is no number"),
        ({"every": 5, "final": True}, "give one of them"),
        ({"status": "DONE"}, "'DONE' is none that a run has: FINISHED, PRUNED, RUNNING"),
    ):
        with pytest.raises(ResultsError, match=message):
            load_results(study.run_id, **options)
    with pytest.raises(TrackingError, match="there is no study 'nowhere'"):
        load_results("nowhere")


def test_the_traces_of_a_training_are_what_the_store_has(exhibit):
    with exhibit("compared") as work:
        parent, children = work.runs("good")
        frame = load_results(parent.info.run_id)
        assert frame["layout"].cat.categories.tolist() == ["cna", "cac"]
        for child in children:
            own = frame[frame["run"] == child.info.run_id].set_index("iteration")
            assert own["loss"].tolist() == work.losses(child)
            names = {one for one in child.data.metrics if not one.startswith(("system/", "train"))}
            assert names == set(own.columns[own.columns.get_loc("loss") :])
            assert "trace.npz" in work.artifacts(child)
            for name in names - {"loss"}:
                history = work.client.get_metric_history(child.info.run_id, name)
                expected = pd.Series({metric.step: metric.value for metric in history})
                found = own[name].dropna()
                assert found.to_dict() == expected.dropna().to_dict(), name
