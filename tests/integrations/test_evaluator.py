"""``mlflow.models.evaluate(..., evaluators="ecg")``, for models of anybody."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from mlflow import MlflowClient

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.integrations.evaluator import EcgEvaluator
from ecg_mlflow.tracking.runs import find_or_create_experiment

N = 240
ARTIFACTS = ["calibration.png", "confusion_matrix.png", "curves.png", "metrics.csv"]
ARTIFACTS += ["predictions.csv"]

pytestmark = [
    # MLflow's own: metrics linked to a data set, and its use of pandas and matplotlib.
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*inferred as AnyType:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*input example was not provided:UserWarning"),
]


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(3)
    is_af = rng.random(N) < 0.3
    return is_af, 1 / (1 + np.exp(1 - 2 * is_af - rng.normal(0, 1, N)))


@pytest.fixture
def table(scores):
    is_af, p = scores
    labels, records = np.where(is_af, "A", "N"), [f"A{i:05d}" for i in range(N)]
    return pd.DataFrame({"record": records, "label": labels, "p_A": p, "p_N": 1 - p})


@pytest.fixture(autouse=True)
def store(tracking_store, experiment, monkeypatch, tmp_path):
    """MLflow as who calls it finds it: a store, an experiment, and the evaluator registered."""
    # Not above: it loads MLflow's models, which warn of their own type hints.
    from mlflow.models.evaluation.evaluator_registry import _model_evaluation_registry as registry

    monkeypatch.setattr(registry, "_registry", {**registry._registry, "ecg": EcgEvaluator})
    # By the environment: what is set in MLflow itself stays set for all later tests.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_store)
    experiment_id = find_or_create_experiment(MlflowClient(tracking_store), experiment)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)
    monkeypatch.chdir(tmp_path)  # beside which the artifacts of such an experiment lie


def evaluate(data, *, targets="label", **kwargs):
    config = {"positive": "A", "resamples": 200, **kwargs.pop("config", {})}
    return mlflow.models.evaluate(
        data=data,
        targets=targets,
        model_type="classifier",
        evaluators="ecg",
        evaluator_config=config,
        **kwargs,
    )


def test_the_metrics_are_scikit_learns(table, scores):
    is_af, p = scores
    found = evaluate(table, config={"threshold": 0.4}).metrics
    said = p >= 0.4
    expected = {
        "f1": sk.f1_score(is_af, said),
        "f1_N": sk.f1_score(~is_af, ~said),
        "sensitivity": sk.recall_score(is_af, said),
        "specificity": sk.recall_score(~is_af, ~said),
        "precision": sk.precision_score(is_af, said),
        "accuracy": sk.accuracy_score(is_af, said),
        "roc_auc": sk.roc_auc_score(is_af, p),
        "average_precision": sk.average_precision_score(is_af, p),
        "log_loss": sk.log_loss(is_af, p),
        "brier": sk.brier_score_loss(is_af, p),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    counts = [found[name] for name in ("records", "positive_records", "threshold")]
    assert counts == [N, is_af.sum(), 0.4]
    for name in expected:
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_intervals_by_hand(table, scores):
    is_af, p = scores
    found = evaluate(table, config={"resamples": 4000, "level": 0.9}).metrics
    rng = np.random.default_rng(99)  # another bootstrap than ours
    rows = [rng.integers(0, N, N) for _ in range(2000)]
    auc = [sk.roc_auc_score(is_af[one], p[one]) for one in rows]
    assert found["roc_auc_low"] == pytest.approx(np.quantile(auc, 0.05), abs=0.012)
    assert found["roc_auc_high"] == pytest.approx(np.quantile(auc, 0.95), abs=0.012)


def test_what_is_in_the_run_and_in_the_result(table, tmp_path):
    found = evaluate(table, config={"metric_prefix": "holter_"})
    client = MlflowClient()
    run = client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(found.metrics)
    assert len(client.get_metric_history(found.run_id, "holter_f1")) == 1
    files = {item.path for item in client.list_artifacts(found.run_id, "ecg")}
    assert files == {f"ecg/holter_{name}" for name in ARTIFACTS}
    path = Path(run.info.artifact_uri.removeprefix("file://"), "ecg/holter_predictions.csv")
    logged = pd.read_csv(path)
    assert list(logged.columns) == ["record", "label", "prediction", "p_A", "p_N"]
    assert logged["p_A"].tolist() == table["p_A"].tolist()
    assert logged["prediction"].tolist() == np.where(table["p_A"] > 0.5, "A", "N").tolist()
    assert sorted(found.artifacts) == [f"holter_{name.partition('.')[0]}" for name in ARTIFACTS]
    figures = found.artifacts["holter_metrics"].content.set_index("metric")
    assert figures.loc["f1", "low"] == pytest.approx(found.metrics["holter_f1_low"])
    assert np.isnan(figures.loc["records", "low"])
    assert found.artifacts["holter_curves"].content.size[0] > 500
    found.save(str(tmp_path / "saved"))
    assert mlflow.models.EvaluationResult.load(str(tmp_path / "saved")).metrics == found.metrics


def test_a_column_of_scores_is_enough(table, scores):
    is_af, p = scores
    plain = pd.DataFrame({"score": p, "truth": is_af.astype(int)})
    found = evaluate(plain, targets="truth", predictions="score", config={"positive": None})
    assert found.metrics["roc_auc"] == pytest.approx(sk.roc_auc_score(is_af, p))
    assert found.metrics["f1"] == pytest.approx(sk.f1_score(is_af, p > 0.5))


def test_patients_are_drawn_together(table):
    copies = pd.concat([table] * 4, ignore_index=True)
    copies["patient"] = copies["record"]
    copies["record"] = [f"R{i}" for i in range(len(copies))]
    alone, together = evaluate(table).metrics, evaluate(copies).metrics
    apart = evaluate(copies.drop(columns="patient")).metrics
    width = {id(m): m["roc_auc_high"] - m["roc_auc_low"] for m in (alone, together, apart)}
    assert width[id(together)] == pytest.approx(width[id(alone)], rel=0.15)
    assert width[id(apart)] == pytest.approx(width[id(alone)] / 2, rel=0.3)


def test_records_of_one_class_have_no_curves(table):
    found = evaluate(table[table["label"] == "N"])
    assert "roc_auc" not in found.metrics
    assert found.metrics["specificity"] > 0.8
    assert "curves" not in found.artifacts


# --- Models ---------------------------------------------------------------------------------------


def test_a_model_answers_in_place_of_a_table(table, scores):
    def model(inputs):
        answer = pd.DataFrame({"p_A": inputs["x"], "p_N": 1 - inputs["x"]})
        return answer.assign(prediction=np.where(answer["p_A"] >= 0.4, "A", "N"))

    data = pd.DataFrame({"x": scores[1], "record": table["record"], "label": table["label"]})
    found = evaluate(data, model=model)
    static = evaluate(table, config={"threshold": found.metrics["threshold"]})
    assert found.metrics == pytest.approx(static.metrics)
    assert found.artifacts["predictions"].content["record"][7] == "A00007"


def test_a_model_that_this_project_did_not_train(scores, tmp_path):
    is_af, p = scores

    class Stranger(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input: np.ndarray, params=None) -> np.ndarray:
            return np.concatenate([1 - model_input, model_input], axis=1)

    path = str(tmp_path / "model")
    signature = mlflow.models.infer_signature(p[:2, None], np.zeros((2, 2)))
    mlflow.pyfunc.save_model(
        path, python_model=Stranger(), signature=signature, pip_requirements=["mlflow"]
    )
    labels = np.where(is_af, "A", "N")
    found = evaluate(p[:, None], targets=labels, model=path, config={"classes": ["N", "A"]})
    assert found.metrics["roc_auc"] == pytest.approx(sk.roc_auc_score(is_af, p))


def test_metrics_of_a_logged_model_are_linked_to_it_once(table):
    client = MlflowClient()
    with mlflow.start_run() as run:
        model = client.create_logged_model(run.info.experiment_id, name="m")
        found = evaluate(table, model_id=model.model_id)
    assert len(client.get_metric_history(run.info.run_id, "f1")) == 1
    linked = {one.key: one.value for one in client.get_logged_model(model.model_id).metrics}
    assert linked == pytest.approx(found.metrics)


# --- Who is asked, and what goes wrong ------------------------------------------------------------


def test_what_cannot_be_evaluated_leaves_nothing_behind(table):
    client = MlflowClient()
    with mlflow.start_run() as run:
        with pytest.raises(PredictionsError, match=r"labels \['~'\]"):
            evaluate(table.assign(label="~"))
        with pytest.raises(PredictionsError, match="'postive'"):
            evaluate(table, config={"postive": "A"})
    assert client.get_run(run.info.run_id).data.metrics == {}
    assert client.list_artifacts(run.info.run_id) == []


def test_who_is_told_nothing_does_nothing(table, caplog):
    with pytest.raises(mlflow.MlflowException, match="could not be evaluated by any"):
        mlflow.models.evaluate(
            data=table, targets="label", model_type="classifier", evaluators="ecg"
        )
    assert "evaluator_config={'positive': 'A'}" in caplog.text
    assert not EcgEvaluator.can_evaluate(model_type="regressor", evaluator_config={})
