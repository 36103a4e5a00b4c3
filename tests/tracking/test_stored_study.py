"""What a study and its runs have left, read back by whoever resumes or compares it."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.provenance import HEARTBEAT_TAG, ProcessMark, living_process, seconds_since
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.tracking import stored_study
from ecg_mlflow.tracking.artifacts import parse_table, read_tables
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.dataset_inputs import DatasetInfo, log_datasets
from ecg_mlflow.tracking.recordings_source import RecordingsSource
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.stored_run import (
    ATTEMPT_TAG,
    CORPUS_TAG,
    DIED_TAG,
    IDENTITY_TAG,
    PLAN_TAG,
    PRUNED_TAG,
    REPLACED_TAG,
)
from ecg_mlflow.tracking.stored_study import REUSED, find_finished, read_children, read_study
from ecg_mlflow.tracking.study_run import Study

FLAGS = ("is_finished", "is_complete", "is_replaced", "has_died", "is_pruned")
SIDES = {
    side: DatasetInfo(
        "demo", key * 40, RecordingsSource("demo"), 2, {"A": 2}, (300.0,), ("I",), (9.0, 9.0, 9.0)
    )
    for side, key in (("train", "t"), ("test", "u"))
}


@pytest.fixture
def open_study(client, experiment):
    """Open studies of names of their own, whose plan is of these identities."""
    opened = []

    def open_one(name="", corpus="c", planned=()):
        name = name or f"study {len(opened)} of {experiment}"
        study = Study.open(client, experiment, name, tags={PLAN_TAG: "p", CORPUS_TAG: corpus})
        client.log_param(study.run_id, "study", f"{name} design")
        runs = [
            {"identity": one, "key": f"{i}-r0", "config": {"layout": one}, "repetition": 0}
            for i, one in enumerate(planned)
        ]
        client.log_text(study.run_id, json.dumps({"runs": runs}), "design/plan.json")
        opened.append(study)
        return study

    yield open_one
    for study in opened:
        study.close()


def train(study, identity, config=0, repetition=0, status="FINISHED", corpus="c", **tags):
    options = {"layout": ["cna", "cnacna"][config], "lr": "0.001"}
    tags = {IDENTITY_TAG: identity, CORPUS_TAG: corpus, **tags}
    params = {**options, "positive": "A", "config": config, "repetition": repetition}
    run_id = study.create_child(f"{config:02d}-r{repetition}", params, tags)
    text = {"identity": identity, "options": options, "config": config, "repetition": repetition}
    study.client.log_text(run_id, json.dumps(text), "configuration.json")
    if status is not None:
        study.finish_child(run_id, status)
    time.sleep(0.002)  # their order is that of their beginnings
    return run_id


@pytest.mark.parametrize(
    ("read", "doing"),
    [
        (lambda client: read_study(client, "mine"), "look for the study 'mine': .* MLFLOW_TRACK"),
        (lambda client: read_children(client, "0", "f00"), "read the runs of study f00: "),
        (lambda client: find_finished(client, "c"), "look for finished runs of earlier studies: "),
    ],
)
def test_a_store_that_fails_names_what_was_looked_for(client, monkeypatch, read, doing):
    def fail(*_, **options):
        raise MlflowException("database is locked")

    monkeypatch.setattr(MlflowClient, "search_runs", fail)
    with pytest.raises(TrackingError, match=f"MLflow could not {doing}"):
        read(client)


def finished(client, study):
    return [child.run_id for child in read_study(client, study.run_id).finished]


def test_children_are_read_with_all_that_matters(client, study, monkeypatch):
    monkeypatch.setattr(stored_study, "_PAGE", 2)
    more = {DIED_TAG: 3, REPLACED_TAG: "x", "ecg_mlflow.complete": "true"}
    plain = study.create_child("1", {}, {IDENTITY_TAG: "a", ATTEMPT_TAG: 3})
    study.create_child("2", {}, {IDENTITY_TAG: "b", **more})
    study.create_child("3", {}, {IDENTITY_TAG: "c", PRUNED_TAG: "worse"})
    study.create_child("no identity", {})
    client.log_metric(plain, "test_f1", 0.5)
    study.finish_child(plain, "FINISHED")
    found = read_children(client, study.experiment_id, study.run_id)
    assert (found[0].run_id, found[0].study_id) == (plain, study.run_id)
    assert found[0].metrics == {"test_f1": 0.5}
    assert found[0].ended_ms == client.get_run(plain).info.end_time
    assert [(one.identity, one.shown_status, one.attempt) for one in found] == [
        ("a", "FINISHED", 3),
        ("b", "FINISHED", 1),
        ("c", "PRUNED", 1),
    ]
    assert [[flag for flag in FLAGS if getattr(one, flag)] for one in found] == [
        ["is_finished"],
        ["is_finished", "is_complete", "is_replaced", "has_died"],
        ["is_pruned"],
    ]


def test_finished_runs_are_found_by_corpus_in_all_experiments(client, experiment, study):
    corpus = experiment  # a name of its own
    first = train(study, "a", corpus=corpus)
    train(study, "b", status="FAILED", corpus=corpus)
    train(study, "c", corpus="another corpus")
    with Study.open(client, f"{experiment} II", "study II") as second:
        train(second, "a", corpus=corpus)
        other = train(second, "d", corpus=corpus)
    found = find_finished(client, corpus)
    assert {identity: entry.run_id for identity, entry in found.items()} == {"a": first, "d": other}


def test_a_study_says_whose_it_is_while_it_is_open(client, study):
    tags = client.get_run(study.run_id).data.tags
    assert living_process(tags) == ProcessMark.own()
    dead = replace(ProcessMark.own(), pid=2**22 + 1, birth="1").tags()
    assert living_process({**tags, **dead}) is None
    assert seconds_since(tags[HEARTBEAT_TAG]) < 60
    study.close()
    assert client.get_run(study.run_id).data.tags[HEARTBEAT_TAG] == "ended"


def test_a_study_and_its_finished_runs(client, open_study, tmp_path):
    study = open_study()
    second = train(study, "b", config=1, repetition=1)
    first = train(study, "a", config=1)
    zeroth = train(study, "z", config=0)
    train(study, "failed", status="FAILED")
    train(study, "open", status=None)
    client.log_metric(first, "test_f1", 0.5)
    client.log_metric(first, "test_f1", 0.75, step=1)
    log_datasets(client, first, SIDES)
    study.tag_child(study.run_id, {"ecg_mlflow.request": json.dumps({"data": "demo"})})
    client.log_text(study.run_id, "WIDTH = 3", "design/nets/deep/helper.py")
    found = read_study(client, study.run_id)
    assert (found.run_id, found.experiment_id) == (study.run_id, study.experiment_id)
    assert found.params["study"] == f"{found.name} design"
    assert (found.tags[CORPUS_TAG], found.status, found.plan) == ("c", "RUNNING", {"runs": []})
    assert found.request == {"data": "demo"}
    assert found.code == {"nets/deep/helper.py": b"WIDTH = 3"}
    digest = "ac403d1d"
    assert found.code_hashes["nets/deep/helper.py"].startswith(digest)
    assert [child.run_id for child in found.finished] == [zeroth, first, second]
    child = found.finished[1]
    assert (child.config, child.repetition, child.identity, child.name) == (1, 0, "a", "01-r0")
    assert child.options == {"layout": "cnacna", "lr": "0.001"}
    assert child.params["positive"] == "A"
    assert child.metrics == {"test_f1": 0.75}
    assert child.datasets == {"train": "t" * 36, "test": "u" * 36}
    assert child.study_id == study.run_id


def test_which_of_the_runs_of_one_identity_count(client, open_study):
    study = open_study()
    train(study, "a", status="FAILED", **{REPLACED_TAG: "x"})
    first = train(study, "a")
    train(study, "a")
    complete = train(study, "b", config=1, status=None)  # nobody has closed it
    with RunLog(client, complete) as log:
        log.complete()
    without_configuration = study.create_child(
        "old", {"config": 3, "repetition": 2}, {IDENTITY_TAG: "c"}
    )
    study.finish_child(without_configuration, "FINISHED")
    assert finished(client, study) == [first, complete, without_configuration]
    child = read_study(client, study.run_id).finished[2]
    assert (child.options, child.config, child.repetition, child.datasets) == ({}, 3, 2, {})


@pytest.fixture
def earlier(open_study, experiment):
    """A finished run of another study, on a corpus of its own."""
    corpus = f"corpus of {experiment}"
    return train(open_study(corpus=corpus), "e", config=1, corpus=corpus), corpus


def test_a_run_of_another_study_counts_only_where_this_study_has_taken_it_over(
    client, open_study, earlier
):
    run_id, corpus = earlier
    study = open_study(corpus=corpus, planned=["own", "e", "never trained"])
    own = train(study, "own", corpus=corpus)
    assert finished(client, study) == [own], "the like is no part of it"
    client.log_text(study.run_id, json.dumps({"e": run_id}), REUSED)
    assert finished(client, study) == [own, run_id]
    taken_over = read_study(client, study.run_id).finished[1]
    assert taken_over.study_id != study.run_id
    assert (taken_over.config, taken_over.options) == (1, {"layout": "e"}), "by this study's plan"
    assert taken_over.configuration["identity"] == "e", "and the rest as it was logged"


@pytest.mark.parametrize("what", ["another", "unfinished", "deleted", "removed"])
def test_what_was_taken_over_and_is_not_there_any_more_does_not_count(
    client, open_study, earlier, what
):
    run_id, corpus = earlier
    study = open_study(corpus=corpus)
    own = train(study, "own", corpus=corpus)
    client.log_text(study.run_id, json.dumps({"e": run_id}), REUSED)
    if what == "another":
        client.log_text(study.run_id, json.dumps({"other": run_id}), REUSED)
    elif what == "unfinished":
        client.update_run(run_id, status="KILLED")
    elif what == "deleted":
        client.delete_run(run_id)
    else:
        client.log_text(study.run_id, json.dumps({"e": "f" * 32}), REUSED)
    assert finished(client, study) == [own]
    assert read_study(client, study.run_id).n_lost == 1


def test_what_a_study_says_that_it_has_taken_over_counts(client, open_study, earlier):
    run_id, corpus = earlier
    study = open_study(corpus=corpus)  # a sampler's choice stands in no plan
    client.log_text(study.run_id, json.dumps({"e": run_id}), REUSED)
    assert finished(client, study) == [run_id]
    # The other study counts its configurations differently.
    assert read_study(client, study.run_id).finished[0].config == 0
    own = train(study, "e", corpus=corpus)
    assert finished(client, study) == [own]
    client.log_text(study.run_id, "{}", REUSED)
    assert finished(client, study) == [own]


def test_a_study_by_every_name_that_it_has(client, open_study, experiment):
    run_id = open_study(experiment).run_id
    for given in (run_id, run_id[:6], run_id[:12], experiment, f"{experiment} design"):
        assert read_study(client, given).run_id == run_id
    ids = sorted([run_id, open_study(experiment).run_id])
    with pytest.raises(TrackingError, match=f"2 studies are called '{experiment}'") as raised:
        read_study(client, experiment)
    assert all(one in str(raised.value) for one in ids)


@pytest.mark.parametrize("given", ["abc", "%"])
def test_an_unknown_study_lists_those_that_there_are(client, open_study, experiment, given):
    run_id = open_study(experiment).run_id
    listed = rf"no study {given!r}(.|\n)* {run_id}  .* UTC  RUNNING   {experiment}"
    with pytest.raises(TrackingError, match=listed):
        read_study(client, given)


def test_a_store_without_studies_and_a_study_without_a_plan(client, open_study, tmp_path):
    with pytest.raises(TrackingError, match="There are:\n  none"):
        read_study(connect(f"sqlite:///{tmp_path / 'mlflow.db'}"), "resnet")
    study = open_study()
    Path(uri_of(client, study.run_id).removeprefix("file://"), "design", "plan.json").unlink()
    with pytest.raises(TrackingError, match=r"has no design/plan\.json"):
        _ = read_study(client, study.run_id).plan


def uri_of(client, run_id):
    return client.get_run(run_id).info.artifact_uri


def test_predictions_are_read_as_they_were_written_and_no_file_stays(
    client, study, tmp_path, monkeypatch
):
    with_both, with_none = (study.create_child(name, {}) for name in "ab")
    p = np.array([0.1 + 0.2, 1e-12])
    columns = {"record": ["001", "2"], "label": ["A", "NA"], "windows": [3, 4], "p_A": p}
    with RunLog(client, with_both) as log:
        log.table("predictions/best.csv", {**columns, "p_NA": 1 - p})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    places = uri_of(client, with_both), uri_of(client, with_none)
    keys = [(place, path) for place in places for path in ("predictions/best.csv", "predictions")]
    tables = read_tables(client, keys * 2)
    assert [tables[key] is not None for key in keys] == [True, False, False, False]
    table = tables[keys[0]]
    assert (table["record"], table["label"]) == (["001", "2"], ["A", "NA"])
    assert table["windows"].tolist() == [3.0, 4.0]
    assert table["p_A"].tolist() == p.tolist(), "to the last bit"
    assert Predictions.from_columns(table, "A").targets.tolist() == [0, 1]
    assert not list(tmp_path.iterdir())


def test_columns_of_a_table():
    table = parse_table(b'record,patient,sex,p_A\n1,2,f,0.5\n"a,""b""",,m,nan\n', "a table")
    assert table["record"] == ["1", 'a,"b"']
    assert table["patient"] == ["2", ""]
    assert table["sex"] == ["f", "m"]
    assert np.isnan(table["p_A"]).tolist() == [False, True]
    assert parse_table(b"record,p_A\n", "a table")["record"] == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone.py", "has no design/gone.py any more"),
        ("../secret.py", r"names '\.\./secret\.py' as a file of the study's code, which is no"),
        ("/etc/secret.py", "'/etc/secret.py' as a file"),
        ("nets/../../secret.py", "as a file"),
        ("nets/.hidden/secret.py", "as a file"),
        ("secret.txt", "as a file"),
        ("nets\\..\\secret.py", "as a file"),
    ],
)
def test_a_plan_that_was_changed_in_the_store_leads_to_no_other_file(client, open_study, name, why):
    study = open_study()
    client.log_text(study.run_id, json.dumps({"runs": [], "code": {name: ""}}), "design/plan.json")
    with pytest.raises(TrackingError, match=why):
        _ = read_study(client, study.run_id).code


def test_only_the_files_that_the_plan_lists_are_the_code(client, open_study):
    study = open_study()
    client.log_text(study.run_id, "ONE = 1", "design/grid.py")
    client.log_text(study.run_id, "", "design/added.py")
    plan = {"runs": [], "code": {"grid.py": "0" * 64}}
    client.log_text(study.run_id, json.dumps(plan), "design/plan.json")
    found = read_study(client, study.run_id)
    assert (found.code, found.code_hashes) == ({"grid.py": b"ONE = 1"}, plan["code"])
