"""Recordings as MLflow's data sets: made, logged, found again, and opened from what was logged."""

from __future__ import annotations

import json

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from ecg_mlflow import load_corpus, records
from ecg_mlflow.errors import BadRecordsError, CorpusError, DataNotFoundError, DatasetError
from ecg_mlflow.integrations.datasets import WfdbDataset, WfdbSource, from_wfdb


@pytest.fixture
def logged(monkeypatch, tracking_store, experiment):
    """Log a data set as a script does, and return the run's input."""

    def log(dataset):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_store)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
        with mlflow.start_run() as run:
            mlflow.log_input(dataset, context="training")
        (found,) = MlflowClient(tracking_store).get_run(run.info.run_id).inputs.dataset_inputs
        return found

    return log


def test_what_mlflow_keeps_of_a_folder(small_folder):
    dataset = mlflow.data.from_wfdb(str(small_folder))
    assert isinstance(dataset, WfdbDataset)
    corpus = load_corpus(str(small_folder))
    kept = dataset.to_dict()
    assert (kept["name"], kept["digest"]) == ("small", corpus.digest[:36])
    assert kept["source_type"] == "wfdb"
    assert json.loads(kept["source"]) == {"data": str(small_folder), "digest": corpus.digest}
    # Six records of 250 Hz, of 450, 500, ... 700 samples
    assert json.loads(kept["profile"]) == {
        "n_records": 6,
        "class_counts": {"A": 3, "N": 3},
        "duration_s": {"min": 1.8, "median": 2.3, "max": 2.8},
    }
    schema = json.loads(kept["schema"])["ecg"]
    assert (schema["fs"], schema["leads"], schema["label"]) == ([250.0], ["L1"], ["A", "N"])
    assert dataset.corpus.ids == ("R1", "R2", "R3", "R4", "R5", "R6")


def test_diagnoses_of_one_record_count_one_by_one(small_folder):
    (small_folder / "REFERENCE.csv").write_text(
        'R1,AF\nR2,"AF,RBBB"\nR3,RBBB\nR4,RBBB\nR5,AF\nR6,AF\n'
    )
    assert from_wfdb(small_folder).profile["class_counts"] == {"AF": 4, "RBBB": 3}


def test_names_and_digests(small_folder):
    found = [from_wfdb(data).name for data in ("demo:12", small_folder, f"{small_folder}/*.hea")]
    assert found == ["demo", "small", "small"]
    dataset = from_wfdb(small_folder, name="ward 7", digest="version-2")
    assert (dataset.name, dataset.digest) == ("ward 7", "version-2")


@pytest.mark.parametrize(
    ("data", "more", "error", "message"),
    [
        ("demo:12", {"digest": "a" * 37}, DatasetError, "37 characters, and MLflow keeps 36"),
        ("demo:12", {"on_bad_record": "ignore"}, DatasetError, "say 'error' or 'skip'"),
        ("/no/such/folder", {}, DataNotFoundError, "doesn't exist"),
    ],
)
def test_what_can_not_be(data, more, error, message):
    with pytest.raises(error, match=message):
        from_wfdb(data, **more)


def test_bad_records_are_listed(small_folder):
    (small_folder / "R2.dat").write_bytes(b"")
    with pytest.raises(BadRecordsError, match=r"(?s)R2.*on_bad_record=skip"):
        from_wfdb(small_folder)
    assert from_wfdb(small_folder, on_bad_record="skip").profile["n_records"] == 5


@pytest.mark.parametrize("case", ["a folder", "labels elsewhere", "a relative path"])
def test_a_logged_data_set_is_opened_again(small_folder, tmp_path, monkeypatch, logged, case):
    data, labels = small_folder, None
    if case == "labels elsewhere":
        labels = (small_folder / "REFERENCE.csv").rename(tmp_path / "mine.csv")
    if case == "a relative path":
        monkeypatch.chdir(small_folder.parent)
        data = small_folder.name
    dataset = from_wfdb(data, labels)
    found = logged(dataset)
    monkeypatch.chdir("/")
    assert (found.dataset.digest, found.tags[0].value) == (dataset.digest, "training")
    source = mlflow.data.get_source(found)
    assert isinstance(source, WfdbSource)
    assert (source.rows, source.labels) == (None, labels and str(labels))
    corpus = source.load()
    assert (corpus.digest, corpus.labels) == (dataset.corpus.digest, dataset.corpus.labels)


def test_made_up_records_are_asked_for_by_their_number_and_seed(logged):
    source = mlflow.data.get_source(logged(from_wfdb("demo:12")))
    assert source.data == "demo:12:0"
    assert len(source.load()) == 12


def test_files_that_have_changed_are_told(small_folder, write_record, cache, monkeypatch):
    dataset = from_wfdb(small_folder)
    source = WfdbSource.from_json(dataset.source.to_json())
    write_record(small_folder, "R3", np.zeros((500, 1)))
    with pytest.raises(CorpusError, match="have changed since they were logged") as error:
        source.load()
    packed = cache / "corpora" / dataset.corpus.digest
    assert f"Corpus.open({str(packed)!r})" in str(error.value)
    monkeypatch.setattr(records, "packed_path", lambda digest: small_folder / "none")
    with pytest.raises(CorpusError, match=r"of 6 records.*load\(data, labels\)"):
        source.load()


def test_recordings_that_were_moved_are_opened_where_they_are(small_folder):
    source = from_wfdb(small_folder).source
    moved = small_folder.rename(small_folder.with_name("moved"))
    with pytest.raises(DataNotFoundError):
        source.load()
    assert source.load(str(moved)).digest == source.digest


def test_what_earlier_versions_have_logged_is_opened(small_folder):
    source = WfdbSource.from_json(json.dumps({"uri": str(small_folder)}))
    assert source.load().ids[0] == "R1"
    made_up = WfdbSource.from_dict({"uri": "demo: 12 made-up records, seed 3"})
    assert made_up.data == "demo:12:3"


def test_that_rows_could_not_be_kept_is_told(small_folder, caplog):
    source = WfdbSource.from_dict({"data": str(small_folder), "n_unkept": 40_000})
    assert len(source.load()) == 6
    assert "a part of 40000 records, whose rows did not fit" in caplog.text
    assert "40000 records of it" in repr(source)


def test_the_inputs_of_a_study_are_opened_again(exhibit):
    with exhibit("small") as work:
        parent, (child, *_) = work.runs("with 1")
        for run in (parent, child):
            parts = {one.tags[0].value: one for one in run.inputs.dataset_inputs}
            assert set(parts) == {"train", "test"}
            source = mlflow.data.get_source(parts["test"])
            corpus = source.load()
            assert len(corpus) == 20
            assert [corpus.ids[row] for row in source.rows] == ["S01", "S02", "S03", "S04"]
            assert len(mlflow.data.get_source(parts["train"]).rows) == 16
            assert json.loads(parts["test"].dataset.profile)["duration_s"]["min"] == 310 / 250
