from __future__ import annotations

import hashlib

import pytest

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records.labels import find_label_files, read_groups, read_labels
from ecg_mlflow.records.record import BadRecord

THREE = "a header such as record,label,patient allows more"


def read(folder, text):
    file = folder / "REFERENCE.csv"
    file.write_text(text)
    return read_labels(file)


def test_headerless_record_and_label(tmp_path):
    file = tmp_path / "REFERENCE.csv"
    file.write_bytes(b"\xef\xbb\xbfA1,N\r\n A2 , AF \n\nA3,~\nA3,~\n")
    labels = read_labels(file)
    assert labels.by_id == {"A1": "N", "A2": "AF", "A3": "~"}
    assert labels.patients == {}
    assert labels.problems == ()
    assert labels.paths == (file,)


def test_lines_that_cant_be_used_are_listed_with_file_and_line(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text('A1,N\nA2\nA3,N,O\nA4,\n,N\nA5,N\nA6,"N"\nA5,O\nA6,N\n')
    labels = read_labels(file)
    assert labels.by_id == {"A1": "N", "A6": "N"}
    malformed = "malformed line in the label file"
    assert labels.problems == (
        BadRecord("A2", f"{file}:2", f"{malformed}: 1 columns, not record,label"),
        BadRecord("A3", f"{file}:3", f"{malformed}: 3 columns, not record,label; {THREE}"),
        BadRecord("A4", f"{file}:4", f"{malformed}: an empty label"),
        BadRecord("", f"{file}:5", f"{malformed}: an empty record name"),
        BadRecord("A5", f"{file}:8", f"two labels: 'O' here, 'N' in {file}:6"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "record,label,patient\nA1,N,P1\nA2,AF,P2\nA3,~,P1\n",
        "\ufeff\n Record , LABEL,Patient\r\nA1,N, P1 \nA2,AF,P2\n\nA3,~,P1\n",
        "patient,age,record,sex,label\nP1,63,A1,f,N\nP2,,A2,m,AF\nP1,63,A3,f,~\n",
    ],
)
def test_a_header_names_the_columns(tmp_path, text):
    labels = read(tmp_path, text)
    assert labels.by_id == {"A1": "N", "A2": "AF", "A3": "~"}
    assert labels.patients == {"A1": "P1", "A2": "P2", "A3": "P1"}
    assert labels.problems == ()


def test_a_header_needs_no_patients(tmp_path):
    labels = read(tmp_path, "label,record,sex\nN,A1,f\n")
    assert (labels.by_id, labels.patients, labels.problems) == ({"A1": "N"}, {}, ())


def test_an_empty_cell_is_an_unknown_patient(tmp_path):
    labels = read(tmp_path, "record,label,patient\nA1,N,\nA2,N,P2\nA3,N, \n")
    assert labels.by_id == {"A1": "N", "A2": "N", "A3": "N"}
    assert labels.patients == {"A2": "P2"}
    assert labels.problems == ()


def test_lines_under_a_header_that_cant_be_used(tmp_path):
    labels = read(
        tmp_path,
        "label,patient,record\nN,P1,A1\nN,A2\n,P3,A3\nN,P4,\nN,P5,A5\nN,P6,A5\nN,,A6\nA,,A6\n",
    )
    file, malformed = tmp_path / "REFERENCE.csv", "malformed line in the label file"
    assert labels.by_id == {"A1": "N"}
    assert labels.patients == {"A1": "P1"}
    assert labels.problems == (
        BadRecord("", f"{file}:3", f"{malformed}: 2 columns, but the header has 3"),
        BadRecord("A3", f"{file}:4", f"{malformed}: an empty label"),
        BadRecord("", f"{file}:5", f"{malformed}: an empty record name"),
        BadRecord("A5", f"{file}:7", f"two patients: 'P6' here, 'P5' in {file}:6"),
        BadRecord("A6", f"{file}:9", f"two labels: 'A' here, 'N' in {file}:8"),
    )


def test_a_record_that_stands_twice_has_the_patient_that_one_line_names(tmp_path):
    labels = read(tmp_path, "record,label,patient\nA1,N,\nA1,N,P1\nA1,N,\nA1,N,P1\nA1,N,P2\n")
    [problem] = labels.problems
    file = tmp_path / "REFERENCE.csv"
    assert problem.reason == f"two patients: 'P2' here, 'P1' in {file}:3"
    labels = read(tmp_path, "record,label,patient\nA1,N,\nA1,N,P1\nA1,N,\n")
    assert (labels.patients, labels.problems) == ({"A1": "P1"}, ())


def test_each_file_has_its_own_header_or_none(tmp_path):
    texts = {"a.csv": "A1,N\n", "b.csv": "patient,record,label\nP1,B1,A\n", "c.csv": ""}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    labels = read_labels([tmp_path / name for name in texts])
    assert labels.by_id == {"A1": "N", "B1": "A"}
    assert (labels.patients, labels.problems) == ({"B1": "P1"}, ())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("record,label,label", "REFERENCE.csv:1: .* column 'label' 2 times: record,label,label"),
        ("patient,record,label,Patient", "column 'patient' 2 times"),
        ("record,label,patient_id", "column 'patient_id', but patients are read .* 'patient' only"),
        ("Subject,record,label", "column 'Subject', but .*Rename it"),
    ],
)
def test_a_header_that_can_be_taken_in_two_ways(tmp_path, header, message):
    with pytest.raises(DataNotFoundError, match=message):
        read(tmp_path, header + "\n")


