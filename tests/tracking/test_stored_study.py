"""What a study has left, read back by whoever wants to compare it."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.tracking.artifacts import parse_table, read_artifacts, read_tables
from ecg_mlflow.tracking.dataset_inputs import DatasetInfo, log_datasets
from ecg_mlflow.tracking.recordings_source import RecordingsSource
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.stored_run import CORPUS_TAG, IDENTITY_TAG, PLAN_TAG, REPLACED_TAG
from ecg_mlflow.tracking.stored_study import REUSED, read_study
from ecg_mlflow.tracking.study_run import Study

COLUMNS = {
    "record": ["001", "002"],
    "label": ["A", "NA"],
    "windows": [3, 4],
    "p_A": np.array([0.1 + 0.2, 1e-12]),
    "p_NA": np.array([0.7, 1.0]),
}


def unique(word):
    return f"{word} {uuid.uuid4().hex[:8]}"


@pytest.fixture
def open_study(client, experiment):
    opened = []

    def open_one(name, corpus="c", planned=()):
        tags = {PLAN_TAG: "p", CORPUS_TAG: corpus}
        study = Study.open(client, experiment, name, tags=tags)
        study.params({"study": f"{name} design"})
        runs = [
            {
                "identity": identity,
                "key": f"{place}-r0",
                "config": {"layout": identity},
                "repetition": 0,
            }
            for place, identity in enumerate(planned)
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


def data_set(digest):
    return DatasetInfo(
        "demo", digest, RecordingsSource("demo"), 10, {"A": 5, "N": 5}, (300.0,), ("I",)
    )


def test_a_study_and_its_finished_runs(client, open_study):
    study = open_study(unique("study"))
    second = train(study, "b", config=1, repetition=1)
    first = train(study, "a", config=1)
    zeroth = train(study, "z", config=0)
    train(study, "failed", status="FAILED")
    train(study, "open", status=None)
    client.log_metric(first, "test_f1", 0.5)
    client.log_metric(first, "test_f1", 0.75, step=1)
    sides = {"train": data_set("t" * 40), "test": data_set("u" * 40)}
    log_datasets(client, first, sides)
    log_datasets(client, study.run_id, sides)

    found = read_study(client, study.run_id)

    assert (found.run_id, found.experiment_id) == (study.run_id, study.experiment_id)
    assert found.params["study"] == f"{found.name} design"
    assert found.tags[CORPUS_TAG] == "c"
    assert found.status == "RUNNING"
    assert [child.run_id for child in found.finished] == [zeroth, first, second]
    child = found.finished[1]
    assert (child.config, child.repetition, child.identity) == (1, 0, "a")
    assert child.options == {"layout": "cnacna", "lr": "0.001"}
    assert child.params["positive"] == "A"
    assert child.metrics == {"test_f1": 0.75}
    assert child.datasets == {"train": "t" * 36, "test": "u" * 36}
    assert child.study_id == study.run_id
    assert child.name == "01-r0"
    assert found.plan == {"runs": []}


def test_of_two_finished_runs_of_one_identity_the_first_counts(client, open_study):
    study = open_study(unique("study"))
    train(study, "a", status="FAILED", **{REPLACED_TAG: "x"})
    first = train(study, "a")
    train(study, "a")
    assert [child.run_id for child in read_study(client, study.run_id).finished] == [first]


def test_a_run_that_logged_everything_counts_though_nobody_closed_it(client, open_study):
    study = open_study(unique("study"))
    run_id = train(study, "a", status=None)
    with RunLog(client, run_id) as log:
        log.complete()
    assert [child.run_id for child in read_study(client, study.run_id).finished] == [run_id]


def test_a_run_without_a_configuration_is_known_by_its_params(client, open_study):
    study = open_study(unique("study"))
    run_id = study.create_child("old", {"config": 3, "repetition": 2}, {IDENTITY_TAG: "a"})
    study.finish_child(run_id, "FINISHED")
    (child,) = read_study(client, study.run_id).finished
    assert (child.options, child.config, child.repetition) == ({}, 3, 2)
    assert child.datasets == {}


def test_a_study_knows_its_request_and_its_code(client, open_study, tmp_path):
    study = open_study(unique("study"))
    study.tags({"ecg_mlflow.request": json.dumps({"data": "demo"})})
    client.log_text(study.run_id, "import helper", "design/grid.py")
    client.log_text(study.run_id, "", "design/nets/deep/helper.py")
    client.log_text(study.run_id, "{}", "design/plan.json")
    found = read_study(client, study.run_id)
    assert found.request == {"data": "demo"}
    code = found.fetch_code(tmp_path)
    assert (code / "grid.py").read_text() == "import helper"
    assert (code / "nets/deep/helper.py").is_file()


# --- Runs of other studies ------------------------------------------------------------------------


@pytest.fixture
def earlier(open_study):
    """A finished run of another study, on a corpus of its own."""
    study = open_study(unique("earlier"), corpus := unique("corpus"))
    return train(study, "e", config=1, corpus=corpus), corpus


def test_what_a_study_has_taken_over_is_found_by_its_plan(client, open_study, earlier):
    run_id, corpus = earlier
    study = open_study(unique("later"), corpus, planned=["own", "e", "never trained"])
    own = train(study, "own", corpus=corpus)
    found = read_study(client, study.run_id)
    assert [child.run_id for child in found.finished] == [own, run_id]
    taken_over = found.finished[1]
    assert taken_over.study_id != study.run_id
    assert (taken_over.config, taken_over.options) == (1, {"layout": "e"}), "by this study's plan"
    assert taken_over.configuration["identity"] == "e", "and the rest as it was logged"


def test_what_a_study_says_that_it_has_taken_over_counts(client, open_study, earlier):
    run_id, corpus = earlier
    study = open_study(unique("search"), corpus)  # a sampler's choice stands in no plan
    client.log_text(study.run_id, json.dumps({"e": run_id}), REUSED)
    assert [child.run_id for child in read_study(client, study.run_id).finished] == [run_id]
    client.log_text(study.run_id, "{}", REUSED)
    assert read_study(client, study.run_id).finished == ()


def test_on_other_records_nothing_is_taken_over(client, open_study, earlier):
    study = open_study(unique("later"), unique("other corpus"), planned=["e"])
    assert read_study(client, study.run_id).finished == ()


# --- Names ----------------------------------------------------------------------------------------


def test_a_study_by_every_name_that_it_has(client, open_study):
    name = unique("study")
    run_id = open_study(name).run_id
    for given in (run_id, run_id[:6], run_id[:12], name, f"{name} design"):
        assert read_study(client, given).run_id == run_id


@pytest.mark.parametrize("given", ["", "abc", "no such study", "%"])
def test_an_unknown_study_lists_those_that_there_are(client, open_study, given):
    study = open_study(name := unique("study"))
    with pytest.raises(TrackingError) as raised:
        read_study(client, given)
    assert f"there is no study {given!r}" in str(raised.value)
    line = next(line for line in str(raised.value).splitlines() if study.run_id in line)
    assert name in line
    assert "RUNNING" in line
    assert " UTC " in line


def test_a_name_of_several_studies_is_refused(client, open_study):
    name = unique("study")
    first, second = open_study(name), open_study(name)
    with pytest.raises(TrackingError, match=f"2 studies are called '{name}'") as raised:
        read_study(client, name)
    assert first.run_id in str(raised.value)
    assert second.run_id in str(raised.value)


def test_a_run_of_a_study_is_no_study(client, open_study):
    study = open_study(unique("study"))
    child = train(study, "a")
    with pytest.raises(TrackingError, match=f"{child} is a run of study {study.run_id}"):
        read_study(client, child)


def test_a_store_without_studies(tmp_path):
    from ecg_mlflow.tracking.client import connect

    empty = connect(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(TrackingError, match="nor any other one in this store"):
        read_study(empty, "resnet")


def test_a_study_whose_plan_was_deleted(client, open_study):
    study = open_study(unique("study"))
    place = Path(client.get_run(study.run_id).info.artifact_uri.removeprefix("file://"))
    (place / "design" / "plan.json").unlink()
    with pytest.raises(TrackingError, match=r"has no design/plan\.json"):
        _ = read_study(client, study.run_id).plan


# --- Tables ---------------------------------------------------------------------------------------


def uri_of(client, run_id):
    return client.get_run(run_id).info.artifact_uri


def test_predictions_are_read_as_they_were_written(client, run_id):
    with RunLog(client, run_id) as log:
        log.table("predictions/best.csv", COLUMNS)
    key = uri_of(client, run_id), "predictions/best.csv"
    table = read_tables(client, [key])[key]
    assert table["record"] == ["001", "002"]
    assert table["label"] == ["A", "NA"]
    assert table["windows"].tolist() == [3.0, 4.0]
    assert table["p_A"].tolist() == [0.1 + 0.2, 1e-12], "to the last bit"
    assert Predictions.from_columns(table, "A").targets.tolist() == [0, 1]


def test_what_is_not_there_is_none_and_no_file_stays(client, study, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with_both, with_none = (study.create_child(name, {}) for name in "ab")
    with RunLog(client, with_both) as log:
        log.table("predictions/best.csv", COLUMNS)
        log.text("notes.txt", "ä")
    places = uri_of(client, with_both), uri_of(client, with_none)
    keys = [(place, path) for place in places for path in ("predictions/best.csv", "predictions")]
    tables = read_tables(client, keys * 2)
    assert [tables[key] is not None for key in keys] == [True, False, False, False]
    texts = read_artifacts(client, [(place, "notes.txt") for place in places])
    assert list(texts.values()) == ["ä".encode(), None]
    assert not list(tmp_path.iterdir())


def test_columns_of_a_table():
    table = parse_table(b'record,patient,sex,p_A\n1,2,f,0.5\n"a,""b""",,m,nan\n')
    assert table["record"] == ["1", 'a,"b"']
    assert table["patient"] == ["2", ""]
    assert table["sex"] == ["f", "m"]
    assert np.isnan(table["p_A"]).tolist() == [False, True]
    assert parse_table(b"record,p_A\n")["record"] == []
