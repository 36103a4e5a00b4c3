"""Tables as people have them, and what can't be evaluated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.integrations.evaluator_table import (
    EvaluatorConfig,
    predicted_table,
    read_predictions,
)

LABELS = ["A", "N", "O", "N"]
TABLE = pd.DataFrame(
    {
        "record": ["R1", "R2", "R3", "R4"],
        "p_A": [0.7, 0.2, 0.3, 0.4],
        "p_N": [0.2, 0.7, 0.3, 0.35],
        "p_O": [0.1, 0.1, 0.4, 0.25],
    }
)
BINARY = ["A", "N", "N", "A"]


def read(table=TABLE, labels=LABELS, predicted=None, **config):
    return read_predictions(table, labels, predicted, EvaluatorConfig.read(config))


def test_columns_by_class():
    found = read(positive="A")
    assert found.records == ("R1", "R2", "R3", "R4")
    assert found.classes == ("A", "N", "O")
    assert found.targets.tolist() == [0, 1, 2, 1]
    assert found.probabilities.tolist() == TABLE[["p_A", "p_N", "p_O"]].to_numpy().tolist()
    assert (found.positive, found.threshold, found.groups) == ("A", None, None)
    assert found.predicted.tolist() == [0, 1, 2, 0]


def test_columns_with_names_of_their_own():
    table = TABLE.rename(columns={"record": "id", "p_A": "AF", "p_N": "normal", "p_O": "other"})
    table["subject"] = ["x", None, "x", np.nan]
    columns = {"N": "normal", "A": "AF", "O": "other"}
    named = {"probabilities": columns, "record": "id", "patient": "subject"}
    found = read(table, positive="N", threshold=0.34, **named)
    assert found.classes == ("N", "A", "O")
    assert found.records[0] == "R1"
    assert found.groups.tolist() == [0, 1, 0, 2], "who is nobody's stands alone"
    assert found.predicted.tolist() == [1, 0, 2, 0]


def test_rows_without_names_are_numbered_and_patients_found():
    table = TABLE.drop(columns="record").assign(patient=[7, 7.0, 8, 9])
    found = read(table, positive="A")
    assert found.records == ("row 0", "row 1", "row 2", "row 3")
    assert found.groups.tolist() == [0, 0, 1, 2]


P = [0.9, 0.2, 0.4, 0.6]


@pytest.mark.parametrize(
    ("table", "labels", "predicted", "config"),
    [
        ({"p_A": P}, BINARY, None, {}),
        ({"score": P}, BINARY, None, {"probabilities": {"A": "score"}}),
        ({"score": P}, BINARY, None, {"probabilities": "score", "positive": "A"}),
        ({"p": [0.1, 0.8, 0.6, 0.4]}, BINARY, None, {"probabilities": {"N": "p"}, "positive": "A"}),
        # Labels without names.
        ({"score": P}, [1, 0, 0, 1], None, {"probabilities": "score"}),
        ({"score": P}, [1.0, 0.0, 0.0, 1.0], None, {"probabilities": "score"}),
        ({"score": P}, np.array([True, False, False, True]), None, {"probabilities": "score"}),
        # Predictions that are probabilities.
        ({"record": [1, 2, 3, 4]}, BINARY, np.array(P), {"positive": "A"}),
    ],
)
def test_two_classes_and_one_column(table, labels, predicted, config):
    found = read(pd.DataFrame(table), labels, predicted, **config)
    assert found.positive in ("A", "1", "True")
    assert len(found.classes) == 2
    assert found.scores == pytest.approx(P)
    assert found.is_positive.tolist() == [True, False, False, True]


def test_one_class_alone():
    assert read(pd.DataFrame({"p_A": [0.9, 0.4]}), ["A", "A"]).classes == ("A", "not A")


# --- Labels that were predicted -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "threshold"),
    [
        (["A", "N", "O", "A"], None),
        (["A", "N", "O", "N"], 0.7),
        (["A", "N", "A", "A"], 0.3),
        (["N", "N", "O", "N"], np.nextafter(1, 2)),
    ],
)
def test_predicted_labels_tell_the_threshold(predicted, threshold):
    table = TABLE.assign(p_N=[0.25, 0.7, 0.3, 0.35], p_O=[0.05, 0.1, 0.4, 0.25])
    found = read(table, predicted=predicted, positive="A")
    assert found.threshold == threshold
    assert [found.classes[i] for i in found.predicted] == predicted


def test_a_threshold_that_was_asked_for_counts_more():
    found = read(predicted=["A", "N", "O", "A"], positive="A", threshold=0.25)
    assert found.predicted.tolist() == [0, 1, 0, 0]


def test_predicted_labels_that_follow_from_nothing():
    with pytest.raises(PredictionsError, match=r"1 of 4 records follow neither.*: R1"):
        read(predicted=["N", "N", "A", "A"], positive="A")


# --- What can't be evaluated ----------------------------------------------------------------------


def changed(column, row, value):
    table = TABLE.copy()
    table[column] = table[column].astype(object)
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("table", "labels", "config", "message"),
    [
        (TABLE, ["A", "N", "~", "N"], {}, r"labels \['~'\] are none of the classes"),
        (TABLE, ["A", None, "O", np.nan], {}, "2 of 4 .* no label: R2, R4"),
        (TABLE, ["A", "N"], {}, "4 records need as many labels"),
        (TABLE, LABELS, {"positive": None}, "which class is positive.*'positive': 'A'"),
        (TABLE, LABELS, {"positive": "AF"}, "positive='AF' is none of the classes"),
        (TABLE, LABELS, {"record": "id"}, "no column 'id'"),
        (TABLE, LABELS, {"patient": "id"}, "no column 'id'; there are .*'p_A'"),
        (TABLE, LABELS, {"probabilities": {"A": "a", "N": "p_N"}}, "no column 'a'"),
        (changed("p_N", 2, np.nan), LABELS, {}, "infinite, in 1 of 4 records: R3"),
        (changed("p_N", 2, None), LABELS, {}, "infinite, in 1 of 4 records: R3"),
        (changed("p_N", 2, "high"), LABELS, {}, "'p_N'.* has no probabilities"),
        (changed("p_N", 0, -2.0), LABELS, {}, "are these logits"),
        (changed("p_N", 0, 20), LABELS, {}, "above 1 .are these logits, or percent"),
        (changed("p_N", 0, 0.3), LABELS, {}, "add up to 1, in 1 of 4 records: R1"),
        (changed("record", 1, "R1"), LABELS, {}, "R1 are there more than once"),
        (TABLE[["record"]], LABELS, {}, "there are no probabilities"),
        (TABLE[["p_A"]], LABELS, {}, r"one column .* labels \['N', 'O'\] beside 'A'"),
        (TABLE[["p_A"]], BINARY, {"positive": "X"}, "positive='X' is none of the classes"),
    ],
)
def test_tables_that_cannot_be_evaluated(table, labels, config, message):
    with pytest.raises(PredictionsError, match=message):
        read(table, labels, **{"positive": "A"} | config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"postive": "A"}, "'postive'; the ecg evaluator knows positive, "),
        ({"threshold": 40}, "threshold=40, level=0.95, .* lie between 0 and 1"),
        ({"level": 95}, "level=95"),
        ({"resamples": 0}, "resamples=0"),
    ],
)
def test_configurations_that_cannot_be(config, message):
    with pytest.raises(PredictionsError, match=message):
        EvaluatorConfig.read(config)


# --- Outputs of models ----------------------------------------------------------------------------


def test_outputs_of_models():
    frame = pd.DataFrame({"p_A": [0.5]}, index=["x"])
    assert predicted_table(frame, EvaluatorConfig()).index.tolist() == [0]
    array = np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32)
    named = predicted_table(array, EvaluatorConfig(classes=["A", "N"]))
    assert named.to_dict("list") == {"p_A": [0.25, 0.5], "p_N": [0.75, 0.5]}
    one = predicted_table(array[:, 0], EvaluatorConfig(positive="A"))
    assert list(one.columns) == ["p_A"]


@pytest.mark.parametrize(
    "output", [np.zeros((4, 2)), np.zeros((4, 3, 2)), np.array(["A", "N"]), np.array([0, 1])]
)
def test_outputs_that_say_too_little(output):
    with pytest.raises(PredictionsError, match="name the classes of its columns"):
        predicted_table(output, EvaluatorConfig(positive="A", classes=["A", "N", "O"]))
