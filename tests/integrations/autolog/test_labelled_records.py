from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.labelled_records import LabelledRecords

CLASSES = ["A", "N", "O"]


def known(labels, records=None, classes=CLASSES, positive=None):
    return LabelledRecords.of(labels, records, classes, positive, "test=")


@pytest.mark.parametrize(
    "labels",
    [
        ["N", "A", "O"],
        np.array(["N", "A", "O"], dtype=object),
        [1, 0, 2],
        np.array([[1], [0], [2]]),
        np.array([1.0, 0.0, 2.0], np.float32),
        [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    ],
    ids=["names", "objects", "indices", "column", "floats", "one-hot"],
)
def test_labels_in_every_form(labels):
    records = known(labels)
    assert records.targets.argmax(axis=1).tolist() == [1, 0, 2]
    assert records.names == ("0", "1", "2")
    assert records.positive == "A"


def test_several_labels_of_a_record():
    records = known(["A,O", "", "N"])
    assert records.targets.tolist() == [[True, False, True], [False] * 3, [False, True, False]]


def test_a_record_is_scored_by_the_mean_over_its_windows_wherever_they_stand():
    records = known(["N", "A", "N", "A"], ["R9", "R1", "R9", "R2"])
    assert records.names == ("R9", "R1", "R2")
    probabilities = np.array([[0.6, 0.4, 0], [0.2, 0.8, 0], [0.0, 1.0, 0], [1.0, 0.0, 0]])
    evaluation = records.evaluation(probabilities, multilabel=False)
    assert evaluation.counts.tolist() == [2, 1, 1]
    np.testing.assert_allclose(evaluation.probabilities[0], [0.3, 0.7, 0])
    assert evaluation.targets.tolist() == [1, 0, 0]
    # R9 right, R1 missed, R2 found: one of two, and none invented.
    assert evaluation.metrics["f1"] == pytest.approx(2 / 3)
    assert evaluation.predicted_labels == ["N", "N", "A"]


@pytest.mark.parametrize(
    ("labels", "records", "message"),
    [
        (["N", "X", "Y"], None, r"labels X, Y; allowed are, .* a name of \['A', 'N', 'O'\]"),
        ([0, 1, 3], None, "labels 3; allowed are, .* an index from 0 to 2"),
        ([[0, 1], [1, 0]], None, r"labels of shape \(2, 2\).* a row of 3 numbers"),
        ([[0, 2, 0]], None, "labels 2; allowed are"),
        (np.array([1j, 0j]), None, "type complex128"),
        (["N", "A"], ["R1"], "2 labels came with 1 names of records"),
        ([], [], "at least one window"),
        (["N", "A", "N"], ["R1", "R1", "R2"], "those of R1 have several"),
    ],
)
def test_what_does_not_fit_is_said(labels, records, message):
    with pytest.raises(AutologError, match=message):
        known(labels, records)


@pytest.mark.parametrize(
    ("classes", "positive", "message"),
    [
        (None, None, "needs classes="),
        ("AN", None, "needs classes="),
        (["A"], None, "two or more outputs"),
        (["A", "A"], None, "each once"),
        (["A", "N"], "O", "positive='O' is not among"),
    ],
)
def test_classes_are_checked(classes, positive, message):
    with pytest.raises(AutologError, match=message):
        known(["A", "N"], None, classes, positive)
