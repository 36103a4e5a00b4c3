"""Tables of recordings in, tables of answers out; the numbers are the study's own."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from ecg_mlflow import executors, reports, search, study, training
from ecg_mlflow.errors import ModelError, PipelineError, PredictionsError
from ecg_mlflow.integrations.evaluator import EcgEvaluator
from ecg_mlflow.pipeline import BatchSource, Pipeline, WindowMaker, class_targets, prepare, select
from ecg_mlflow.records import load_corpus, read_record
from ecg_mlflow.records.fingerprint import fingerprints
from ecg_mlflow.serving import classifier
from ecg_mlflow.serving.classifier import RawEcgClassifier, open_engine
from ecg_mlflow.serving.inputs import from_signal
from ecg_mlflow.serving.manifest import SelfTest, code_digest
from ecg_mlflow.tracking import client
from ecg_mlflow.tracking.trusted_code import Consent
from ecg_mlflow.training.evaluation import evaluate

LENGTH = 120
PLAIN = Pipeline().center_flip().split_signals(LENGTH, LENGTH)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def load(make_manifest, network, tmp_path) -> Callable[..., RawEcgClassifier]:
    """Load a classifier as MLflow does."""

    def make(
        pipeline: Pipeline = PLAIN, n_leads: int = 1, *, seen=(), **fields
    ) -> RawEcgClassifier:
        manifest = make_manifest(pipeline, n_leads, **fields)
        (tmp_path / "manifest.json").write_text(manifest.to_json())
        artifacts = {"network": str(network(n_leads)), "manifest": str(tmp_path / "manifest.json")}
        if seen:
            (tmp_path / "trained_on.json").write_text(json.dumps({"digests": seen}))
            artifacts["trained_on"] = str(tmp_path / "trained_on.json")
        if manifest.self_test is not None:
            np.save(tmp_path / "example.npy", example_samples())
            artifacts["example"] = str(tmp_path / "example.npy")
        model = RawEcgClassifier()
        model.load_context(SimpleNamespace(artifacts=artifacts))
        return model

    return make


def example_samples() -> np.ndarray:
    return np.random.default_rng(8).normal(0, 1, (400, 1)).astype(np.float32)


def write_records(folder: Path, write_record, n_leads: int, n_records: int = 12) -> Path:
    rng = np.random.default_rng(2)
    for i in range(n_records):
        n_samples = int(rng.integers(100, 700))
        wave = np.sin(np.arange(n_samples) / rng.uniform(3, 30))[:, None]
        signal = wave * rng.uniform(0.2, 2) + rng.normal(0, 0.2, (n_samples, n_leads))
        write_record(folder, f"S{i:02}", signal, gain=813, baseline=-37)
    labels = "".join(f"S{i:02},{'A' if i % 2 else 'NO'}\n" for i in range(n_records))
    (folder / "REFERENCE.csv").write_text(labels)
    return folder


def as_the_study_does(folder: Path, pipeline: Pipeline, network: Path):
    """Score all records as a study scores its test records: packed, in batches, compiled."""
    import keras

    from ecg_mlflow.training.step import CompiledStep

    corpus, stages = load_corpus(str(folder)), pipeline.stages()
    selection = select(corpus, stages)
    prepared = prepare(corpus, stages, selection.rows)
    windows = WindowMaker(stages, prepared, selection.rows, selection.labels, training=False)
    targets = class_targets(selection.labels, ["A", "NO"])
    source = BatchSource(windows, selection.rows, targets, batch_size=5)
    model = keras.saving.load_model(network)
    step = CompiledStep(model, keras.optimizers.Adam(), keras.losses.CategoricalCrossentropy())
    evaluation = evaluate(step.predict, source.epoch(0, 0, 0, shuffle=False), ("A", "NO"), "A")
    return [corpus.ids[row] for row in evaluation.rows], evaluation


PIPELINES = [
    Pipeline().center_flip().split_signals(LENGTH, 60),
    Pipeline()
    .band_pass_signals(0.5, 40)
    .resample_signals(200)
    .center_flip()
    .split_signals(LENGTH, {"A": 70, "NO": 70})
    .standardise_signals(),
]


def sixfold(signal, fs):
    return 6 * signal


def test_functions_of_a_grid_file_give_the_probabilities_of_the_study(saved, network, tmp_path):
    folder = shutil.copytree(saved.records, tmp_path / "records")
    (folder / "REFERENCE.csv").write_text("R0,A\nR1,NO\nR2,A\nR3,NO\nR4,A\n")
    pipeline = Pipeline().center_flip().apply(sixfold).split_signals(LENGTH, LENGTH)
    ids, evaluation = as_the_study_does(folder, pipeline, network(1))
    asked = pd.DataFrame({"record": [str(folder / name) for name in ids]})
    found = mlflow.pyfunc.load_model(str(saved.folder)).predict(asked)
    np.testing.assert_allclose(found[["p_A", "p_NO"]], evaluation.probabilities, atol=1e-6)


@pytest.mark.parametrize("n_leads", [1, 2])
@pytest.mark.parametrize("pipeline", PIPELINES, ids=["plain", "long"])
def test_probabilities_are_those_of_the_study(
    load, network, write_record, tmp_path, pipeline, n_leads
):
    folder = write_records(tmp_path / "records", write_record, n_leads)
    ids, evaluation = as_the_study_does(folder, pipeline, network(n_leads))
    model = load(pipeline, n_leads, shortest_s=0.3)
    paths = [str(folder / name) for name in ids]
    found = model.predict(None, pd.DataFrame({"record": paths}))
    assert found["record"].tolist() == ids
    assert found["windows"].tolist() == evaluation.counts.tolist()
    np.testing.assert_allclose(found[["p_A", "p_NO"]], evaluation.probabilities, atol=1e-6)
    assert np.ptp(evaluation.probabilities[:, 0]) > 0.05, "a test that any number would pass"
    # The same samples as numbers in mV: float32 in place of the converter's units.
    corpus = load_corpus(str(folder))
    signals = pd.DataFrame({"signal": [corpus.record(i).signal for i in range(len(ids))]})
    found = model.predict(None, signals.assign(fs=250.0))
    np.testing.assert_allclose(found[["p_A", "p_NO"]], evaluation.probabilities, atol=1e-5)


def test_all_kinds_of_rows_in_one_table_and_windows_on_request(load, write_record, tmp_path):
    header = write_record(tmp_path, "R1")
    data = header.with_suffix(".dat").read_bytes()
    rows = [
        {"record": str(header)},
        {"header": header.read_bytes(), "signal_file": data},
        {"signal": np.ones(300), "fs": 250},
        {"record": str(tmp_path / "gone")},
        {"fs": 3},
    ]
    model = load()
    found = model.predict(None, pd.DataFrame(rows), {"windows": True})
    assert found["record"].tolist() == ["R1", "R1", "row 2", "gone", "row 4"]
    assert found["status"].str.partition(":")[0].tolist() == ["ok", "ok", *["error"] * 3]
    assert found["p_A"][0] == found["p_A"][1]
    assert found.loc[2:, ["p_A", "p_NO", "calibrated_A", "calibrated_NO"]].isna().all(axis=None)
    assert found["windows"].tolist() == [4, 4, 0, 0, 0]
    assert found["prediction"].isna().tolist() == [False, False, True, True, True]
    first, *_, last = found["window_probabilities"]
    assert (np.shape(first), last) == ((4, 2), [])
    np.testing.assert_allclose(np.mean(first, axis=0), found.loc[0, ["p_A", "p_NO"]], atol=1e-7)
    assert "window_probabilities" not in model.predict(None, pd.DataFrame(rows[:1]))
    assert model.predict(None, pd.DataFrame({"record": []})).empty


def test_recordings_that_it_was_trained_on_can_not_test_it(load, write_record, tmp_path):
    """They are known under another name and gain; an evaluation with them is refused."""
    records = [read_record(write_record(tmp_path, f"R{i}")) for i in range(4)]
    seen = [one for record in records[:2] for one in fingerprints(record.signal)]
    copies = [
        write_record(tmp_path / "b", f"X{i}", records[i].signal, gain=300) for i in (3, 1, 2, 0)
    ]
    table = pd.DataFrame({"record": [*map(str, copies), str(tmp_path / "gone")], "label": "A"})
    model = load(seen=seen)
    assert model.seen(table) == ["X1", "X0"]
    assert load().seen(table) == []

    def evaluated(rows):
        return EcgEvaluator().evaluate(
            dataset=SimpleNamespace(features_data=rows[["record"]], labels_data=rows["label"]),
            run_id="",
            evaluator_config={"positive": "A"},
            model=SimpleNamespace(unwrap_python_model=lambda: model),
        )

    with pytest.raises(
        PredictionsError, match=r"2 of 5 recordings can't test .*: X1, X0. Leave them"
    ):
        evaluated(table)
    with pytest.raises(AttributeError, match="predict"):  # the next that it asks this model
        evaluated(table.iloc[[0, 2]])


@pytest.mark.parametrize("wrong", [pd.DataFrame({"age": [3]}), ["a.hea"], pd.DataFrame()])
def test_what_is_no_table_of_recordings(load, wrong):
    with pytest.raises(MlflowException, match="a table with one recording per row"):
        load().predict(None, wrong)


def test_a_model_that_computes_otherwise_is_refused_if_its_code_is_another(
    load, make_manifest, network, caplog
):
    engine = open_engine(make_manifest(), network(1), None, Consent())
    record = from_signal("E1", example_samples(), 250, ["L1"], ["L1"])
    answer = classifier.probabilities_of(engine, record)

    def expected(off_by: float) -> SelfTest:
        return SelfTest("E1", 250.0, ("L1",), tuple(float(p) + off_by for p in answer))

    load(self_test=expected(9e-6), code="made by other code")
    with pytest.raises(ModelError, match=r"ecg_mlflow 0\.9, and .*for E1 .* differ by 2e-05"):
        load(self_test=expected(2e-5), code="made by other code", version="0.9")
    with caplog.at_level(logging.WARNING):
        load(self_test=expected(2e-5), code=code_digest())
    assert "differ by 2e-05" in caplog.text


def test_a_pipeline_of_chance_is_refused(load):
    with pytest.raises(PipelineError, match="cuts at random positions"):
        load(Pipeline().random_split_signals(LENGTH, 3))


def test_importing_it_loads_nothing_that_predicting_does_not_need():
    parts = (executors, reports, search, study, client, training)
    program = (
        # MLflow itself imports the plug-ins of the package that is installed here.
        "import sys, mlflow.pyfunc.model\n"
        "plugins = set(sys.modules)\n"
        "import ecg_mlflow.serving.classifier\n"
        "print({n.split('.')[0] for n in sys.modules} & {'keras', 'tensorflow', 'matplotlib', "
        "'optuna', 'ray', 'sklearn', 'wfdb'})\n"
        "print([n for n in set(sys.modules) - plugins if n.startswith("
        f"{tuple(one.__name__ for one in parts)})])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["set()", "[]"]
