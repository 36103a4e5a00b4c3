"""The form in which MLflow keeps where recordings come from."""

from __future__ import annotations

import json
import random

import pytest

from ecg_mlflow.tracking.recordings_source import (
    SOURCE_LIMIT,
    RecordingsSource,
    read_rows,
    write_rows,
)

#: As many as the training set of the challenge of 2017.
MANY = tuple(sorted(random.Random(0).sample(range(8528), 6822)))


@pytest.mark.parametrize(
    ("rows", "text"),
    [((), ""), ((4,), "4"), ((0, 1, 2, 3), "0-3"), ((0, 1, 2, 5, 8, 9), "0-2,5,8-9")],
)
def test_rows(rows, text):
    assert write_rows(rows) == text
    assert read_rows(text) == rows
    for other in ("a", "1,,2", "1-x"):
        with pytest.raises(ValueError):
            read_rows(other)


@pytest.mark.parametrize(
    "source",
    [
        RecordingsSource("demo:200:0"),
        RecordingsSource("/data/records", "/data/labels.csv", "a" * 64),
        RecordingsSource("/data/records/*.hea", None, "a" * 64, (0, 1, 2, 7)),
        RecordingsSource("cinc2017", None, "a" * 64, ()),
        RecordingsSource("/data", None, "a" * 64, leads="II,V5", gaps="interpolate:0.5"),
        RecordingsSource("/data/training2017", None, "a" * 64, MANY),
    ],
)
def test_it_is_read_as_it_was_written(source):
    text = source.to_json()
    assert len(text) < SOURCE_LIMIT
    assert RecordingsSource.from_dict(json.loads(text)) == source


def test_of_rows_that_do_not_fit_the_number_is_kept():
    text = RecordingsSource("/data", None, "a" * 64, tuple(range(0, 100_000, 2))).to_json()
    assert len(text) < SOURCE_LIMIT
    read = RecordingsSource.from_dict(json.loads(text))
    assert (read.rows, read.n_unkept) == (None, 50_000)
    assert read.to_json() == text
