"""The parent run of a study and the child runs under it."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl

import pandas as pd
import pytest
import requests

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.provenance import MACHINE_TAGS
from ecg_mlflow.tracking import runs, study_run
from ecg_mlflow.tracking.retry import RetryPolicy
from ecg_mlflow.tracking.runs import EndStatus, find_or_create_experiment
from ecg_mlflow.tracking.study_run import Study


def tags(client, run_id):
    return client.get_run(run_id).data.tags


def status(client, run_id):
    return client.get_run(run_id).info.status


def children(client, study):
    query = f"tags.`mlflow.parentRunId` = '{study.run_id}'"
    return client.search_runs([study.experiment_id], query)


def test_a_study_of_its_own(client, experiment):
    with Study.open(client, experiment, "af study", tags={"team": "ecg"}) as study:
        run = client.get_run(study.run_id)
        assert (run.info.run_name, run.info.status) == ("af study", "RUNNING")
        assert run.data.tags["team"] == "ecg"
        assert {"mlflow.user", "mlflow.source.name", "mlflow.source.type"} <= set(run.data.tags)
        assert find_or_create_experiment(client, experiment) == study.experiment_id
        found = client.get_experiment(study.experiment_id)
        assert found.tags["mlflow.experimentKind"] == "custom_model_development"
        with Study.open(client, experiment, "again") as second:
            assert second.experiment_id == study.experiment_id
            assert second.run_id != study.run_id
    assert status(client, study.run_id) == "FINISHED"


SOURCE = {
    "mlflow.source.git.commit": "c0ffee",
    "mlflow.source.name": "git@example.org:me/ecg#sub",
    "mlflow.project.entryPoint": "main",
    "mlflow.user": "someone",
}


@pytest.fixture
def project_run(client, experiment) -> str:
    """Make a run as ``mlflow run`` leaves it when it starts the command."""
    tags = {**SOURCE, "mlflow.source.type": "PROJECT"}
    run = client.create_run(client.create_experiment(experiment), tags=tags)
    return run.info.run_id


def test_goes_on_in_the_run_of_mlflow_run(client, project_run):
    client.set_terminated(project_run, "FAILED")
    more = {"run_id": project_run, "tags": {"team": "ecg"}}
    with Study.open(client, "not looked at", "af study", **more) as study:
        assert status(client, project_run) == "RUNNING"
        child = study.create_child("child", {})
    run = client.get_run(project_run)
    assert (run.info.run_name, run.info.status) == ("af study", "FINISHED")
    expected = {**SOURCE, "mlflow.source.type": "PROJECT", "team": "ecg"}
    assert expected.items() <= run.data.tags.items()
    assert client.get_experiment_by_name("not looked at") is None
    assert SOURCE.items() <= tags(client, child).items()
    client.update_run(project_run, name="my name")
    with Study.open(client, "", "af study", run_id=project_run):
        assert client.get_run(project_run).info.run_name == "my name"


def test_artifacts_lie_beside_the_database(client, study, tracking_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study.leaderboard([{"rank": 1}])
    folder = tracking_store.removeprefix("sqlite:///").removesuffix("mlflow.db")
    assert client.get_run(study.run_id).info.artifact_uri.startswith(f"file://{folder}mlruns/")
    assert not list(tmp_path.iterdir())


def test_what_is_not_there_or_was_deleted(client, experiment, project_run):
    experiment_id = client.create_experiment(f"{experiment} II")
    client.delete_experiment(experiment_id)
    with pytest.raises(TrackingError, match=f"restore --experiment-id {experiment_id}"):
        Study.open(client, f"{experiment} II", "study")
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI"):
        Study.open(client, "e", "s", run_id="0" * 32)
    client.delete_run(project_run)
    with pytest.raises(TrackingError, match=f"restore --run-id {project_run}"):
        Study.open(client, "e", "s", run_id=project_run)


def test_child(client, study):
    with pytest.raises(TrackingError, match=r"log the params of run .*a=b"):
        study.create_child("with a param that MLflow refuses", {"a=b": 1})
    assert [run.info.status for run in children(client, study)] == ["FAILED"]
    run_id = study.create_child("ResNet18 #0", {"model": "ResNet18", "repetition": 0}, {"a": "b"})
    run = client.get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("ResNet18 #0", "RUNNING")
    assert run.data.params == {"model": "ResNet18", "repetition": "0"}
    assert run.data.tags["mlflow.parentRunId"] == study.run_id
    assert run.data.tags["a"] == "b"
    assert run.data.tags["mlflow.source.name"] == tags(client, study.run_id)["mlflow.source.name"]
    study.finish_child(run_id, EndStatus.FAILED, "the loss is NaN at iteration 7")
    assert status(client, run_id) == "FAILED"
    with pytest.raises(ValueError, match="DONE"):
        study.finish_child(run_id, "DONE", "another reason")
    assert tags(client, run_id)["ecg_mlflow.reason"] == "the loss is NaN at iteration 7"


def test_a_resumed_child_runs_again_and_has_the_params_that_were_missing(client, study):
    child = study.create_child("child", {"config": 0})
    study.finish_child(child, "KILLED", "stopped")
    study.reopen_child(child, {"config": 2, "layout": "cna"})
    run = client.get_run(child)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"config": "0", "layout": "cna"}
    assert "ecg_mlflow.reason" not in run.data.tags


def test_the_machine_of_the_driver_is_not_said_to_be_its_childrens(client, experiment, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with Study.open(client, experiment, "s") as study:
        parent = tags(client, study.run_id)
        child = tags(client, study.create_child("c", {}))
    assert parent["ecg_mlflow.slurm_job_id"] == "4711"
    assert parent["ecg_mlflow.host"]
    assert "ecg_mlflow.device" not in parent, "it trains nothing itself"
    assert not MACHINE_TAGS & child.keys()
    assert child["ecg_mlflow.versions"] == parent["ecg_mlflow.versions"]


def test_a_child_is_created_once_where_the_store_s_answer_is_lost(client, experiment):
    class AnswerLost:
        """Creates the run, and says that the server did not answer."""

        lost = 0

        def __getattr__(self, name):
            return getattr(client, name)

        def create_run(self, *args, **options):
            client.create_run(*args, **options)
            self.lost += 1
            raise requests.ConnectionError("reset")

    flaky = AnswerLost()
    with Study.open(client, experiment, "study") as study:
        retrying = Study(flaky, client.get_run(study.run_id), {}, RetryPolicy())
        child = retrying.create_child("child", {})
        assert flaky.lost == 1
        assert [run.info.run_id for run in children(client, study)] == [child]


@pytest.mark.parametrize(
    ("error", "expected"),
    [(RuntimeError("boom"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(2), "KILLED")],
)
def test_leaving_by_an_exception_closes_everything(client, experiment, error, expected):
    study = Study.open(client, experiment, "s")
    done, left = study.create_child("done", {}), study.create_child("left", {})
    study.finish_child(done, EndStatus.FINISHED)
    with pytest.raises(type(error)), study:
        raise error
    assert type(error).__name__ in tags(client, study.run_id)["ecg_mlflow.reason"]
    ends = [status(client, run_id) for run_id in (study.run_id, done, left)]
    assert ends == [expected, "FINISHED", "KILLED"]


def test_one_run_that_cannot_be_ended_keeps_no_other_open_and_hides_no_error(
    client, experiment, monkeypatch
):
    study = Study.open(client, experiment, "s")
    gone, stuck, left = (study.create_child(name, {}) for name in ("gone", "stuck", "left"))
    client.delete_run(gone)

    def end(client, run_id, *how):
        if run_id == stuck:
            raise TrackingError(f"run {stuck} is locked")
        runs.end_run(client, run_id, *how)

    monkeypatch.setattr(study_run, "end_run", end)
    with pytest.raises(ZeroDivisionError) as caught, study:
        _ = 1 / 0
    (note,) = caught.value.__notes__
    assert "1 run(s) could not be ended and still look RUNNING" in note
    assert stuck in note
    assert gone not in note, "nothing is left to be ended"
    assert [status(client, one) for one in (left, study.run_id)] == ["KILLED", "FAILED"]
    study.close()


def test_progress_is_live_and_its_steps_grow_in_a_continued_study(client, experiment, monkeypatch):
    study = Study.open(client, experiment, "s")
    began = client.get_run(study.run_id).info.start_time
    monkeypatch.setattr(study_run, "_now_ms", lambda: began + 5_000)
    study.progress({"runs_done": 1, "runs_failed": 0, "best": 0.7})
    monkeypatch.setattr(study_run, "_now_ms", lambda: began + 3_600_000)
    with Study.open(client, experiment, "s", run_id=study.run_id) as continued:
        continued.progress({"runs_done": 2})
    rows = client.get_metric_history(study.run_id, "runs_done")
    assert [(row.step, row.value) for row in rows] == [(5, 1.0), (3600, 2.0)]
    assert client.get_run(study.run_id).data.metrics["best"] == 0.7


def test_leaderboard_is_replaced_and_readable_as_csv_and_as_table(
    client, study, tracking_store, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_store)
    study.leaderboard([{"rank": 1, "model": "old", "f1": 0.1}])
    rows = [
        {"rank": 1, "model": "ResNet, small", "f1": 0.1 + 0.2, "f1_std": float("nan")},
        {"rank": 2, "model": "VGG", "f1": 0.5, "f1_std": 0.25},
    ]
    study.leaderboard(rows)
    csv = client.download_artifacts(study.run_id, "leaderboard.csv")
    pd.testing.assert_frame_equal(pd.read_csv(csv), pd.DataFrame(rows))
    table = client.load_table(study.experiment_id, "leaderboard.json", run_ids=[study.run_id])
    pd.testing.assert_frame_equal(table, pd.DataFrame(rows))
    assert json.loads(tags(client, study.run_id)["mlflow.loggedArtifacts"]) == [
        {"path": "leaderboard.json", "type": "table"}
    ]


def links(client, study):
    """Return the addresses of a description's links, and what stands below them."""
    head, _, text = tags(client, study.run_id)["mlflow.note.content"].partition("\n\n")
    return re.findall(r"\]\(([^ \'\"`()<>[\]]+)\)", head), text


