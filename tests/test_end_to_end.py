"""Whole studies: what a user finds in MLflow afterwards, and that it is the same every time."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import mlflow
import numpy as np
import pytest
from gallery import SMALL
from studies import NETWORKS, numpy_grid

from ecg_mlflow import load_corpus
from ecg_mlflow.pipeline import BatchSource, WindowMaker, class_targets, prepare, select
from ecg_mlflow.study.grid_file import load_grid_file
from ecg_mlflow.tracking.client import connect

# Twenty records, the first four of them to test on; five in a batch.
ITERATIONS = 12
TEST_RECORDS = ["S01", "S02", "S03", "S04"]


@pytest.fixture(scope="module")
def studies(exhibit):
    """One study with one worker and, as another one, with two."""
    with exhibit("small") as work:
        work.corpus = load_corpus(str(work.records))
        yield work


@pytest.fixture(scope="module")
def parent(studies):
    return studies.runs("with 1")[0]


@pytest.fixture(scope="module")
def children(studies):
    return studies.runs("with 1")[1]


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_each_configuration_and_repetition_is_a_finished_child(parent, children):
    assert parent.info.status == "FINISHED"
    names = ["00-r0 ResNet cna", "00-r1 ResNet cna", "01-r0 ResNet cac", "01-r1 ResNet cac"]
    assert [run.info.run_name for run in children] == names
    assert {run.info.status for run in children} == {"FINISHED"}
    assert parent.info.run_name == "small"


def test_repetitions_are_outermost_and_the_longest_run_starts_first(children):
    by_start = sorted(children, key=lambda run: run.info.start_time)
    assert [run.info.run_name[:5] for run in by_start] == ["01-r0", "00-r0", "01-r1", "00-r1"]


def test_params_are_the_options_by_alias_and_what_the_grid_file_fixes(children):
    first, second = (run.data.params for run in (children[0], children[3]))
    assert first["weight_seed"] != second["weight_seed"]
    alike = {"model": "ResNet", "blocks": "[1]", "filters": "[4]", "batch_size": "5", "epochs": "3",
             "seed": "3", "optimizer": "Optimizer('adam', learning_rate=0.01)"}  # fmt: skip
    # 7*4 + 2*4 stem, 3*4*4 + 2*4 block, 2*(4+1) head; 36 stem, 2*3*4*4 block, 10 head
    apart = [
        {"layout": "cna", "repetition": "0", "config": "0", "trainable_parameters": "102"},
        {"layout": "cac", "repetition": "1", "config": "1", "trainable_parameters": "142"},
    ]
    for params, own in zip((first, second), apart, strict=True):
        assert alike | own == {name: params[name] for name in alike | own}
    assert [run.data.metrics["trainable_parameters"] for run in children] == [102, 102, 142, 142]


def test_the_loss_of_every_iteration_is_there(studies, children):
    losses = np.array([studies.losses(run) for run in children])
    assert losses.shape == (4, ITERATIONS)
    assert np.isfinite(losses).all()


def test_tests_come_at_the_end_of_every_epoch_and_the_best_f1_is_the_highest_so_far(
    studies, children
):
    for run in children:
        values = {}
        for name in ("test_f1", "test_accuracy", "test_roc_auc", "best_test_f1"):
            history = studies.client.get_metric_history(run.info.run_id, name)
            values[name] = {metric.step: metric.value for metric in history}
            assert sorted(values[name]) == [3, 7, 11], name
        best = np.maximum.accumulate([values["test_f1"][step] for step in (3, 7, 11)])
        assert [values["best_test_f1"][step] for step in (3, 7, 11)] == list(best)


@pytest.mark.parametrize("which", ["last", "best"])
def test_predictions_hold_every_test_record_once(studies, children, which):
    for run in children:
        rows = table(studies.text(run, f"predictions/{which}.csv"))
        assert [row["record"] for row in rows] == TEST_RECORDS
        assert [row["label"] for row in rows] == ["A", "N", "A", "N"]
        # 310 to 340 samples, windows of 128 every 64
        assert sorted(row["windows"] for row in rows) == ["3", "4", "4", "4"]
        for row in rows:
            p = {label: float(row[f"p_{label}"]) for label in "AN"}
            assert sum(p.values()) == pytest.approx(1)
            assert row["prediction"] == max(p, key=p.get)


def test_artifacts_of_a_run(studies, children):
    found = studies.artifacts(children[0])
    assert found >= {"plots/learning_curve.png", "plots/confusion_matrix.png"}
    configuration = json.loads(studies.text(children[0], "configuration.json"))
    assert configuration["iterations"] == ITERATIONS
    assert configuration["input_shape"] == [128, 1]
    assert configuration["train"][-1] == "random_split_signals(length=128, n=2)"
    steps = [one["name"] for one in configuration["test_pipeline"]]
    assert steps == ["center_flip", "split_signals"]
    assert configuration["identity"] == children[0].data.tags["ecg_mlflow.identity"]


def test_artifacts_of_the_study(studies, parent, children):
    names = studies.artifacts(parent)
    assert names >= {"design/small.py", "design/plan.json", "leaderboard.csv", "leaderboard.json"}
    assert "left_out.txt" not in names
    plan = json.loads(studies.text(parent, "design/plan.json"))
    assert plan["split"]["test"] == TEST_RECORDS
    assert len(plan["split"]["train"]) == 16
    assert [run["key"] for run in plan["runs"]] == ["00-r0", "01-r0", "00-r1", "01-r1"]
    identities = {run["key"]: run["identity"] for run in plan["runs"]}
    assert len(set(identities.values())) == 4
    for run in children:
        assert run.data.tags["ecg_mlflow.identity"] == identities[run.info.run_name[:5]]


def test_the_leaderboard_is_the_mean_over_repetitions(studies, parent, children):
    rows = {row["layout"]: row for row in table(studies.text(parent, "leaderboard.csv"))}
    for layout, row in rows.items():
        scores = [
            run.data.metrics["test_f1"] for run in children if run.data.params["layout"] == layout
        ]
        assert row["runs"] == "2"
        assert float(row["test_f1"]) == pytest.approx(np.mean(scores))
        assert float(row["test_f1_std"]) == pytest.approx(np.std(scores, ddof=1))
    ranked = sorted(rows.values(), key=lambda row: int(row["rank"]))
    assert float(ranked[0]["test_f1"]) >= float(ranked[1]["test_f1"])


def test_the_parent_carries_the_account_and_the_link(parent):
    metrics = parent.data.metrics
    assert (metrics["runs_done"], metrics["runs_failed"], metrics["runs_waiting"]) == (4, 0, 0)
    note = parent.data.tags["mlflow.note.content"]
    assert "4 of 4 runs finished." in note
    assert parent.info.run_id in note
    assert "compareRunsMode=CHART" in note
    assert parent.data.params["configurations"] == "2"
    assert parent.data.params["objective"] == "maximize test_f1"
    assert parent.data.params["split"] == "train 0.8, test 0.2; the first test"


def test_data_sets_are_linked(studies, children):
    for run in children:
        found = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
        assert set(found) == {"train", "test"}
        assert json.loads(found["test"].profile)["n_records"] == 4
    digests = {one.dataset.digest for run in children for one in run.inputs.dataset_inputs}
    assert len(digests) == 2, "all runs have the same two"


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
def test_models_predict_what_the_tables_say(studies, children, monkeypatch):
    run = children[1]
    research = load_grid_file(studies.write_grid(SMALL)).research
    settings = research.settings(research.grid.unique()[0][0])
    corpus = studies.corpus
    rows = [corpus.ids.index(name) for name in TEST_RECORDS]
    selection = select(corpus, settings.test, rows)
    prepared = prepare(corpus, settings.test, selection.rows)
    source = BatchSource(
        WindowMaker(settings.test, prepared, selection.rows, selection.labels, training=False),
        selection.rows,
        class_targets(selection.labels, settings.classes),
        batch_size=4,
    )
    (batch,) = source.epoch(0, 0, 0, shuffle=False)
    models = studies.client.search_logged_models([run.info.experiment_id])
    models = {m.name: m for m in models if m.source_run_id == run.info.run_id}
    assert set(models) == {"last", "best"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", studies.client.tracking_uri)
    for name, model in models.items():
        loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
        windows = np.split(loaded.predict(batch.windows), np.cumsum(batch.counts)[:-1])
        expected = table(studies.text(run, f"predictions/{name}.csv"))
        for probabilities, row in zip(windows, expected, strict=True):
            assert probabilities[:, 0].mean() == pytest.approx(float(row["p_A"]), abs=1e-5)


def test_one_and_two_workers_give_the_same_losses_bit_for_bit(studies, children):
    others = studies.runs("with 2")[1]
    histories = [studies.losses(run) for run in children]
    assert [studies.losses(run) for run in others] == [histories[0], histories[2]]
    assert len({tuple(losses) for losses in histories}) == 4, "and no two runs are alike"
    for name in ("test_f1", "test_log_loss"):
        values = [run.data.metrics[name] for run in others]
        assert values == [run.data.metrics[name] for run in children[::2]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "times", [1, pytest.param(20, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])]
)
def test_two_studies_that_begin_at_once_on_a_new_store_end_well(beats, tmp_path, times):
    for number in range(times):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = {
            **os.environ,
            "PYTHONPATH": str(NETWORKS),
            "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
        }
        (folder / "small.py").write_text(numpy_grid(grid="Option('hidden', [2])", epochs="1"))
        command = [*(sys.executable, "-m", "ecg_mlflow", "run", "small.py", "--workers", "1")]
        studies = [
            subprocess.Popen(
                [*command, "--data", str(beats), "--configs", "0"],
                cwd=folder,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        said = [study.communicate()[1] for study in studies]
        assert [study.returncode for study in studies] == [0, 0], said
        client = connect(f"sqlite:///{folder / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("small")
        runs = client.search_runs([experiment.experiment_id])
        assert [run.info.status for run in runs] == ["FINISHED"] * 4
