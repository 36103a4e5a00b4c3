"""A study of records that may be of several classes, from labels to a served answer."""

from __future__ import annotations

import json
import re

import mlflow
import numpy as np
import pandas as pd
import pytest
from gallery import LABELS, SEVERAL
from sklearn.metrics import f1_score
from stored_runs import read_table
from studies import grid_text

from ecg_mlflow.cli import main

# Of NumPy 2, in Keras's way of saving a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLASSES = ("AF", "RBBB")


@pytest.fixture(scope="module")
def work(exhibit):
    with exhibit("several") as place:
        place.parent, place.children = place.runs("several")
        yield place


def test_each_class_and_their_mean_are_scored(work):
    best = max(run.data.metrics["best_validation_f1_macro"] for run in work.children)
    assert best > 0.9
    for run in work.children:
        assert run.info.status == "FINISHED"
        assert run.data.params["multilabel"] == "True"
        assert run.data.params["loss_function"] == "Loss('sigmoid_cross_entropy')"
        table = read_table(work.client, run.info.run_id, "predictions/best.csv")
        truth, said = (
            [[name in text.split(",") for name in CLASSES] for text in table[column]]
            for column in ("label", "prediction")
        )
        each = f1_score(np.array(truth), np.array(said), average=None)
        metrics = run.data.metrics
        assert [metrics["test_f1_AF"], metrics["test_f1_RBBB"]] == pytest.approx(list(each))
        assert metrics["test_f1_macro"] == pytest.approx(each.mean())
        assert "plots/confusion_matrix.png" in work.artifacts(run)


def test_the_leaderboard_ranks_by_the_mean_over_the_classes(work):
    header = work.text(work.parent, "leaderboard.csv").splitlines()[0].split(",")
    assert "validation_f1_macro" in header
    assert "several.py" in " ".join(work.artifacts(work.parent))
    note = work.parent.data.tags["mlflow.note.content"]
    assert "validation_f1_macro" in note


def test_data_sets_count_each_class(work):
    (train,) = (
        one.dataset
        for one in work.children[0].inputs.dataset_inputs
        if one.tags[0].value == "train"
    )
    counts = json.loads(train.profile)["class_counts"]
    assert counts == {"AF": 12, "RBBB": 18}


def test_the_comparison_is_of_the_mean_too(work, capsys):
    assert main(["compare", "several", "--resamples", "200"]) == 0
    told = capsys.readouterr().out
    assert "f1_macro" in told
    assert main(["compare", "several", "--resamples", "200", "--metric", "f1_RBBB"]) == 0
    assert "f1_RBBB" in capsys.readouterr().out


def test_errors_are_drawn_with_all_their_labels(work, capsys, tmp_path):
    assert main(["errors", "several", "--output", str(tmp_path), "--resamples", "200"]) == 0
    table = pd.read_csv(tmp_path / "records.csv", keep_default_na=False)
    assert set(table["label"]) == {"AF,RBBB", "AF", "RBBB", ""}
    assert "test records are wrong" in capsys.readouterr().out


def test_the_promoted_model_answers_with_several_labels(work, capsys, tmp_path):
    assert main(["promote", "several", "--name", "several", "--resamples", "200"]) == 0
    assert "is the new champion" in capsys.readouterr().out
    model = mlflow.pyfunc.load_model("models:/several@champion")
    table = model.predict(
        pd.DataFrame({"record": [str(work.records / "R00"), str(work.records / "R05")]})
    )
    assert table["prediction"].tolist() == ["AF,RBBB", ""]
    assert (table[["p_AF", "p_RBBB"]].iloc[0] > 0.5).all()
    assert (table[["p_AF", "p_RBBB"]].iloc[1] < 0.5).all()
    out = tmp_path / "answers.csv"
    some = [str(work.records / f"R{i:02}.hea") for i in range(6)]
    assert main(["predict", "models:/several@champion", *some, "--output", str(out)]) == 0
    said = pd.read_csv(out, keep_default_na=False)["prediction"].tolist()
    expected = [label.replace(",other", "").replace("other", "") for label in LABELS]
    assert sum(a == b for a, b in zip(said, expected, strict=True)) >= 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"multilabel": ""},
            "'AF,RBBB', where each record is of one class",
        ),
        ({"loss": "Loss('focal')"}, "the loss is 'sigmoid_cross_entropy' or 'sigmoid_focal'"),
        ({"classes": "['AF', 'RBBB', 'PVC']"}, "no record has the label 'PVC'"),
        (
            {"train": "Pipeline().random_split_signals(128, 2)"},
            "a label that no class covers.*'other'; classes are .*select_labels",
        ),
        ({"split": "Split(0.5, stratified=True)"}, "divide them at random"),
        ({"classes": "['AF,RBBB']"}, "a class has a name without ','"),
    ],
)
def test_what_does_not_go_together_is_found_before_training(work, capsys, changes, message):
    grid = work.write_grid(grid_text(**SEVERAL | changes), "wrong.py")
    assert work.run(grid, "--workers", "0", experiment="wrong") == 1
    assert re.search(message, " ".join(capsys.readouterr().err.split()), re.DOTALL)
    assert work.runs("wrong")[1] == []
