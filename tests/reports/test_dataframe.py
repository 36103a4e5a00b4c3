"""A study's results as a DataFrame: of studies that are made up, and of one that was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecg_mlflow import load_results
from ecg_mlflow.errors import ResultsError
from ecg_mlflow.reports import dataframe
from ecg_mlflow.tracking.stored_run import PRUNED_TAG, StoredRun
from ecg_mlflow.tracking.trace import RunTrace

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

#: Configurations of the grid: layouts in an order that is not the alphabet's, numbers as text.
GRID = [
    {"layout": layout, "filters": filters}
    for layout in ("cnacna", "cna")
    for filters in ("8", "16")
]


def losses(run_id):
    """Make ten losses that only this run can have."""
    return np.random.default_rng([*run_id.encode()]).random(10, np.float32)


def run(options, config=0, repetition=0, status="FINISHED", **tags):
    run_id = f"{config}-r{repetition}"
    found = {"loss": float(losses(run_id)[-1]), "test_f1": 0.9, "test_roc_auc": 0.1 + 0.2}
    found |= {"trainable_parameters": 1234, "system/ms_per_record": 0.5}
    configuration = {"options": options, "config": config, "repetition": repetition}
    return StoredRun(run_id, status, tags, metrics=found, configuration=configuration)


def trace_of(run, names):
    """The curves of a run that was tested after iterations 4 and 9."""
    tests = [(i, {"test_f1": i / 10, "test_roc_auc": 0.1 + 0.2}) for i in (4, 9)]
    trace = RunTrace.of([losses(run.run_id)] if "loss" in names else [], tests)
    return replace(trace, metrics={name: trace.metrics[name] for name in {*trace.metrics} & names})


@pytest.fixture
def load(monkeypatch):
    """Load the results of a study of these runs; their options are its grid, if it has one."""

    def load_one(runs, planned=(), **options):
        study = SimpleNamespace(name="curves", run_id="id", runs=runs, planned=planned)
        monkeypatch.setattr(dataframe, "connect", lambda uri: None)
        monkeypatch.setattr(dataframe, "read_study", lambda client, name: study)
        monkeypatch.setattr(
            dataframe,
            "read_traces",
            lambda client, chosen, names: [trace_of(one, {*names}) for one in chosen],
        )
        return load_results("curves", **options)

    return load_one


@pytest.fixture
def whole(load):
    """Load a study of four configurations, two repetitions each."""
    runs = [run(one, config, r) for config, one in enumerate(GRID) for r in range(2)]
    return lambda **options: load(runs, GRID, **options)


def test_a_row_for_each_iteration_of_each_run(whole):
    frame = whole()
    assert list(frame.columns) == [
        *("layout", "filters", "config", "repetition", "run", "status", "iteration"),
        *("loss", "test_f1", "test_roc_auc"),
    ]
    assert frame["iteration"].tolist() == list(range(10)) * 8
    for config, options in enumerate(GRID):
        own = frame[frame["run"] == f"{config}-r1"]
        found = own[["config", "repetition", "layout", "status"]].drop_duplicates().values.tolist()
        assert found == [[config, 1, options["layout"], "FINISHED"]]
        np.testing.assert_array_equal(own["loss"], losses(f"{config}-r1"))
        tested = own.dropna()[["iteration", "test_f1", "test_roc_auc"]].values.tolist()
        assert tested == [[4, 0.4, 0.1 + 0.2], [9, 0.9, 0.1 + 0.2]]
    assert frame.dtypes[["loss", "test_f1"]].tolist() == [np.float32, np.float64]
    # An array with a dimension for each option, in the grid's order.
    array = frame.set_index(["layout", "filters", "repetition", "iteration"]).to_xarray()
    assert dict(array.sizes) == {"layout": 2, "filters": 2, "repetition": 2, "iteration": 10}
    assert array["layout"].values.tolist() == ["cnacna", "cna"]
    one = array["loss"].sel(layout="cna", filters=16, repetition=1)
    np.testing.assert_array_equal(one, losses("3-r1"))


def test_chosen_metrics_iterations_and_last_values(whole):
    frame = whole(metrics="test_f1")
    assert list(frame.columns)[-2:] == ["iteration", "test_f1"]
    assert frame[["iteration", "test_f1"]].values.tolist() == [[4, 0.4], [9, 0.9]] * 8
    frame = whole(every=3)
    assert frame["iteration"].tolist() == [2, 4, 5, 8, 9] * 8
    own = frame[frame["run"] == "2-r1"]
    np.testing.assert_array_equal(own["loss"], losses("2-r1")[[2, 4, 5, 8, 9]])
    assert own["test_f1"].isna().tolist() == [True, False, True, True, False]
    frame = whole(final=True)
    assert "iteration" not in frame
    assert frame["run"].tolist() == [f"{config}-r{r}" for config in range(4) for r in range(2)]
    assert frame["loss"].tolist() == [losses(run_id)[-1] for run_id in frame["run"]]
    assert frame[["test_f1", "trainable_parameters"]].values.tolist() == [[0.9, 1234]] * 8


def test_runs_that_did_not_finish(load):
    states = ("PRUNED", "FAILED", "KILLED", "RUNNING")
    runs = [run(GRID[i], i, status=state) for i, state in enumerate(states)]
    runs[0] = run(GRID[0], status="KILLED", **{PRUNED_TAG: "worse"})
    frame = load(runs, GRID, final=True)
    assert frame["status"].tolist() == list(states)
    chosen = load(runs, GRID, status=["FAILED", "PRUNED"])
    assert chosen["status"].unique().tolist() == ["PRUNED", "FAILED"]
    none = load(runs, GRID, status="FINISHED")
    assert none.empty
    assert none["layout"].cat.categories.tolist() == ["cnacna", "cna"]


def test_numbers_that_a_sampler_has_chosen_stand_in_rising_order(load):
    rates = ("0.1", "1e-05", "0.003")
    frame = load(
        [run({"lr": rate, "layout": f"l{rate}"}, i) for i, rate in enumerate(rates)], final=True
    )
    assert frame["lr"].tolist() == [0.1, 1e-5, 0.003]
    assert frame["lr"].cat.categories.tolist() == [1e-5, 0.003, 0.1]
    assert frame["layout"].cat.categories.tolist() == ["l0.1", "l1e-05", "l0.003"]


def test_options_stand_in_the_grids_order_as_numbers_where_all_aliases_are(load):
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
    frame = load([run(grid[1], 1)], grid, final=True)
    assert list(frame.columns[:8]) == [*names, "config"]
    for name, values in zip(names, expected.values(), strict=True):
        assert frame[name].cat.categories.tolist() == values
        assert frame[name].tolist() == values[1:]


def test_missing_options_and_those_named_like_other_columns(load):
    grid = [{"model": "net", "width": "8", "loss": "focal", "run": "fast"}, {"model": "tree"}]
    frame = load([run(one, i) for i, one in enumerate(grid)], grid, final=True)
    assert frame["width"].isna().tolist() == [False, True]
    counts = frame.groupby(["model", "width"], dropna=False, observed=True).size()
    assert counts.tolist() == [1, 1]
    assert frame[["option_loss", "option_run", "run"]].iloc[0].tolist() == ["focal", "fast", "0-r0"]


def test_a_study_without_runs_or_options_is_a_table(load):
    assert load([], [{}]).empty
    assert load([run({})], [{}])["config"].tolist() == [0] * 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["f2"]}, r"'f2' is none of study curves \(.*test_f1, test_roc_auc"),
        ({"every": 0}, "every=0 is no number of iterations: give 1, 2, 3"),
        ({"every": 2.5}, "every=2.5 is no number"),
        ({"every": 5, "final": True}, "give one of them"),
        ({"status": "DONE"}, "'DONE' is none that a run has: FINISHED, PRUNED, RUNNING"),
    ],
)
def test_what_is_not_there(whole, options, message):
    with pytest.raises(ResultsError, match=message):
        whole(**options)


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
            trace = Path(work.client.download_artifacts(child.info.run_id, "trace.npz"))
            kept = {"validation_f1", "best_validation_f1", "last_validation_f1", "test_f1"}
            assert kept <= set(RunTrace.from_bytes(trace.read_bytes()).metrics)
            for name in names - {"loss"}:
                history = work.client.get_metric_history(child.info.run_id, name)
                expected = pd.Series({metric.step: metric.value for metric in history})
                found = own[name].dropna()
                assert found.to_dict() == expected.dropna().to_dict(), name