def test_description_begins_with_the_links_and_is_cut_to_fit(client, study, experiment):
    ours = {study.create_child(f"c{i}", {}) for i in range(3)}
    study.describe("# Design\n26 configurations", "best_test_f1")
    (every, averages), text = links(client, study)
    assert text == "# Design\n26 configurations"
    page = f"#/experiments/{study.experiment_id}/runs?"
    ui = [("compareRunsMode", "CHART"), ("workflowType", "machine_learning")]
    query = parse_qsl(every.removeprefix(page), strict_parsing=True)
    assert query == [
        ("searchFilter", f"tags.mlflow.parentRunId = '{study.run_id}'"),
        ("orderByKey", "metrics.`best_test_f1`"),
        ("orderByAsc", "false"),
        *ui,
    ]
    assert parse_qsl(averages.removeprefix(page)) == [("viewStateShareKey", study.run_id), *ui]
    with Study.open(client, experiment, "other") as other:
        other.create_child("not ours", {})
        found = client.search_runs(
            [study.experiment_id], query[0][1], order_by=[f"{query[1][1]} DESC"]
        )
    assert {run.info.run_id for run in found} == ours
    study.describe("x" * 10_000, "loss", higher_is_better=False)
    assert len(tags(client, study.run_id)["mlflow.note.content"]) <= 8000
    (every, _), text = links(client, study)
    assert text.endswith("x ...")
    assert "orderByAsc=true" in every


@pytest.mark.parametrize(
    ("n_runs", "order"),
    [
        (100, ("metrics.`test_f1`", False)),
        # The best page of them would make averages of the best runs.
        (101, ("tags.`ecg_mlflow.configuration`", True)),
    ],
)
def test_the_view_that_averages_repetitions(client, study, n_runs, order):
    study.describe("", "test_f1", n_runs=n_runs)
    found = client.get_experiment(study.experiment_id).tags
    view = json.loads(found[f"mlflow.sharedViewState.{study.run_id}"])
    assert view["searchFilter"] == f"tags.mlflow.parentRunId = '{study.run_id}'"
    keys = view["groupBy"]["groupByKeys"]
    assert keys == [{"mode": "tag", "groupByData": "ecg_mlflow.configuration"}]
    assert (view["orderByKey"], view["orderByAsc"]) == order
