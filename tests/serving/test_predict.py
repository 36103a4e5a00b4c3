"""``ecg-mlflow predict``: which recordings, which model, and the table that comes out."""

from __future__ import annotations

import json
import shutil

import mlflow
import numpy as np
import pandas as pd
import pytest

from ecg_mlflow.errors import DataNotFoundError, ModelError, TrackingError
from ecg_mlflow.serving import predict as predicting
from ecg_mlflow.serving.classifier import RawEcgClassifier
from ecg_mlflow.serving.predict import expand, predict_files
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.logged_models import NetworkInfo, log_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    path = tmp_path_factory.mktemp("broken") / "broken.hea"
    path.write_text("broken 1 250 300\n")
    return path


@pytest.fixture(scope="module")
def client(tracking_store):
    return connect(tracking_store)


@pytest.fixture(scope="module")
def registered(client, saved) -> str:
    """Register the model as version 1 of a name, with the alias champion."""
    client.create_registered_model("af-small")
    client.create_model_version("af-small", source=str(saved.folder))
    client.set_registered_model_alias("af-small", "champion", "1")
    return "af-small"


def test_recordings_are_named_in_all_ways_and_taken_once(saved, tmp_path):
    names = [str(saved.records / f"R{i}.hea") for i in range(5)]
    assert expand([str(saved.records)]) == names
    assert expand([f"{saved.records}/R[13].hea"]) == [names[1], names[3]]
    assert expand([names[2], str(saved.records / "R*.hea"), "no/such/record"]) == [
        *(names[2], names[0], names[1], names[3], names[4]),
        "no/such/record",
    ]
    file = tmp_path / "R[1].hea"
    file.write_text("")
    assert expand([str(file)]) == [str(file)], "its name looks like a glob"


@pytest.mark.parametrize("paths", [[], ["{empty}"], ["{empty}/*.hea"]])
def test_nothing_to_predict(tmp_path, paths):
    with pytest.raises(DataNotFoundError):
        expand([path.format(empty=tmp_path) for path in paths])


@pytest.mark.parametrize("where", ["folder", "alias", "version"])
def test_a_table_with_one_row_per_recording(saved, client, registered, tmp_path, where, capsys):
    uri = {
        "folder": str(saved.folder),
        "alias": f"models:/{registered}@champion",
        "version": f"models:/{registered}/1",
    }[where]
    output = tmp_path / "answers.csv"
    asked = [str(saved.records / "R*.hea")]
    assert predict_files(uri, asked, output, client=client) == 0
    table = pd.read_csv(output)
    assert list(table) == [
        *("record", "file", "prediction", "p_A", "p_NO", "calibrated_A", "calibrated_NO"),
        *("windows", "status"),
    ]
    assert table["record"].tolist() == [f"R{i}" for i in range(5)]
    assert table["file"].tolist() == expand(asked)
    wanted = mlflow.pyfunc.load_model(str(saved.folder)).predict(
        pd.DataFrame({"record": expand(asked)})
    )
    np.testing.assert_allclose(table[["p_A", "p_NO"]], wanted[["p_A", "p_NO"]], atol=1e-12)
    assert table["prediction"].tolist() == wanted["prediction"].tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["answers.csv"]
    assert capsys.readouterr().out == ""


def test_bad_recordings_are_rows_and_an_exit_status(saved, broken, client, capsys):
    asked = [str(saved.records), str(broken), "/no/such/record"]
    status = predict_files(str(saved.folder), asked, client=client)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert status == 3
    assert lines[0].startswith("record,file,prediction,p_A")
    assert [line.partition(",")[0] for line in lines[1:]] == [
        *(f"R{i}" for i in range(5)),
        *("broken", "record"),
    ]
    assert "error: broken header" in lines[6]
    assert ",,,,,0,error: unreadable header" in lines[7]
    assert "2 of 7 recordings have no answer" in err


def test_batches_make_one_table(saved, client, tmp_path, monkeypatch):
    asked = [str(saved.records / "R*.hea")]
    predict_files(str(saved.folder), asked, tmp_path / "a.csv", with_windows=True, client=client)
    monkeypatch.setattr(predicting, "BATCH", 2)
    predict_files(str(saved.folder), asked, tmp_path / "b.csv", with_windows=True, client=client)
    one, other = pd.read_csv(tmp_path / "a.csv"), pd.read_csv(tmp_path / "b.csv")
    pd.testing.assert_frame_equal(one, other)
    windows = [json.loads(text) for text in one["window_probabilities"]]
    assert [len(each) for each in windows] == one["windows"].tolist() == [2, 3, 4, 5, 5]
    np.testing.assert_allclose(
        [np.mean(each, axis=0) for each in windows], one[["p_A", "p_NO"]], atol=1e-6
    )


def test_an_old_table_stays_when_it_breaks_off(saved, client, tmp_path, monkeypatch):
    output = tmp_path / "answers.csv"
    output.write_text("old")

    def stopped(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(RawEcgClassifier, "predict", stopped)
    with pytest.raises(KeyboardInterrupt):
        predict_files(str(saved.folder), [str(saved.records)], output, client=client)
    assert output.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["answers.csv"]


@pytest.mark.parametrize("uri", ["models:/m-00000000000000000000000000000000", "/no/such/folder"])
def test_what_mlflow_does_not_find(saved, client, uri):
    with pytest.raises(TrackingError, match=f"could not .*{uri.rpartition('/')[2]}"):
        predict_files(uri, [str(saved.records)], client=client)


def test_the_network_of_a_run_takes_no_recordings(saved, client, experiment, tmp_path):
    where = str(tmp_path / "artifacts")
    run = client.create_run(client.create_experiment(experiment, artifact_location=where))
    network = tmp_path / "network.keras"
    shutil.copyfile(next(saved.folder.rglob("*.keras")), network)
    info = NetworkInfo((120, 1), ("A", "NO"))
    model_id = log_model(client, run.info.run_id, "best", network, info)
    with pytest.raises(ModelError, match=r"takes no recordings, .* promote STUDY"):
        predict_files(f"models:/{model_id}", [str(saved.records)], client=client)
