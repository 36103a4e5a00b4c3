from __future__ import annotations

import dataclasses
import json

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ecg_mlflow.tracking.dataset_inputs import DatasetInfo, log_datasets
from ecg_mlflow.tracking.recordings_source import RecordingsSource

TRAIN = DatasetInfo(
    name="cinc2017 train",
    digest="a" * 64,
    source=RecordingsSource("/data/training2017", None, "c" * 64, (0, 1, 5)),
    n_records=5622,
    class_counts={"A": 590, "NO": 5032},
    fs=(300.0,),
    leads=("ECG",),
    durations_s=(9.1, 30.0, 60.9),
)
TEST = dataclasses.replace(TRAIN, name="cinc2017 test", digest="b" * 64, n_records=1406)


def test_inputs_of_a_run(client, run_id):
    for _ in range(2):  # again for a run that is resumed
        log_datasets(client, run_id, {"train": TRAIN, "test": TEST})
    inputs = {
        entry.tags[0].value: entry.dataset for entry in client.get_run(run_id).inputs.dataset_inputs
    }
    assert set(inputs) == {"train", "test"}
    train = inputs["train"]
    assert (train.name, train.digest, train.source_type) == ("cinc2017 train", "a" * 36, "wfdb")
    assert json.loads(train.source) == {
        "data": "/data/training2017",
        "digest": "c" * 64,
        "rows": "0-1,5",
    }
    assert json.loads(train.profile) == {
        "n_records": 5622,
        "class_counts": {"A": 590, "NO": 5032},
        "duration_s": {"min": 9.1, "median": 30.0, "max": 60.9},
    }
    schema = json.loads(train.schema)["ecg"]
    assert (schema["fs"], schema["leads"], schema["label"]) == ([300.0], ["ECG"], ["A", "NO"])


@pytest.mark.parametrize("plain", [True, False])
def test_another_process_that_adds_the_same_data_set_is_no_error(
    client, run_id, monkeypatch, plain
):
    log_inputs, calls = MlflowClient.log_inputs, []

    def too_late_at_first(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed")
        log_inputs(*arguments)

    monkeypatch.setattr(MlflowClient, "log_inputs", too_late_at_first)
    log_datasets(MlflowClient(client.tracking_uri) if plain else client, run_id, {"train": TRAIN})
    assert len(calls) == 2
    assert len(client.get_run(run_id).inputs.dataset_inputs) == 1