def test_columns_about_patients_are_passed_over(tmp_path):
    assert read(tmp_path, "record,label,patient_age\nA1,N,63\n").by_id == {"A1": "N"}
    labels = read(tmp_path, "record,label,patient,subject\nA1,N,P1,S1\n")
    assert labels.patients == {"A1": "P1"}


def test_several_files_are_read_as_one(tmp_path):
    for name, text in [("a.csv", "A1,N\nA2,N\n"), ("b.csv", "A1,O\nB1,A\n")]:
        (tmp_path / name).write_text(text)
    labels = read_labels([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert labels.by_id == {"A2": "N", "B1": "A"}
    [problem] = labels.problems
    assert (problem.path, problem.kind) == (f"{tmp_path / 'b.csv'}:1", "two labels")


def test_digest_follows_the_bytes(tmp_path):
    digests = set()
    for text in ("A1,N\n", "A1,O\n", "A1,N\r\n"):
        (tmp_path / "a.csv").write_text(text)
        digests.add(read_labels(tmp_path / "a.csv").sha256)
    assert len(digests) == 3
    assert all(len(digest) == hashlib.sha256().digest_size * 2 for digest in digests)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "can't read the label file .*: No such file"), (b"A1,\xff\n", "isn't UTF-8 text")],
)
def test_unreadable_file(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataNotFoundError, match=message):
        read_labels(tmp_path / "a.csv")


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_reference_csv_goes_before_other_versions(tmp_path):
    touch(tmp_path, "REFERENCE.csv", "REFERENCE-v3.csv")
    assert find_label_files([tmp_path], tmp_path) == (tmp_path / "REFERENCE.csv",)


def test_the_only_other_version_serves(tmp_path):
    touch(tmp_path, "REFERENCE-v3.csv")
    assert find_label_files([tmp_path], tmp_path) == (tmp_path / "REFERENCE-v3.csv",)


def test_several_versions_are_a_choice_for_the_user(tmp_path):
    touch(tmp_path, "REFERENCE-v2.csv", "REFERENCE-v3.csv")
    with pytest.raises(DataNotFoundError, match=r"REFERENCE-v2\.csv, REFERENCE-v3\.csv.*labels="):
        find_label_files([tmp_path], tmp_path)


def test_each_folder_has_its_own_or_that_of_the_folder_asked_for(tmp_path):
    own = touch(tmp_path / "a", "REFERENCE.csv")
    others = [touch(tmp_path / "b"), touch(tmp_path / "c")]
    touch(tmp_path, "REFERENCE.csv")
    expected = (own / "REFERENCE.csv", tmp_path / "REFERENCE.csv")
    assert find_label_files([own, *others], tmp_path) == expected


def test_no_label_file(tmp_path):
    folder = touch(tmp_path / "a")
    with pytest.raises(DataNotFoundError, match=f"{folder} and {tmp_path}.*labels=<file>"):
        find_label_files([folder], tmp_path)


def test_other_columns_describe_groups(tmp_path):
    (tmp_path / "a.csv").write_text(
        "Record,label,patient,Age,sex\nA1,N,p1,61,F\nA2,A,p2,,M\nA3,N,p3, 40 ,\n"
    )
    assert read_groups([tmp_path / "a.csv"]) == {
        "Age": {"A1": "61", "A3": "40"},
        "sex": {"A1": "F", "A2": "M"},
    }


def test_a_file_without_a_header_has_no_groups(tmp_path):
    (tmp_path / "a.csv").write_text("A1,N\nA2,A\n")
    assert read_groups([tmp_path / "a.csv"]) == {}


def test_groups_of_several_files_are_read_as_one(tmp_path):
    (tmp_path / "a.csv").write_text("record,label,site\nA1,N,x\n")
    (tmp_path / "b.csv").write_text("site,record\ny,A2\n")
    found = read_groups([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert found == {"site": {"A1": "x", "A2": "y"}}


def test_a_missing_file_of_groups_is_named(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"none\.csv"):
        read_groups([tmp_path / "none.csv"])
