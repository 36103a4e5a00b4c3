"""Tables of predictions: what is read, predicted and refused; independent observations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated import equal_models

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.bootstrap import paired_weights
from ecg_mlflow.stats.predictions import Predictions, degrees_of_freedom, shared_groups
from ecg_mlflow.stats.scores import predict_classes

TABLE = {
    "record": ["r1", "r2", "r3", "r4"],
    "patient": ["P", "", "P", ""],
    "label": ["AF,RBBB", "", "RBBB", "AF"],
    "prediction": ["ignored"] * 4,
    "p_AF": [0.9, 0.1, 0.3, 0.4],
    "p_RBBB": [0.5, 0.2, 0.6, 0.1],
}


def test_a_table_of_records_of_several_classes():
    found = Predictions.from_columns(TABLE, "RBBB", multilabel=True)
    assert found.targets.tolist() == [[True, True], [False, False], [False, True], [True, False]]
    assert found.labels == TABLE["label"]
    assert found.predicted_labels == ["AF,RBBB", "", "RBBB", ""]
    assert found.is_correct.tolist() == [True, True, True, False]
    assert found.is_positive.tolist() == [True, False, True, False]
    # Each record without a patient is one of its own.
    assert found.groups.tolist() == [0, 1, 0, 2]
    assert found.sorted().records == found.records
    again = {**TABLE, "label": ["AF,RBBB", float("nan"), "RBBB", "AF"]}  # as pandas reads it
    assert Predictions.from_columns(again, "RBBB", multilabel=True).labels == TABLE["label"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, "there is no label among"),
        ({"label": ["AF", "AF", "PVC", "AF"]}, r"labels \['PVC'\] are none of the classes"),
        ({"p_AF": [0.9, np.nan, 0.3, 0.4]}, "record r2 has a probability that is NaN or infinite"),
    ],
)
def test_tables_that_are_refused(change, message):
    given = {**TABLE, "label": ["AF"] * 4, **change}
    with pytest.raises(PredictionsError, match=message):
        Predictions.from_columns({k: v for k, v in given.items() if v is not None}, "AF")
    with pytest.raises(PredictionsError, match="'X' is none of the classes"):
        Predictions.from_columns({**TABLE, "label": ["AF"] * 4}, "X")


@pytest.mark.parametrize(
    ("threshold", "multilabel", "expected"),
    [
        (None, False, [0, 1, 1]),
        (0.35, False, [0, 0, 1]),  # from 0.35 on it is the first class
        (0.7, False, [2, 1, 1]),  # else the most probable of the others
        (None, True, [[1, 0, 0], [0, 0, 0], [0, 1, 0]]),
        (0.35, True, [[1, 0, 0], [1, 0, 0], [0, 1, 0]]),
    ],
)
def test_predicted_classes(threshold, multilabel, expected):
    probabilities = np.array([[0.6, 0.1, 0.3], [0.35, 0.45, 0.2], [0.2, 0.5, 0.3]])
    found = predict_classes(probabilities, 0, threshold, multilabel=multilabel)
    assert found.tolist() == expected


def test_only_predictions_of_the_same_records_are_paired():
    one, other = equal_models(np.random.default_rng(0), 2, 20)
    assert paired_weights([one, other], 5, 0).shape == (6, 20)
    for changed in (one.take(np.arange(19)), replace(other, targets=1 - other.targets)):
        with pytest.raises(PredictionsError, match="of the same records with the same labels"):
            paired_weights([one, changed], 5, 0)


def test_the_rarer_class_says_how_well_standard_errors_are_known():
    (one,) = equal_models(np.random.default_rng(0), 1, 40)
    few = replace(one, targets=(np.arange(40) < 6).astype(np.int64))
    many = replace(one, targets=(np.arange(40) < 33).astype(np.int64))
    assert degrees_of_freedom([few]) == 5
    assert degrees_of_freedom([many]) == 6
    assert degrees_of_freedom([replace(few, groups=np.arange(40) // 3)]) == 1
    assert degrees_of_freedom([replace(one, targets=np.zeros(40, np.int64))]) == 1


def test_patients_are_those_of_the_first_model_that_knows_them():
    one, other = equal_models(np.random.default_rng(0), 2, 40)
    assert shared_groups([one, other]) is None
    groups = np.arange(40) // 2
    np.testing.assert_array_equal(shared_groups([one, replace(other, groups=groups)]), groups)
