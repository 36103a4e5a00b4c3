from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.dataset_inputs import DatasetInfo
from ecg_mlflow.tracking.logged_models import NetworkInfo, log_model
from ecg_mlflow.tracking.recordings_source import RecordingsSource

SOURCE, COUNTS = RecordingsSource("demo"), {"A": 10, "NO": 70}
TEST = DatasetInfo("demo test", "d" * 64, SOURCE, 80, COUNTS, (300.0,), ("ECG",), (9.0, 9.0, 9.0))
NETWORK = NetworkInfo(input_shape=(120, 2), classes=("A", "NO"))

BUILD = """
import sys, keras
from keras import layers
keras.utils.set_random_seed(7)
x = inputs = keras.Input((120, 2))
x = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(4, 9, padding="same")(x)))
x = layers.Dense(2)(layers.GlobalAveragePooling1D()(x))
keras.Model(inputs, x).save(sys.argv[1])
"""

# What a user does with the model: another process that knows MLflow only.
USE = """
import json, sys, mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
windows = np.random.default_rng(3).normal(size=(5, 120, 2)).astype(np.float32)
answer = model.predict(windows)
# MLflow itself imports the plug-ins of the package that is installed here, and these hardly more.
light = ("integrations", "tracking", "errors", "provenance")
ours = {name.split(".")[1] for name in sys.modules if name.startswith("ecg_mlflow.")}
assert ours <= set(light), ours
refused = []
for wrong in (windows[:, :, :1], windows.astype(np.float64)):
    try:
        model.predict(wrong)
    except mlflow.exceptions.MlflowException:
        refused.append(True)
    else:
        refused.append(False)
import keras
logits = keras.saving.load_model(sys.argv[2]).predict(windows, verbose=0)
print(json.dumps([answer.tolist(), str(answer.dtype), logits.tolist(), refused]))
"""


def run_python(code: str, *arguments: str, **environment: str) -> str:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **quiet, **environment},
        timeout=1000,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def any_file(tmp_path: Path) -> Path:
    """Make a file that is stored as a network is; what is in it matters only when it is loaded."""
    path = tmp_path / "network.keras"
    path.write_bytes(bytes(80_000))
    return path


def test_model_loads_elsewhere_without_pickle_and_predicts_probabilities(
    client, run_id, tracking_store, tmp_path
):
    keras_file = tmp_path / "network.keras"
    run_python(BUILD, str(keras_file))
    model_id = log_model(client, run_id, "best", keras_file, NETWORK)
    printed = run_python(
        f"import os; os.chdir({str(tmp_path)!r})\n{USE}",
        f"models:/{model_id}",
        str(keras_file),
        MLFLOW_TRACKING_URI=tracking_store,
        MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false",
    )
    answer, dtype, logits, refused = json.loads(printed.splitlines()[-1])
    exponentials = np.exp(logits)
    np.testing.assert_allclose(answer, exponentials / exponentials.sum(1, keepdims=True), 1e-5)
    assert dtype == "float32"
    assert refused == [True, True]


def test_model_is_linked_to_run_metrics_and_data(client, run_id, any_file):
    more = {"metrics": {"test_f1": 0.75}, "step": 40, "dataset": TEST}
    model_id = log_model(client, run_id, "best", any_file, NETWORK, **more)
    model = client.get_logged_model(model_id)
    assert (model.name, model.status, model.source_run_id) == ("best", "READY", run_id)
    (metric,) = model.metrics
    assert (metric.key, metric.value, metric.step) == ("test_f1", 0.75, 40)
    assert (metric.dataset_name, metric.dataset_digest) == ("demo test", TEST.short_digest)
    run = client.get_run(run_id)
    assert [(o.model_id, o.step) for o in run.outputs.model_outputs] == [(model_id, 40)]
    assert run.data.metrics["test_f1"] == 0.75
    assert log_model(client, run_id, "best", any_file, NETWORK, **more) == model_id, "once"


@pytest.mark.parametrize("length", [120, None])
def test_model_states_signature_classes_and_requirements(client, run_id, any_file, capsys, length):
    model_id = log_model(client, run_id, "last", any_file, NetworkInfo((length, 2), ("A", "NO")))
    assert capsys.readouterr() == ("", "")
    folder = Path(client.get_logged_model(model_id).artifact_location.removeprefix("file://"))
    described = Model.load(str(folder))
    (windows,) = described.signature.inputs.inputs
    (answers,) = described.signature.outputs.inputs
    assert (windows.shape, windows.type) == ((-1, length or -1, 2), np.dtype("float32"))
    assert (answers.shape, answers.type) == ((-1, 2), np.dtype("float32"))
    assert described.metadata["classes"] == ["A", "NO"]
    assert described.model_id == model_id
    found = dict(one.split("==") for one in (folder / "requirements.txt").read_text().split())
    assert {"mlflow", "keras", "numpy"} <= set(found)
    assert set(found) & {"tensorflow", "tensorflow-cpu"}
    assert all(version(name) == number for name, number in found.items())
    assert not list(folder.rglob("*.pkl"))


def test_the_history_of_the_run_is_not_read(client, run_id, any_file, monkeypatch):
    """What makes MLflow's own log_model slower with every point that a run has logged."""

    def read(self, *arguments, **more):
        raise AssertionError("the whole history of the run was read")

    store = type(client._tracking_client.store)
    for name in dir(store):
        if "metric_history" in name and not name.startswith("_"):
            monkeypatch.setattr(store, name, read)
    with pytest.raises(AssertionError):
        client.get_metric_history(run_id, "loss")
    assert log_model(client, run_id, "best", any_file, NETWORK, metrics={"loss": 1.0})


def test_a_model_that_could_not_be_stored_is_failed(client, run_id, study, any_file, monkeypatch):
    def full(self, model_id, local_dir, artifact_path=None):
        raise OSError(28, "No space left on device")

    def away(self, model_id, status):
        raise MlflowException("the server is away")

    def found():
        models = client.search_logged_models([study.experiment_id])
        return [model.status for model in models if model.source_run_id == run_id]

    plain, why = MlflowClient(client.tracking_uri), f"model 'best' of run {run_id}: .*No space left"
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_model_artifact", full)
        with pytest.raises(TrackingError, match=why):
            log_model(client, run_id, "best", any_file, NETWORK)
        assert found() == ["FAILED"]
        patch.setattr(MlflowClient, "finalize_logged_model", away)
        for one in (client, plain):
            with pytest.raises(TrackingError, match=why):
                log_model(one, run_id, "best", any_file, NETWORK)
    model_id = log_model(client, run_id, "best", any_file, NETWORK)
    assert found() == ["READY"], "what was left half made goes"
    more = {"name": "best", "source_run_id": run_id}
    for _ in range(2):
        client.finalize_logged_model(model_id, "FAILED")
        model_id = client.create_logged_model(study.experiment_id, **more).model_id
    client.finalize_logged_model(model_id, "READY")
    assert log_model(client, run_id, "best", any_file, NETWORK) == model_id
    assert found() == ["READY"], "also beside one that is whole"
