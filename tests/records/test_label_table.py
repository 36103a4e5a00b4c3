"""Groups of records by the other columns of a label file."""

from __future__ import annotations

import pytest

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records.label_table import read_groups


def test_other_columns_describe_groups(tmp_path):
    (tmp_path / "a.csv").write_text(
        "Record,label,patient,Age,sex\nA1,N,p1,61,F\nA2,A,p2,,M\nA3,N,p3, 40 ,\n"
    )
    assert read_groups([tmp_path / "a.csv"]) == {
        "Age": {"A1": "61", "A3": "40"},
        "sex": {"A1": "F", "A2": "M"},
    }


def test_a_file_without_a_header_has_nothing_to_say(tmp_path):
    (tmp_path / "a.csv").write_text("A1,N\nA2,A\n")
    assert read_groups([tmp_path / "a.csv"]) == {}


def test_several_files_are_read_as_one(tmp_path):
    (tmp_path / "a.csv").write_text("record,label,site\nA1,N,x\n")
    (tmp_path / "b.csv").write_text("site,record\ny,A2\n")
    found = read_groups([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert found == {"site": {"A1": "x", "A2": "y"}}


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"none\.csv"):
        read_groups([tmp_path / "none.csv"])
