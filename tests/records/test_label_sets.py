"""Several labels of one record, spelled as one."""

from __future__ import annotations

import pytest

from ecg_mlflow.records.label_sets import join_labels, split_label


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("AF", ("AF",)),
        ("AF,RBBB", ("AF", "RBBB")),
        ("164889003, 59118001", ("164889003", "59118001")),
        ("", ("",)),
    ],
)
def test_labels_are_read(text, labels):
    assert split_label(text) == labels


def test_labels_have_one_spelling():
    assert join_labels(["RBBB", "AF", "RBBB"]) == join_labels(["AF", "", "RBBB"]) == "AF,RBBB"
    assert join_labels([""]) == join_labels([]) == ""
